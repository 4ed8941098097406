"""Steps of 8-bit arithmetic, chosen on real recordings: what ``precision="int8"`` needs beside the weights. Torch-free.

A feature map's channel holds 0 .. 255 steps of its own; a convolution's input, transformed by Winograd, -128 .. 127
steps of its own for each channel and position of a block (``csrc/core/kernels/int8.h``). A step is chosen so that the
values seen fit, and of maps twice as large ones: what a map's step rounds away is little beside what a transformed
value's does, and values cut off in sounds louder than any seen were what hurt most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from ..weights import Weights, map_of, quantized_convolutions
from .cpu import CpuEngine

MAP_LEVELS, TRANSFORMED_LEVELS = 255, 127
HEADROOM = 2.0  # of maps
SMALLEST = 1e-6  # of a channel's largest value: a channel that is always zero needs a step, too
CHUNK_FRAMES = 1504


def transform(feature_map: np.ndarray) -> np.ndarray:
    """Map (T, D, C) -> its blocks transformed, (24, C, ceil(T / 2) * ceil(D / 4)), float32; zeros around the map."""
    return np.stack([values.reshape(-1, values.shape[-1]).T for values in _positions(feature_map)])


def _positions(feature_map: np.ndarray) -> Iterator[np.ndarray]:
    """Winograd's B^T d B of blocks of two rows and four columns, a position at a time: (T / 2, D / 4, C)."""
    frames, bands, _ = feature_map.shape
    padded = np.pad(feature_map.astype(np.float32), ((1, 1 + frames % 2), (1, 1 + -bands % 4), (0, 0)))
    pairs, blocks = -(-frames // 2), -(-bands // 4)
    t = [padded[i : i + 2 * pairs : 2] for i in range(4)]
    for row in (t[2] - t[0], t[1] + t[2], t[2] - t[1], t[3] - t[1]):
        d = [row[:, k : k + 4 * blocks : 4] for k in range(6)]
        even1, odd1, even2, odd2 = d[4] - 4 * d[2], d[3] - 4 * d[1], d[4] - d[2], 2 * (d[3] - d[1])
        yield 4 * d[0] - 5 * d[2] + d[4]
        yield even1 + odd1
        yield even1 - odd1
        yield even2 + odd2
        yield even2 - odd2
        yield 4 * d[1] - 5 * d[3] + d[5]


def calibrate(
    weights: Weights,
    log_mels: Iterable[np.ndarray],
    *,
    threads: int | None = None,
    done: Callable[[], None] | None = None,
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
        _raise_to(largest, f"int8.step.{map_of(network, stage)}", values.max((0, 1)))
        for convolution in seen.get(stage, ()):
            # What a convolution behind a pooling reads is the pooled map.
            read = pooled(values) if convolution.endswith("low_in.conv1") else values
            _raise_to(
                largest, f"int8.transformed.{convolution}", np.stack([np.abs(v).max((0, 1)) for v in _positions(read)])
            )


def pooled(values: np.ndarray) -> np.ndarray:
    """Map (T, D, C) -> maxima of 2 x 2 pixels, (T / 2, D / 2, C)."""
    frames, bands, channels = values.shape
    found: np.ndarray = values.reshape(frames // 2, 2, bands // 2, 2, channels).max((1, 3))
    return found


def _raise_to(largest: dict[str, np.ndarray], name: str, values: np.ndarray) -> None:
    largest[name] = np.maximum(largest[name], values) if name in largest else values


def _step(name: str, largest: np.ndarray) -> np.ndarray:
    floor = max(float(largest.max()), 1.0) * SMALLEST
    one = HEADROOM / MAP_LEVELS if name.startswith("int8.step.") else 1 / TRANSFORMED_LEVELS
    return (np.maximum(largest, floor) * one).astype(np.float32)
