"""The fast layers against the plain ones: results, gradients, training, copies, hooks, changes of the weights."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtfa_fast.nn import folding, modules
from mtfa_fast.nn.fast import MTFA, BiGRU, accelerate
from tests.networks import random_network
from tests.nn.layers import maps, trained, twins

VARIANTS: list[dict[str, Any]] = [
    {"variant": "mtfa"},
    {"mask_projection": False},
    {"depth": 1},
    {"variant": "resatt"},
    {"variant": "res"},
]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_evaluation_equals_the_plain_layer(options: dict[str, Any], layout: torch.memory_format) -> None:
    plain, fast = (layer.eval() for layer in twins(**options))
    for shape in ((2, 16, 13, 16), (1, 16, 1, 8), (1, 16, 8, 24), (0, 16, 8, 8)):
        x = maps(*shape, layout=layout)
        with torch.no_grad():
            wanted, got = plain(x), fast(x)
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
        assert got.is_contiguous(memory_format=layout) or got.numel() == 0


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("options", VARIANTS, ids=str)
def test_training_equals_the_plain_layer(options: dict[str, Any], layout: torch.memory_format) -> None:
    plain, fast = (layer.double() for layer in twins(**options))
    x = maps(2, 16, 9, 16, layout=layout).double()
    cotangent = torch.randn_like(x)
    found = []
    for layer in (plain, fast):
        leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
        out = layer(leaf)
        assert layer is plain or out.is_contiguous(memory_format=layout)
        found.append([out, *torch.autograd.grad(out, [leaf, *layer.parameters()], cotangent), *layer.buffers()])
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_float32_gradients_are_as_good_as_the_plain_layers(layout: torch.memory_format) -> None:
    plain, fast = twins()
    x = maps(2, 16, 13, 16, layout=layout)

    def gradients(layer: nn.Module, x: Tensor) -> Tensor:
        leaf = x.clone().requires_grad_()
        found = torch.autograd.grad(layer(leaf).square().mean(), [leaf, *layer.parameters()])
        return torch.cat([g.double().flatten() for g in found])

    exact = gradients(copy.deepcopy(plain).double(), x.double())
    wrong = [float((gradients(layer, x) - exact).norm()) for layer in (plain, fast)]
    assert wrong[1] <= 2 * wrong[0]


def test_evaluation_with_gradients_has_them() -> None:
    plain, fast = (layer.eval() for layer in twins())
    x = maps(1, 16, 8, 8)
    wanted, got = (torch.autograd.grad(layer(x).sum(), layer.parameters()) for layer in (plain, fast))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


def bump_parameter(layer: MTFA) -> None:
    with torch.no_grad():
        layer.features[0].conv1.weight.mul_(1.5)


def bump_behind_autograd(layer: MTFA) -> None:
    # As exponential moving averages do it; a version counter does not see it.
    layer.features[0].conv1.weight.data.mul_(1.5)


def bump_statistics(layer: MTFA) -> None:
    layer.features[1].norm2.running_var.data.mul_(4)


def load_weights(layer: MTFA) -> None:
    layer.load_state_dict(trained().state_dict())


def replace_parameter(layer: MTFA) -> None:
    layer.features[0].conv2.weight = nn.Parameter(torch.randn_like(layer.features[0].conv2.weight))


@pytest.mark.parametrize(
    "change", [bump_parameter, bump_behind_autograd, bump_statistics, load_weights, replace_parameter]
)
def test_every_change_of_the_weights_is_noticed(change: Callable[[MTFA], None]) -> None:
    fast = twins()[1].eval()
    x = maps(1, 16, 8, 8)
    with torch.no_grad():
        before = fast(x)
        change(fast)
        after = fast(x)
        plain = modules.MTFA(16).eval()
        plain.load_state_dict(fast.state_dict())
        wanted = plain(x)
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, wanted, rtol=1e-5, atol=1e-5)


def test_unchanged_weights_are_folded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    folded = []
    fold = folding.fold
    monkeypatch.setattr(folding, "fold", lambda *args: folded.append(1) or fold(*args))
    layer = twins()[1].eval()
    with torch.inference_mode():
        for _ in range(3):
            layer(maps(1, 16, 8, 8))
    assert len(folded) == 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_as_good_as_the_plain_layers(dtype: torch.dtype) -> None:
    plain, fast = (layer.eval() for layer in twins())
    x = maps(1, 16, 16, 16)
    with torch.no_grad():
        exact = copy.deepcopy(plain).double()(x.double())
        wrong = [float((layer.to(dtype)(x.to(dtype)).double() - exact).norm()) for layer in (plain, fast)]
        assert fast(x.to(dtype)).dtype == dtype
    assert wrong[1] <= 2 * wrong[0]


def test_autocast_trains_and_evaluates() -> None:
    plain, fast = twins()
    x = maps(2, 16, 8, 8)
    for training in (True, False):
        with torch.autocast("cpu", torch.bfloat16), torch.set_grad_enabled(training):
            wanted, got = (layer.train(training)(x) for layer in (plain, fast))
        assert got.dtype == wanted.dtype or not training  # folded blocks compute in bfloat16 from the first one on
        torch.testing.assert_close(got.float(), wanted.float(), rtol=0.05, atol=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        fast.train()(x).float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in fast.parameters())


def copies(layer: nn.Module) -> Iterator[nn.Module]:
    yield copy.deepcopy(layer)
    yield pickle.loads(pickle.dumps(layer))
    file = io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    yield torch.load(file, weights_only=False)


def test_copies_are_equal_and_independent() -> None:
    network = accelerate(random_network(channels=16, bands=16, hidden=5, pooling=4)).eval()
    x = torch.randn(2, 9, 16)
    with torch.no_grad():
        wanted = network(x)
        for other in copies(network):
            torch.testing.assert_close(other(x), wanted)
            other.attention.features[0].conv1.weight.mul_(2)  # type: ignore[union-attr, index, operator]
            assert not torch.allclose(other(x), wanted)
        torch.testing.assert_close(network(x), wanted)
        torch.testing.assert_close(copy.deepcopy(network).to(memory_format=torch.channels_last)(x), wanted)
        torch.testing.assert_close(copy.deepcopy(network).double()(x.double()).float(), wanted, rtol=1e-4, atol=1e-4)


def test_bigru_module_is_torch_gru() -> None:
    stock = nn.GRU(5, 4, 2, dropout=0.4, bidirectional=True)
    fast = BiGRU(5, 4, 2, dropout=0.4, batch_first=False)
    fast.load_state_dict(stock.state_dict())
    x, hx = torch.randn(7, 3, 5), torch.randn(4, 3, 4)
    packed = nn.utils.rnn.pack_padded_sequence(x, [7, 5, 2])
    for training in (False, True):  # dropout of the same seed, too
        for arguments in ((x,), (x[:, 0],), (x, hx), (packed,)):
            results = []
            for layer in (stock, fast):
                torch.manual_seed(3)
                output, h_n = layer.train(training)(*arguments)
                results.append((output if isinstance(output, Tensor) else output.data, h_n))
            torch.testing.assert_close(results[1], results[0])
    with pytest.raises(ValueError, match=r"x: got shape \(7, 3, 4\), allowed: \(.., .., 5\)"):
        fast(x[..., 1:])


def loss_curve(network: nn.Module, dtype: torch.dtype = torch.float32) -> Tensor:
    """Fifty steps of Adam on the same clips, with the same dropout masks."""
    network = network.to(dtype).train()
    torch.manual_seed(5)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    curve = []
    for _ in range(50):
        loud = torch.zeros(4, 16, 1)
        loud[torch.rand(4) > 0.5, 4:10] = 1
        logits = network((torch.randn(4, 16, 8) + 3 * loud).to(dtype))
        loss = nn.functional.binary_cross_entropy_with_logits(logits, loud.expand(-1, -1, 3).to(dtype))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(loss.item())
    return torch.tensor(curve, dtype=torch.float64)


def nudged(network: nn.Module, seed: int) -> nn.Module:
    """A copy whose weights are up to 16 steps of a float off."""
    network = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in network.parameters():
            p.mul_(1 + 2**-19 * torch.randint(-1, 2, p.shape, generator=generator))
    return network


def test_fifty_steps_of_training_follow_the_plain_network() -> None:
    plain = random_network(channels=8, bands=8, hidden=8, seed=1)
    fast = accelerate(copy.deepcopy(plain))
    exact = loss_curve(copy.deepcopy(plain), torch.float64)
    torch.testing.assert_close(loss_curve(copy.deepcopy(fast), torch.float64), exact, rtol=0, atol=1e-12)
    assert exact[-5:].mean() < 0.7 * exact[:5].mean()
    # In float32 a ReLU or a maximum may fall the other way, and two curves part by orders of magnitude in one step. The
    # fast layers, which round otherwise in each of the 50 steps, may stray as far as the plain network does itself from
    # weights that are a little off.
    stock = loss_curve(copy.deepcopy(plain))
    noise = torch.stack([(loss_curve(nudged(plain, seed)) - stock).abs() for seed in range(3)]).amax(0).cummax(0).values
    difference = (loss_curve(fast) - stock).abs()
    assert (difference <= noise + 1e-6).all(), torch.stack((difference, noise))


@pytest.mark.parametrize("variant", ["mtfa", "resatt", "res"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_under_autocast_the_fast_layer_returns_the_plain_ones_dtype(variant, dtype):
    plain = modules.MTFA(16, variant=variant).eval()
    fast = MTFA(16, variant=variant).eval()
    fast.load_state_dict(plain.state_dict())
    x = torch.randn(1, 16, 9, 8).to(dtype)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert fast(x).dtype == plain(x).dtype
