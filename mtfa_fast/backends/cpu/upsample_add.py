"""skip + nearest-neighbour upsampling by 2, and its gradient, a pass over memory each (csrc/core/pointwise.h)."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import _core
from ..support import Support
from .arrays import pixels, supports_pixels, threads


def supports(low: Tensor, skip: Tensor) -> Support:
    return supports_pixels(skip)


def upsample_add(low: Tensor, skip: Tensor) -> Tensor:
    out = torch.empty_like(skip)
    _core.upsample_add(pixels(low), pixels(skip), pixels(out), threads())
    return out


def supports_backward(grad: Tensor) -> Support:
    return supports_pixels(grad)


def upsample_add_backward(grad: Tensor) -> Tensor:
    """Gradient of ``low``."""
    batch, channels, rows, columns = grad.shape
    shape = (batch, channels, (rows + 1) // 2, (columns + 1) // 2)
    d_low = torch.empty(shape, dtype=grad.dtype, memory_format=torch.channels_last)
    _core.upsample_add_backward(pixels(grad), pixels(d_low), threads())
    return d_low
