"""The smallest score an event must have, decided on the device without waiting for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def keep_scored(
    probabilities: Tensor, runs: Tensor, counts: Tensor, minimum_scores: Sequence[float]
) -> tuple[Tensor, Tensor]:
    """Runs that hold a frame of at least their class's minimum score, moved to the front, and their counts.

    probabilities (B, T, K); runs and counts as of :func:`mtfa_fast.ops.detect_runs`, and so is what comes back.
    """
    if not any(minimum_scores):
        return runs, counts
    least = torch.tensor(minimum_scores, dtype=torch.float32).to(probabilities.device, non_blocking=True)
    reached = torch.nn.functional.pad((probabilities.transpose(1, 2) >= least[:, None]).cumsum(2), (1, 0))
    first, behind = runs.clamp_min(0).long().unbind(3)
    kept = (least[:, None] == 0) & (runs[..., 0] >= 0) | (reached.gather(2, behind) > reached.gather(2, first))
    order = torch.argsort(kept.to(torch.uint8), dim=2, descending=True, stable=True)
    moved = runs.gather(2, order[..., None].expand_as(runs))
    return moved.masked_fill(~kept.gather(2, order)[..., None], -1), kept.sum(2, dtype=torch.int32)
