"""Probabilities to runs: threshold, median filter, first and last frame of every run."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def detect_runs(probabilities: Tensor, thresholds: Sequence[float], windows: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(..., T, K) -> runs (..., K, ceil(T / 2), 2) int32, each [first, last + 1], unused ones -1; counts (..., K)."""
    precision = torch.promote_types(probabilities.dtype, torch.float32)
    limits = torch.tensor(thresholds, dtype=precision, device=probabilities.device)
    active = (probabilities.to(precision) > limits).transpose(-1, -2)
    filtered = torch.stack([_majority(active[..., k, :], window) for k, window in enumerate(windows)], dim=-2)
    steps = filtered.shape[-1]
    edges = F.pad(filtered.to(torch.int8), (1, 1)).diff(dim=-1)  # at t: 1 where a run begins, -1 where one ended
    counts = (edges > 0).sum(-1, dtype=torch.int32)
    runs = torch.full((*counts.shape, (steps + 1) // 2 + 1, 2), -1, dtype=torch.int32, device=probabilities.device)
    frames = torch.arange(steps + 1, dtype=torch.int32, device=probabilities.device).expand(edges.shape)
    for column, edge in enumerate((edges > 0, edges < 0)):
        # the run that an edge belongs to; whatever is no edge goes to one place behind the last run
        slot = torch.where(edge, edge.cumsum(-1) - 1, runs.shape[-2] - 1)
        runs[..., column] = runs[..., column].scatter(-1, slot, frames)
    return runs[..., :-1, :].contiguous(), counts


def _majority(active: Tensor, window: int) -> Tensor:
    """The median of ones and zeros: (..., T) bool, zeros beyond the ends."""
    half = window // 2
    return F.pad(active.to(torch.uint8), (half, half)).unfold(-1, window, 1).sum(-1) > half
