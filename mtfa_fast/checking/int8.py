"""The engine's 8-bit convolution by definition, in NumPy: integers up to the sums, then float32 in a set order.

Whatever instruction set runs, the engine's bytes are these (``csrc/core/kernels/winograd_int8.h``).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..engine.fold import fold
from ..engine.quantization import pooled, transform
from ..weights import Weights, map_of, quantized_convolutions
from .comparison import Check

WEIGHT_MAX = 63  # seven bits: with them no instruction set's products overflow
_ROWS = np.array([[-1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])  # Winograd's G
_COLUMNS = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24


class Steps(NamedTuple):
    """Of a convolution's map (C,), its transformed input (24, C), its output and, if it has one, its residual (C,)."""

    map: np.ndarray
    transformed: np.ndarray
    out: np.ndarray
    residual: np.ndarray | None = None


def conv3x3(
    feature_map: np.ndarray, weight: np.ndarray, bias: np.ndarray, steps: Steps, residual: np.ndarray | None = None
) -> np.ndarray:
    """relu(conv(map) + bias [+ residual]): uint8 maps (T, D, C), float32 weight (C, C, 3, 3) and bias (C,)."""
    frames, bands, channels = feature_map.shape
    data, unit = quantized_input(feature_map, steps)
    weights, scales = quantized_weights(weight, unit, steps.out)
    sums = np.matmul(data.transpose(0, 2, 1).astype(np.float64), weights)  # (24, blocks, C), exact integers
    scaled = sums.astype(np.float32) * scales[:, None, :]
    m = scaled.reshape(4, 6, -(-frames // 2), -(-bands // 4), channels)
    rows = np.stack([m[0] + m[1] + m[2], m[1] - m[2] + m[3]])  # (2, 6, T / 2, D / 4, C)
    even1, odd1 = rows[:, 1] + rows[:, 2], rows[:, 1] - rows[:, 2]
    even2, odd2 = rows[:, 3] + rows[:, 4], rows[:, 3] - rows[:, 4]
    two, four, eight = (np.float32(n) for n in (2, 4, 8))
    pixels = [rows[:, 0] + even1 + even2, odd1 + two * odd2, even1 + four * even2, odd1 + eight * odd2 + rows[:, 5]]
    blocks = np.stack(pixels).transpose(2, 1, 3, 0, 4)  # (T / 2, 2, D / 4, 4, C)
    value = blocks.reshape(2 * m.shape[2], 4 * m.shape[3], channels)[:frames, :bands]
    value = value + (bias / steps.out).astype(np.float32)
    if residual is not None and steps.residual is not None:
        value = value + residual.astype(np.float32) * (steps.residual / steps.out).astype(np.float32)
    found: np.ndarray = np.clip(np.rint(value), 0, 255).astype(np.uint8)
    return found


def quantized_input(feature_map: np.ndarray, steps: Steps) -> tuple[np.ndarray, np.ndarray]:
    """Transformed input in 8 bits, (24, C, blocks) of -128 .. 127, and what one of it is worth, (24, C) float64."""
    one = 8192 * steps.map.astype(np.float64)
    multipliers = np.clip(np.rint(one / steps.transformed.astype(np.float64)), 1, 32767)
    exact = transform(feature_map).astype(np.int64)
    scaled = (4 * exact * multipliers.astype(np.int64)[..., None] + 2**14) >> 15
    return np.clip(scaled, -128, 127), one / multipliers


def quantized_weights(weight: np.ndarray, unit: np.ndarray, out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Transformed weights in 7 bits, (24, C in, C out), and what a sum is worth in the output's steps, (24, C out)."""
    moved = np.zeros((4, 6, *weight.shape[:2]))
    for i in range(3):
        for j in range(3):
            moved += np.multiply.outer(np.outer(_ROWS[:, i], _COLUMNS[:, j]), weight[:, :, i, j].astype(np.float64))
    columns = moved.reshape(24, *weight.shape[:2]).transpose(0, 2, 1) * unit[..., None]
    largest = np.abs(columns).max(1, keepdims=True)
    one = np.where(largest > 0, largest / WEIGHT_MAX, 1)
    return np.rint(columns / one), (one[:, 0] / out.astype(np.float64)).astype(np.float32)


def check_convolutions(engine: Any, weights: Weights, source: str, log_mel: np.ndarray) -> Check:
    """Every 8-bit convolution on the very maps that the engine gave it: how many values are not the definition's."""
    tensors, network = fold(weights), weights.config.network
    maps = {name: engine.tap(name, log_mel) for name in engine.map_names()}

    def step(stage: str) -> np.ndarray:
        return weights.steps[f"int8.step.{map_of(network, stage)}"]

    def counts(stage: str) -> np.ndarray:
        return np.rint(maps[stage] / step(stage)).astype(np.uint8)

    wrong: dict[str, int] = {}
    for name, stage in quantized_convolutions(weights.config).items():
        block, _, leaf = name.rpartition(".")
        read, out = counts(stage), block if leaf == "conv2" else name
        residual, steps = None, Steps(step(stage), weights.steps[f"int8.transformed.{name}"], step(out))
        if block.endswith("low_in") and leaf == "conv1":
            read = pooled(read)
        if leaf == "conv2":
            whence = quantized_convolutions(weights.config)[f"{block}.conv1"]
            residual, steps = counts(whence), steps._replace(residual=step(whence))
            if block.endswith("low_in"):
                residual = pooled(residual)
        want = conv3x3(read, tensors[f"{name}.weight"], tensors[f"{name}.bias"], steps, residual)
        wrong[name] = int(np.count_nonzero(want != counts(out)))
    worst = max(wrong, key=lambda name: wrong[name])
    note = f"values that differ in {len(wrong)} convolutions" + (f", most in {worst}" if wrong[worst] else "")
    return Check("8-bit convolutions", source, float(sum(wrong.values())), 0.0, note)
