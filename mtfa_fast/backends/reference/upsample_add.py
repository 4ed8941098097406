"""skip + nearest-neighbour upsampling of low by 2, and the gradient of low."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def upsample(low: Tensor, rows: int, columns: int) -> Tensor:
    """(B, C, ceil(rows / 2), ceil(columns / 2)) -> (B, C, rows, columns), each value four times."""
    return low.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)[:, :, :rows, :columns]


def upsample_add(low: Tensor, skip: Tensor) -> Tensor:
    return skip + upsample(low, skip.shape[2], skip.shape[3])


def upsample_add_backward(grad: Tensor) -> Tensor:
    """Gradient of ``low``: the sum of each 2 x 2 square of ``grad``, a missing row or column counts as zero."""
    rows, columns = grad.shape[2:]
    padded = F.pad(grad, (0, columns % 2, 0, rows % 2))
    return padded.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).sum((3, 5))
