"""skip + nearest-neighbour upsampling of low by 2, one pass over memory (csrc/core/pointwise.h)."""

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
