"""Probabilities to runs, clip by clip (csrc/core/detect_runs.h)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ... import _core
from ..support import Support
from .arrays import array

LONGEST = 2**31 - 1  # frames are told in int32


def supports(probabilities: Tensor, thresholds: Sequence[float], windows: Sequence[int]) -> Support:
    if probabilities.device.type != "cpu":
        return Support.no(f"it takes tensors on cpu, not on {probabilities.device}")
    if probabilities.shape[-2] > LONGEST:
        return Support.no(f"it takes at most {LONGEST} frames, not {probabilities.shape[-2]}")
    return Support.yes()


def detect_runs(probabilities: Tensor, thresholds: Sequence[float], windows: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(..., T, K) -> runs (..., K, ceil(T / 2), 2) int32, each [first, last + 1], unused ones -1; counts (..., K)."""
    *leading, steps, classes = probabilities.shape
    wide = probabilities if probabilities.dtype == torch.float64 else probabilities.float()
    runs = np.full((int(np.prod(leading)), classes, (steps + 1) // 2, 2), -1, np.int32)
    counts = np.zeros(runs.shape[:2], np.int32)
    for index, clip in enumerate(array(wide.contiguous()).reshape(-1, steps, classes)):
        event_classes, bounds, _ = _core.detect_runs(clip, thresholds, windows)
        counts[index] = np.bincount(event_classes, minlength=classes)
        before = np.cumsum(counts[index]) - counts[index]  # runs come in order of class, then time
        runs[index, event_classes, np.arange(len(bounds)) - before[event_classes]] = bounds
    return (
        torch.from_numpy(runs).reshape(*leading, classes, (steps + 1) // 2, 2),
        torch.from_numpy(counts).reshape(*leading, classes),
    )
