"""The same recording under two names, found by what it sounds like: at another level, in another format or rate."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

SLICES = 64  # of a sound, whose levels are compared first
ALIKE = 0.95  # correlation of those levels that makes a pair worth a closer look
SAME = 0.9  # correlation of the waves that makes them one recording
_COMPARED = 1 << 18  # samples of each wave
_SHIFT = 1 << 10  # samples by which one may begin later: an encoder's delay


def require_no_copies(kept: Iterable[tuple[str, NDArray[Any]]], held: Iterable[tuple[str, NDArray[Any]]]) -> None:
    """ValueError naming two sounds, one of ``kept`` and one of ``held`` as (name, wave (n,)), that are one recording.

    Both begin with the same sound and are as long to 2 %; a part of a recording is not found.
    """
    kept, held = list(kept), list(held)
    if not kept or not held:
        return
    alike = _levels(kept) @ _levels(held).T > ALIKE
    lengths = np.array([len(w) for _, w in kept])[:, None] / np.array([len(w) for _, w in held])
    for i, j in np.argwhere(alike & (np.abs(np.log(lengths)) < 0.02)):
        (name, wave), (other, second) = kept[i], held[j]
        if _correlation(wave, second) > SAME:
            raise ValueError(
                f"folds: {name} and {other} are the same recording, one to train on and one held out; allowed: the "
                "same group or source_id in metadata.csv, or one of the two"
            )


def _levels(sounds: list[tuple[str, NDArray[Any]]]) -> NDArray[np.float32]:
    """Levels over time in dB, (S, SLICES), without their mean and of length 1; zeros for one that does not vary."""
    rows = np.zeros((len(sounds), SLICES), np.float32)
    for row, (_, wave) in zip(rows, sounds, strict=True):
        edges = np.linspace(0, len(wave), SLICES + 1).astype(np.int64)
        if len(wave) >= SLICES:
            power = np.add.reduceat(np.square(wave, dtype=np.float32), edges[:-1]) / np.diff(edges)
            row[:] = np.log(power + 1e-6 * power.max() + 1e-20)
    rows -= rows.mean(1, keepdims=True)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def _correlation(wave: NDArray[Any], other: NDArray[Any]) -> float:
    """The highest of the two waves' beginnings, either up to _SHIFT samples later."""
    n = min(len(wave), len(other), _COMPARED)
    first, second = (w[:n].astype(np.float32) for w in (wave, other))
    scale = float(np.linalg.norm(first) * np.linalg.norm(second))
    size = 1 << (2 * n - 1).bit_length()
    found = np.fft.irfft(np.fft.rfft(first, size) * np.conj(np.fft.rfft(second, size)), size)
    return float(max(found[:_SHIFT].max(), found[-_SHIFT:].max())) / scale if scale else 0.0
