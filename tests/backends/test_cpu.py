"""The C++ kernels behind the ops, asked for by name, against the float64 reference; and their weights' cache."""

from __future__ import annotations

import gc
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from scipy.signal import medfilt
from torch import Tensor

from mtfa_fast import _core, ops
from mtfa_fast.backends.cpu import bigru as cpu_bigru
from mtfa_fast.backends.cpu import residual_block as cpu_block

LAST, CONTIGUOUS = torch.channels_last, torch.contiguous_format
HAS_BF16 = _core.chosen_isa() in ("avx512bf16", "amx")
DTYPES = [torch.float32, *([torch.bfloat16] if HAS_BF16 else [])]
# (batch, channels, T, D)
SIZES = [(1, 64, 40, 9), (3, 16, 9, 7), (1, 16, 1, 1), (2, 16, 7, 40), (1, 16, 2, 1), (0, 16, 3, 5), (1, 64, 33, 128)]
BLOCK_SIZES = [*SIZES[:-1], (2, 10, 9, 7), (3, 10, 40, 1), (1, 33, 1, 9), (1, 16, 97, 40)]


@pytest.fixture(autouse=True)
def poisoned_memory() -> Iterator[None]:
    """New memory is NaN: whatever a kernel leaves out shows."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    assert torch.empty(9).isnan().all()
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def random(
    *shape: int, dtype: torch.dtype = torch.float32, seed: int = 0, layout: torch.memory_format = LAST
) -> Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)
    return x.contiguous(memory_format=layout) if len(shape) == 4 else x


def block_arguments(
    size: tuple[int, ...], dtype: torch.dtype = torch.float32, layout: torch.memory_format = LAST
) -> list[Tensor]:
    channels = size[1]
    scale = 1 / (3 * channels**0.5)
    weights = [(random(channels, channels, 3, 3, seed=seed, layout=layout) * scale).to(dtype) for seed in (5, 6)]
    biases = [(random(channels, seed=seed) * 0.1).to(dtype) for seed in (7, 8)]
    return [random(*size, dtype=dtype, layout=layout), weights[0], biases[0], weights[1], biases[1]]


def gru_weights(inputs: int, hidden: int, layers: int) -> list[Tensor]:
    torch.manual_seed(hidden)
    gru = torch.nn.GRU(inputs, hidden, layers, bidirectional=True, batch_first=True)
    return [w.detach() for w in gru._flat_weights]


def half(size: tuple[int, ...]) -> tuple[int, ...]:
    return *size[:2], (size[2] + 1) // 2, (size[3] + 1) // 2


def error(got: Tensor, exact: Tensor) -> float:
    assert got.shape == exact.shape
    assert not got.isnan().any()
    return float((got.double() - exact).square().mean().sqrt()) if got.numel() else 0.0


def hold_to_stock(op: Callable[..., Tensor], *args: Tensor) -> Tensor:
    """The forced backend's error against float64 is at most twice stock torch's own in that dtype."""
    exact = op(*(a.double() for a in args), backend="reference")
    got = op(*args, backend="cpu")
    assert got.dtype == args[0].dtype
    assert error(got, exact) <= 2 * error(op(*args, backend="reference"), exact)
    return got


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_maps(size: tuple[int, ...], dtype: torch.dtype) -> None:
    low, skip, features = (random(*s, dtype=dtype, seed=i) for i, s in enumerate([half(size), size, size]))
    added = ops.upsample_add(low, skip, backend="cpu")
    assert torch.equal(added, ops.upsample_add(low, skip, backend="reference"))  # one rounding: no room to differ
    results = [added, hold_to_stock(ops.attention_gate, skip, features)]
    results.append(hold_to_stock(ops.upsample_add_gate, low, skip, features))
    assert all(r.is_contiguous(memory_format=LAST) for r in results)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SIZES)
def test_gradients_of_maps(size: tuple[int, ...], dtype: torch.dtype) -> None:
    maps = [random(*s, dtype=dtype, seed=i) for i, s in enumerate([size, half(size), size, size])]

    def gradients(backend: str, dtype: torch.dtype) -> list[Tensor]:
        grad, low, skip, features = (m.to(dtype) for m in maps)
        ours = torch.ops.mtfa_fast
        found = [*ours.upsample_add_gate_backward(grad, low, skip, features, backend)]
        return [
            *found,
            *ours.attention_gate_backward(grad, skip, features, backend),
            ours.upsample_add_backward(grad, backend),
        ]

    exact, stock, got = gradients("reference", torch.float64), gradients("reference", dtype), gradients("cpu", dtype)
    for g, s, e in zip(got, stock, exact, strict=True):
        assert g.dtype == dtype and g.is_contiguous(memory_format=LAST)
        assert error(g, e) <= 2 * error(s, e) + (1e-7 if g.numel() < 100 else 0)


@pytest.mark.parametrize("size", [(1, 1, 1, 1), (2, 10, 9, 7), (1, 3, 400, 40)])
def test_attention_gate_takes_any_layout_and_size(size: tuple[int, ...]) -> None:
    for layout in (LAST, CONTIGUOUS):
        logits, features, grad = (random(*size, seed=seed, layout=layout) for seed in range(3))
        hold_to_stock(ops.attention_gate, logits, features)
        results = []
        for backend, dtype in (("reference", torch.float64), ("reference", torch.float32), ("cpu", torch.float32)):
            args = (x.to(dtype) for x in (grad, logits, features))
            results.append(torch.ops.mtfa_fast.attention_gate_backward(*args, backend))
        for exact, stock, got in zip(*results, strict=True):
            assert error(got, exact) <= 2 * error(stock, exact) + (1e-7 if got.numel() < 100 else 0)
            assert got.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("size", BLOCK_SIZES)
def test_residual_block(size: tuple[int, ...]) -> None:
    results = []
    for layout in (LAST, CONTIGUOUS):
        results.append(hold_to_stock(ops.residual_block, *block_arguments(size, layout=layout)))
        assert results[-1].is_contiguous(memory_format=layout)
    assert torch.equal(*results)


@pytest.mark.skipif(not HAS_BF16, reason=f"no bf16 products with {_core.chosen_isa()}")
@pytest.mark.parametrize("channels", [64, 10])
def test_residual_block_bf16(channels: int) -> None:
    hold_to_stock(ops.residual_block, *block_arguments((2, channels, 41, 40), torch.bfloat16))


GRUS = [(1, 1, 1, 1, 1), (3, 9, 10, 7, 2), (1, 40, 5, 65, 3), (2, 65, 33, 64, 2), (0, 7, 4, 16, 2), (5, 130, 64, 16, 1)]


@pytest.mark.parametrize(("batch", "steps", "inputs", "hidden", "layers"), GRUS)
def test_bigru(batch: int, steps: int, inputs: int, hidden: int, layers: int) -> None:
    x, weights = random(batch, steps, inputs), gru_weights(inputs, hidden, layers)
    exact = ops.bigru(x.double(), [w.double() for w in weights], backend="reference")
    stock = ops.bigru(x, weights, backend="reference")
    got = ops.bigru(x, weights, backend="cpu")
    for g, s, e in zip(got, stock, exact, strict=True):
        assert g.is_contiguous()
        assert error(g, e) <= 2 * error(s, e) + (1e-7 if g.numel() < 10 else 0)  # two numbers are no statistic


@pytest.mark.parametrize(("batch", "steps", "inputs", "hidden", "layers"), [*GRUS, (50, 20, 8, 65, 1)])
def test_bigru_gradients(batch: int, steps: int, inputs: int, hidden: int, layers: int) -> None:
    x, weights = random(batch, steps, inputs), gru_weights(inputs, hidden, layers)
    cotangents = [random(batch, steps, 2 * hidden, seed=3), random(2 * layers, batch, hidden, seed=4)]

    def gradients(backend: str, dtype: torch.dtype) -> list[Tensor]:
        torch.set_num_threads(2 if backend == "cpu" else 1)  # the reference's many small steps only wait for a second
        leaves = [t.to(dtype, copy=True).requires_grad_() for t in (x, *weights)]
        outputs = ops.bigru(leaves[0], leaves[1:], backend=backend)
        return list(torch.autograd.grad(outputs, leaves, [c.to(dtype) for c in cotangents]))

    exact, stock = gradients("reference", torch.float64), gradients("reference", torch.float32)
    for g, s, e in zip(gradients("cpu", torch.float32), stock, exact, strict=True):
        size = float(e.abs().max()) if e.numel() else 0.0
        assert error(g, e) <= 2 * error(s, e) + 1e-7 * size


def test_gru_recurrences_for_training_do_not_depend_on_threads_or_batch() -> None:
    gi, w_hh, b_hn, d_out = random(31, 9, 2, 60), random(2, 60, 20) / 9, random(2, 20), random(31, 9, 40)

    def both(clips: slice, count: int) -> list[Tensor]:
        torch.set_num_threads(count)
        out, gates = cpu_bigru.bigru_recurrence(gi[clips], w_hh, b_hn)
        return [out, gates, *cpu_bigru.bigru_recurrence_backward(d_out[clips], out, gates, w_hh)]

    whole = both(slice(None), 1)
    for count in (2, 5, 64):
        assert all(map(torch.equal, both(slice(None), count), whole))
    assert all(map(torch.equal, both(slice(7, 8), 2), (t[7:8] for t in whole)))


def test_results_do_not_depend_on_threads_or_batch() -> None:
    block, weights, x = block_arguments((3, 64, 71, 9)), gru_weights(30, 40, 2), random(3, 70, 30)
    maps = [random(*s, seed=i) for i, s in enumerate([half((3, 64, 71, 40)), (3, 64, 71, 40), (3, 64, 71, 40)])]
    calls: list[Callable[[slice], tuple[Tensor, ...]]] = [
        lambda s: (ops.residual_block(block[0][s], *block[1:], backend="cpu"),),
        lambda s: (ops.upsample_add_gate(*(m[s] for m in maps), backend="cpu"),),
        lambda s: (ops.bigru(x[s], weights, backend="cpu")[0],),
    ]
    for call in calls:
        torch.set_num_threads(2)
        two = call(slice(None))[0]
        parts = torch.cat([call(slice(i, i + 1))[0] for i in range(3)])
        torch.set_num_threads(1)
        assert torch.equal(call(slice(None))[0], two)
        assert torch.equal(parts, two)


def test_packed_weights_follow_every_change_in_place_and_die_with_their_tensors() -> None:
    x, *weights = block_arguments((1, 16, 9, 7))
    kept = cpu_block._packed._kept

    def check() -> None:
        exact = ops.residual_block(*(t.double() for t in (x, *weights)), backend="reference")
        got = ops.residual_block(x, *weights, backend="cpu")
        assert error(got, exact) < 1e-6 * float(exact.square().mean().sqrt())

    gc.collect()
    before = len(kept)
    check()
    packed = kept[weights[0]]
    check()
    assert kept[weights[0]] is packed
    changes: list[Callable[[], object]] = [
        lambda: weights[0].mul_(-1),
        lambda: weights[3].data.add_(1),  # no version counter sees this one,
        lambda: weights[2].numpy().__setitem__((3, 2, 1, 0), 4.0),  # nor this one
        lambda: weights[2].set_(weights[0].clone()),
    ]
    for change in changes:
        change()
        check()
    with torch.inference_mode():
        weights[:] = [w.clone() for w in weights]
        check()
        weights[0].mul_(2)
        check()
    weights.clear()
    gc.collect()
    assert len(kept) == before


def test_packed_gru_weights_follow_changes() -> None:
    x, weights = random(1, 9, 4), gru_weights(4, 7, 2)
    for index in range(len(weights)):
        weights[index].data.add_(0.1)
        got = ops.bigru(x, weights, backend="cpu")[0]
        torch.testing.assert_close(got, ops.bigru(x, weights, backend="reference")[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.bool])
@pytest.mark.filterwarnings("ignore:kernel_size exceeds")  # which it may here
@pytest.mark.parametrize("window", [1, 7, 27, 101])
def test_median_filter(dtype: torch.dtype, window: int) -> None:
    x = random(2, 40, 3)
    x = x > 0 if dtype == torch.bool else x.to(dtype)
    got = ops.median_filter(x, window, backend="cpu")
    expected = np.stack([[medfilt(c, window) for c in clip.T] for clip in x.double().numpy()]).swapaxes(1, 2)
    assert got.dtype == dtype
    assert np.array_equal(got.double().numpy(), expected)
    assert ops.median_filter(x[:0], window, backend="cpu").shape == (0, 40, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_detect_runs(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    for leading, steps in itertools.product([(), (3,), (2, 0), (2, 2)], [1, 2, 61]):
        x = torch.rand(*leading, steps, 3, generator=generator).to(dtype)
        x[..., ::7, 1] = torch.nan
        arguments = x, [0.5, 0.3, float(x.flatten()[0]) if x.numel() else 0.0], [1, 3, 27]
        got, expected = (ops.detect_runs(*arguments, backend=b) for b in ("cpu", "reference"))
        assert [t.dtype for t in got] == [torch.int32] * 2
        assert torch.equal(got[0], expected[0])
        assert torch.equal(got[1], expected[1])


def test_refusals_name_the_reason() -> None:
    maps = [random(*s) for s in [half((1, 10, 4, 4)), (1, 10, 4, 4), (1, 10, 4, 4)]]
    with pytest.raises(ValueError, match="multiples of 16, not 10"):
        ops.upsample_add_gate(*maps, backend="cpu")
    with pytest.raises(ValueError, match="channels-last maps"):
        ops.upsample_add(*(random(*s, layout=CONTIGUOUS) for s in [(1, 16, 2, 2), (1, 16, 4, 4)]), backend="cpu")
    with pytest.raises(ValueError, match=r"float32 and bfloat16, not torch\.float16"):
        ops.attention_gate(maps[1].half(), maps[1].half(), backend="cpu")
    with pytest.raises(ValueError, match=r"float32.*not torch\.float64"):
        ops.residual_block(*(t.double() for t in block_arguments((1, 16, 4, 4))), backend="cpu")
    with pytest.raises(ValueError, match=r"float32, not torch\.bfloat16"):
        ops.bigru(random(1, 3, 4).bfloat16(), [w.bfloat16() for w in gru_weights(4, 7, 1)], backend="cpu")


def test_core_checks_every_shape_itself() -> None:
    """Whoever calls the bindings past the ops gets an error, not somebody else's memory."""
    x = np.zeros((1, 4, 4, 16), np.float32)
    low = np.zeros((1, 2, 2, 16), np.float32)
    for bad in (low[:, :1], low.astype(np.float64), low[..., ::2], np.asfortranarray(low), low[0]):
        with pytest.raises(ValueError, match="low"):
            _core.upsample_add(bad, x, x.copy(), 1)
    with pytest.raises(ValueError, match="out"):
        _core.upsample_add_gate(low, x, x, x[:, :3].copy(), 1)
    gradients = [x, low, x, x, low.copy(), x.copy(), x.copy()]
    _core.upsample_add_gate_backward(*gradients, 1)
    for index, given in enumerate(gradients):
        if index != 3:  # whose shape and type the others have to have
            with pytest.raises(ValueError, match="allowed"):
                _core.upsample_add_gate_backward(*gradients[:index], given[:, 1:], *gradients[index + 1 :], 1)
    _core.upsample_add_backward(x, low.copy(), 1)
    for bad_low in (low[:, :1].copy(), low.astype(np.int16), low[..., ::2]):
        with pytest.raises(ValueError, match="d_low"):
            _core.upsample_add_backward(x, bad_low, 1)
    flat = [np.zeros(20, np.float32) for _ in range(5)]
    for index in range(5):
        if index != 2:
            with pytest.raises(ValueError, match="allowed"):
                _core.attention_gate_backward(*flat[:index], flat[index][1:], *flat[index + 1 :], 1)
    with pytest.raises(ValueError, match="logits"):
        _core.attention_gate(np.zeros(3, np.float32), np.zeros(4, np.float32), np.zeros(4, np.float32), 1)
    weights = [w.numpy() for w in gru_weights(4, 7, 2)]
    for index in range(len(weights)):
        with pytest.raises(ValueError, match="weights"):
            _core.BiGru([*weights[:index], weights[index][1:], *weights[index + 1 :]])
    gru = _core.BiGru(weights)
    good = [np.zeros(s, np.float32) for s in [(2, 5, 4), (2, 5, 14), (4, 2, 7)]]
    for index, name in enumerate(("x", "out", "last")):
        with pytest.raises(ValueError, match=name):
            gru.run(*(a[:1] if i == index and i else a[:, :, :3] if i == index else a for i, a in enumerate(good)), 1)
    # Of each call: the inputs, then what is written; sizes are read from the gates.
    sizes = {
        _core.gru_training_forward: [(2, 5, 2, 21), (2, 21, 7), (2, 7), (2, 5, 14), (2, 5, 2, 4, 7)],
        _core.gru_training_backward: [
            (2, 5, 14), (2, 5, 14), (2, 5, 2, 4, 7), (2, 21, 7), (2, 5, 2, 21), (2, 5, 2, 7)
        ],
    }  # fmt: skip
    for run, shapes in sizes.items():
        arrays = [np.zeros(s, np.float32) for s in shapes]
        run(*arrays, 1)
        for index, given in enumerate(arrays):
            for wrong in (given[..., 1:], given.astype(np.float64), given.copy("F")):
                with pytest.raises(ValueError, match="allowed"):
                    run(*arrays[:index], wrong, *arrays[index + 1 :], 1)
    with pytest.raises(ValueError, match="gates"):
        _core.gru_training_forward(*(np.zeros(s, np.float32) for s in sizes[_core.gru_training_forward][:4]), low, 1)
    block = _core.ResidualBlock(*(t.numpy() for t in block_arguments((1, 16, 4, 4))[1:]))
    for wrong in (x, x.swapaxes(1, 3)[:, :, :2], x.swapaxes(1, 3).astype(np.float64)):
        with pytest.raises(ValueError, match=r"x|out"):
            block.run(wrong, x.swapaxes(1, 3).copy(), 1)
