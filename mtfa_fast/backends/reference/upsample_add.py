"""skip + nearest-neighbour upsampling of low by 2, and the gradient of low."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def upsample(low: Tensor, rows: int, columns: int) -> Tensor:
    """(B, C, ceil(rows / 2), ceil(columns / 2)) -> (B, C, rows, columns), each value four times."""
    return F.interpolate(low, scale_factor=2, mode="nearest")[:, :, :rows, :columns]


def upsample_add(low: Tensor, skip: Tensor) -> Tensor:
    return skip + upsample(low, skip.shape[2], skip.shape[3])


def upsample_add_backward(grad: Tensor) -> Tensor:
    """Gradient of ``low``: the sum of each 2 x 2 square of ``grad``, of what there is of it at an odd edge."""
    return F.avg_pool2d(grad, 2, ceil_mode=True, divisor_override=1)
