"""Steps of 8-bit arithmetic, chosen on real recordings: what ``precision="int8"`` needs beside the weights. Torch-free.

A feature map's channel holds 0 .. 255 steps of its own; a convolution's input, transformed by Winograd, -128 .. 127 steps
of its own for each channel and position of a block (``csrc/core/kernels/int8.h``). A step is chosen so that the values
seen fit, of maps but for the share CUT in each chunk. Both were tried: with more cut the answers are further off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from ..weights import Weights, map_of, quantized_convolutions
from .cpu import CpuEngine

CUT = 1e-5
MAP_LEVELS, TRANSFORMED_LEVELS = 255, 127
SMALLEST = 1e-6  # of a channel's largest value: a channel that is always zero needs a step, too
CHUNK_FRAMES = 1504
# Winograd's B^T for blocks of two rows and of four columns.
_ROWS = np.array([[-1, 0, 1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]], np.float32)
_COLUMNS = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    np.float32,
)


def transform(feature_map: np.ndarray) -> np.ndarray:
    """Map (T, D, C) -> its blocks transformed, (24, C, ceil(T / 2) * ceil(D / 4)), float32; zeros around the map."""
    frames, bands, channels = feature_map.shape
    padded = np.pad(feature_map, ((1, 1 + frames % 2), (1, 1 + -bands % 4), (0, 0))).astype(np.float32)
    blocks = np.lib.stride_tricks.sliding_window_view(padded, (4, 6), axis=(0, 1))[::2, ::4]  # (T/2, D/4, C, 4, 6)
    rows = np.tensordot(_ROWS, blocks, ([1], [3]))  # (4, T/2, D/4, C, 6)
    found = np.tensordot(rows, _COLUMNS, ([4], [1]))  # (4, T/2, D/4, C, 6)
    return found.transpose(0, 4, 3, 1, 2).reshape(24, channels, -1)


def calibrate(
    weights: Weights, log_mels: Iterable[np.ndarray], *, threads: int | None = None, done: Callable[[], None] | None = None
) -> Weights:
    """``weights`` with steps for int8, chosen on raw log-mel (T, D) of some recordings.

    Each recording is worked on in chunks of 30 s, and ``done`` called after each. ValueError without any frame.
    """
    engine = CpuEngine(weights, precision="fp32", threads=threads)
    largest: dict[str, np.ndarray] = {}
    for log_mel in log_mels:
        for first in range(0, len(log_mel), CHUNK_FRAMES):
            _note(engine, log_mel[first : first + CHUNK_FRAMES], largest)
            if done:
                done()
    if not largest:
        raise ValueError("recordings: got none, allowed: at least one with a frame of sound")
    return replace(weights, steps={name: _step(name, value) for name, value in largest.items()})


def _note(engine: CpuEngine, log_mel: np.ndarray, largest: dict[str, np.ndarray]) -> None:
    network = engine.config.network
    readers = quantized_convolutions(engine.config)
    seen: dict[str, list[str]] = {}
    for convolution, stage in readers.items():
        seen.setdefault(stage, []).append(convolution)
    for stage in engine.map_names():
        values = engine.tap(stage, log_mel)
        _raise_to(largest, f"int8.step.{map_of(network, stage)}", _cut(values.reshape(-1, values.shape[-1]).T))
        for convolution in seen.get(stage, ()):
            # What a convolution behind a pooling reads is the pooled map.
            read = pooled(values) if convolution.endswith("low_in.conv1") else values
            _raise_to(largest, f"int8.transformed.{convolution}", np.abs(transform(read)).max(-1))


def pooled(values: np.ndarray) -> np.ndarray:
    """Map (T, D, C) -> maxima of 2 x 2 pixels, (T / 2, D / 2, C)."""
    frames, bands, channels = values.shape
    found: np.ndarray = values.reshape(frames // 2, 2, bands // 2, 2, channels).max((1, 3))
    return found


def _cut(values: np.ndarray) -> np.ndarray:
    """The largest along the last axis, but for the share CUT of it."""
    last = values.shape[-1] - 1 - int(values.shape[-1] * CUT)
    found: np.ndarray = np.partition(values, last, axis=-1)[..., last]
    return found


def _raise_to(largest: dict[str, np.ndarray], name: str, values: np.ndarray) -> None:
    largest[name] = np.maximum(largest[name], values) if name in largest else values


def _step(name: str, largest: np.ndarray) -> np.ndarray:
    levels = MAP_LEVELS if name.startswith("int8.step.") else TRANSFORMED_LEVELS
    floor = max(float(largest.max()), 1.0) * SMALLEST
    return (np.maximum(largest, floor) / levels).astype(np.float32)
