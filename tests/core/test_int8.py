"""The 8-bit convolution: every instruction set makes the bytes of its definition, also where values saturate."""

from __future__ import annotations

import numpy as np
import pytest

from mtfa_fast import _core
from mtfa_fast.checking import int8
from mtfa_fast.checking.int8 import Steps
from mtfa_fast.engine.quantization import transform

KERNELS = _core.int8_kernels()


class Case:
    """A convolution with random weights whose steps fit its values, but for the largest ones."""

    def __init__(self, frames: int, bands: int, channels: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.map = rng.integers(0, 256, (frames, bands, channels)).astype(np.uint8)
        self.residual = rng.integers(0, 256, (frames, bands, channels)).astype(np.uint8)
        self.weight = (rng.standard_normal((channels, channels, 3, 3)) / (3 * channels**0.5)).astype(np.float32)
        self.bias = rng.standard_normal(channels).astype(np.float32)
        step, residual, out = rng.uniform(0.005, 0.02, (3, channels)).astype(np.float32)
        largest = np.abs(transform(self.map * step)).max(-1) + 0.1
        self.steps = Steps(
            step, (largest * rng.uniform(0.6, 1.1, largest.shape) / 127).astype(np.float32), out, residual
        )

    def run(self, kernels: str, *, residual: bool = True) -> np.ndarray:
        s = self.steps
        more = (self.residual, s.residual) if residual else ()
        return _core.int8_conv3x3(
            kernels,
            self.map,
            self.weight,
            self.bias,
            s.map,
            s.transformed,
            s.out,
            *more,  # type: ignore[arg-type]
        )

    def definition(self, *, residual: bool = True) -> np.ndarray:
        return int8.conv3x3(self.map, self.weight, self.bias, self.steps, self.residual if residual else None)


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(
    ("frames", "bands", "channels"),
    [(1, 1, 1), (2, 4, 32), (3, 5, 10), (7, 33, 48), (4, 40, 64), (5, 16, 128), (6, 128, 32)],
)
def test_bytes_are_those_of_the_definition(kernels: str, frames: int, bands: int, channels: int) -> None:
    case = Case(frames, bands, channels)
    for residual in (False, True):
        np.testing.assert_array_equal(case.run(kernels, residual=residual), case.definition(residual=residual))
    assert channels == 1 or np.ptp(case.definition()) > 200


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_products_do_not_overflow(kernels: str, sign: int) -> None:
    """All transformed values at an end of their range, all weights at theirs: vpmaddubsw's pairs come to 32 130."""
    case = Case(6, 24, 64)
    case.map[:] = 255
    case.map[::2, ::3] = 0
    case.weight[:] = np.where(np.arange(64) % 2, sign, -sign)[:, None, None, None]
    case.steps = case.steps._replace(
        transformed=np.full((24, 64), 1e-5, np.float32), out=np.full(64, 5.0, np.float32), map=np.ones(64, np.float32)
    )
    data, _ = int8.quantized_input(case.map, case.steps)
    weights, _ = int8.quantized_weights(case.weight, np.ones((24, 64)), case.steps.out)
    assert data.min() == -128 and data.max() == 127 and np.abs(weights).max() == int8.WEIGHT_MAX
    found = case.run(kernels)
    np.testing.assert_array_equal(found, case.definition())
    assert {0, 255} <= set(found.ravel().tolist())


def test_error_is_what_the_steps_allow() -> None:
    """The definition itself against a convolution in float64: half a step of each kind, and no systematic part."""
    import torch

    case = Case(32, 64, 32)
    s = case.steps
    largest = np.abs(transform(case.map * s.map)).max(-1)
    out = np.full(32, 0.03, np.float32)
    case.steps = Steps(s.map, (largest / 127).astype(np.float32), out)
    exact = torch.nn.functional.conv2d(
        torch.from_numpy((case.map * s.map).astype(np.float64)).permute(2, 0, 1)[None],
        torch.from_numpy(case.weight).double(),
        torch.from_numpy(case.bias).double(),
        padding=1,
    )[0].permute(1, 2, 0).numpy()  # fmt: skip
    off = case.definition(residual=False) * out - np.maximum(exact, 0)
    assert np.sqrt(np.mean(off**2)) < 0.03 * exact.std()
    assert abs(off.mean()) < 0.002 * exact.std()


BAD = {
    "kernels": (dict(kernels="sse9"), r"kernels: got 'sse9', allowed on this machine: portable"),
    "map": (dict(map=np.zeros((0, 4, 8), np.uint8)), "map: allowed"),
    "step": (dict(step=np.ones(7, np.float32)), "step: wrong shape"),
    "residual": (dict(residual=np.zeros((2, 4, 8), np.uint8)), "residual: allowed: with residual_step"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_arguments_are_named(case: str) -> None:
    change, message = BAD[case]
    good = dict(
        kernels="portable", map=np.zeros((2, 4, 8), np.uint8), weight=np.zeros((8, 8, 3, 3)), bias=np.zeros(8),
        step=np.ones(8), transformed_step=np.ones((24, 8)), out_step=np.ones(8),
    )  # fmt: skip
    with pytest.raises(ValueError, match=message):
        _core.int8_conv3x3(**(good | change))  # type: ignore[arg-type]
