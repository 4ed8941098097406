"""Median along time with zeros beyond the ends (csrc/core/median_filter.h)."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import _core
from ..support import Support
from .arrays import array

HALVES = (torch.float16, torch.bfloat16)


def supports(x: Tensor, window: int) -> Support:
    return Support.yes() if x.device.type == "cpu" else Support.no(f"it takes tensors on cpu, not on {x.device}")


def median_filter(x: Tensor, window: int) -> Tensor:
    """float16 and bfloat16 go through float32 and back without rounding: a median is one of its inputs or 0."""
    wide = x.float() if x.dtype in HALVES else x
    return torch.from_numpy(_core.median_filter(array(wide), window)).to(x.dtype)
