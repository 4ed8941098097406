"""Training's C++ kernels, asked for by name: as good as torch's, and the same for every number of threads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from mtfa_fast import _core, ops

LAST = torch.channels_last
EPS = 1e-5
# (batch, channels, T, D): odd sizes, single rows and pixels, several bands of rows, rows wider than what is transformed
# together, a vector of channels beside a panel of two.
SIZES = [(2, 16, 5, 7), (1, 48, 33, 70), (3, 32, 9, 1), (1, 16, 2, 1), (1, 64, 1, 5), (2, 32, 67, 128), (1, 16, 7, 301)]


@pytest.fixture(autouse=True)
def poisoned_memory() -> Iterator[None]:
    """New memory is NaN: whatever a kernel leaves out shows."""
    before, threads = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    torch.set_num_threads(2)
    assert torch.empty(9).isnan().all()
    yield
    torch.use_deterministic_algorithms(before)
    torch.set_num_threads(threads)


def arguments(size: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """x, w1, scale1, shift1, w2, scale2, shift2, and a cotangent."""
    generator = torch.Generator().manual_seed(sum(size))
    channels = size[1]

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(*shape, generator=generator) * scale

    def vector() -> Tensor:
        return torch.rand(channels, generator=generator) + 0.5

    he = (2 / (9 * channels)) ** 0.5
    weights = [normal(channels, channels, 3, 3, scale=he).to(dtype) for _ in range(2)]
    maps = [normal(*size).to(dtype).contiguous(memory_format=LAST) for _ in range(2)]
    # A mean far from zero, as a ReLU's results have it, is hard on the variance.
    return [maps[0].relu() + 1, weights[0], vector(), normal(channels), weights[1], vector(), normal(channels), maps[1]]


def convolution(values: list[Tensor], backend: str) -> list[Tensor]:
    """The result and its gradients; ``stock`` is torch's."""
    leaves = [v.detach().requires_grad_() for v in values[:2]]
    out = F.conv2d(*leaves, padding=1) if backend == "stock" else ops.conv3x3(*leaves, backend=backend)
    return [out.detach(), *torch.autograd.grad(out, leaves, values[-1])]


def block(values: list[Tensor], backend: str) -> list[Tensor]:
    leaves = [v.detach().requires_grad_() for v in values[:7]]
    if backend == "stock":
        x, w1, scale1, shift1, w2, scale2, shift2 = leaves
        y = F.relu(F.batch_norm(F.conv2d(x, w1, padding=1), None, None, scale1, shift1, True, 0.1, EPS))
        out = F.relu(F.batch_norm(F.conv2d(y, w2, padding=1), None, None, scale2, shift2, True, 0.1, EPS) + x)
    else:
        out = ops.residual_block_train(*leaves, EPS, backend=backend)[0]
    return [out.detach(), *torch.autograd.grad(out, leaves, values[-1])]


def far_from_kinks(size: tuple[int, ...], dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Where a ReLU's argument lies near zero, two roundings may fall on its two sides, and gradients differ at once.

    Shifts of ten deviations keep most arguments away from it; every other channel is off, the others pass.
    """
    values = arguments(size, dtype)
    for shift in (values[3], values[6]):
        shift[::2], shift[1::2] = 10.0, -10.0
    return values


@pytest.mark.parametrize("isa", _core.available_isas())
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_against_float64(size: tuple[int, ...], isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most twice as wrong as torch, the most among the gradients being one number: no lucky tensor sets it.

    Where almost all of a window is padding, torch's sums have a few terms and Winograd's as many as ever: there four
    last places. A variance of so few values is no measure of a block.
    """
    monkeypatch.setenv("MTFA_FAST_ISA", "avx512" if isa == "avx512bf16" else isa)
    has_bf16 = _core.chosen_isa() in ("avx512bf16", "amx")  # "avx512" is the one with bf16 where the CPU has both
    for dtype in (torch.float32, torch.bfloat16) if has_bf16 else (torch.float32,):
        runs = [(convolution, arguments)]
        if size[0] * size[2] * size[3] > 16:
            # In bf16 a mean of ten deviations costs the digits that the kinks would.
            runs += [(block, arguments), *([(block, far_from_kinks)] if dtype == torch.float32 else [])]
        for run, make in runs:
            values = make(size, dtype)
            exact = run([v.double() for v in values], "reference")
            stock, got = run(values, "stock"), run(values, "cpu")
            wrong, bounds = ([deviation(x, y) for x, y in zip(found, exact, strict=True)] for found in (got, stock))
            least = 4 * torch.finfo(dtype).eps
            assert wrong[0] <= max(2 * bounds[0], least), (run.__name__, str(dtype), wrong, bounds)
            assert max(wrong[1:]) <= max(2 * max(bounds[1:]), least), (run.__name__, str(dtype), wrong, bounds)


def deviation(got: Tensor, exact: Tensor) -> float:
    """Root mean square, in units of the exact one's."""
    assert got.shape == exact.shape and not got.isnan().any()
    size = float(exact.square().mean().sqrt())
    return float((got.double() - exact).square().mean().sqrt()) / size if size else 0.0


@pytest.mark.parametrize("size", [(2, 32, 131, 128), (5, 16, 6, 9)], ids=str)
def test_same_bits_for_every_number_of_threads(size: tuple[int, ...]) -> None:
    values = arguments(size)
    for run in (convolution, block):
        torch.set_num_threads(1)
        alone = run(values, "cpu")
        for threads in (2, 3, 8):
            torch.set_num_threads(threads)
            assert all(torch.equal(a, b) for a, b in zip(alone, run(values, "cpu"), strict=True)), threads


def test_clips_of_a_convolution_do_not_see_each_other() -> None:
    values = arguments((3, 16, 9, 12))
    out, d_x, _ = convolution(values, "cpu")
    for clip in range(3):
        one = convolution([values[0][clip : clip + 1], values[1], values[-1][clip : clip + 1]], "cpu")
        assert torch.equal(one[0], out[clip : clip + 1]) and torch.equal(one[1], d_x[clip : clip + 1])
    values[0][1] = torch.nan
    spoilt = convolution(values, "cpu")[0]
    assert torch.equal(spoilt[0::2], out[0::2]) and spoilt[1].isnan().all()


def test_variance_of_a_mean_far_from_zero() -> None:
    # The sum of squares less the square of the sum would have no digit left.
    values = arguments((2, 16, 32, 64))
    values[0], values[1] = values[0] * 1e-3 + 100, values[1].abs()
    for kind in ("cpu", "reference"):
        statistics = ops.residual_block_train(*values[:7], EPS, backend=kind)[1]
        exact = ops.residual_block_train(*(v.double() for v in values[:7]), EPS, backend="reference")[1]
        torch.testing.assert_close(statistics.double(), exact, rtol=1e-4, atol=0)


def test_dead_channels_and_constant_maps() -> None:
    # A variance of zero: the deviation is that of eps alone.
    values = arguments((1, 16, 8, 8))
    values[1][3] = 0
    values[2][5] = 0
    got, wanted = block(values, "cpu"), block([v.double() for v in values], "reference")
    for ours, right in zip(got, wanted, strict=True):
        assert deviation(ours, right) < 1e-4


def test_core_checks_every_shape_itself() -> None:
    """Whoever calls the bindings past the ops gets an error, not somebody else's memory."""
    x, weight = np.zeros((1, 4, 6, 16), np.float32), np.zeros((16, 16, 3, 3), np.float32)
    gradient, norms = np.zeros((16, 3, 3, 16), np.float32), np.zeros((4, 16), np.float32)
    calls = {
        _core.conv3x3: [x, weight, x.copy()],
        _core.conv3x3_backward: [x, x, weight, x.copy(), gradient],
        _core.block_training_forward: [x, weight, weight, norms, EPS, x.copy(), x.copy(), x.copy(), norms.copy()],
        _core.block_training_backward: [
            x, x, x, x, x, norms, weight, weight, norms, EPS, x.copy(), gradient, gradient.copy(), norms.copy()
        ],
    }  # fmt: skip
    for run, good in calls.items():
        run(*good, 1)
        for index, given in enumerate(good):
            if isinstance(given, np.ndarray):
                for wrong in (given[..., 1:], given.astype(np.float64), given.copy("F"), given[:0]):
                    with pytest.raises(ValueError, match="allowed"):
                        run(*good[:index], wrong, *good[index + 1 :], 1)
    empty = np.zeros((1, 4, 0, 16), np.float32)
    with pytest.raises(ValueError, match="x: allowed"):
        _core.conv3x3(empty, weight, empty.copy(), 1)
