"""(1 + sigmoid(skip + upsample(low))) * features, one pass over memory (csrc/core/pointwise.h)."""

from __future__ import annotations

import torch
from torch import Tensor

from ... import _core
from ..support import Support
from .arrays import pixels, supports_pixels, threads


def supports(low: Tensor, skip: Tensor, features: Tensor) -> Support:
    return supports_pixels(features)


def upsample_add_gate(low: Tensor, skip: Tensor, features: Tensor) -> Tensor:
    out = torch.empty_like(features)
    _core.upsample_add_gate(pixels(low), pixels(skip), pixels(features), pixels(out), threads())
    return out
