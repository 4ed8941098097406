"""The maximum of each rectangle of a feature map."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def max_pool(x: Tensor, down: int, across: int) -> Tensor:
    """(B, C, T, D) -> (B, C, T / down, D / across), which divide evenly; the layout stays. A NaN spreads."""
    return F.max_pool2d(x, (down, across))
