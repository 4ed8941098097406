"""(1 + sigmoid(logits)) * features, one pass over memory in whichever order it lies (csrc/core/pointwise.h)."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from ... import _core
from ..support import Support
from .arrays import array, supports_type, threads


def supports(logits: Tensor, features: Tensor) -> Support:
    return supports_type(features)


def attention_gate(logits: Tensor, features: Tensor) -> Tensor:
    """Both in one layout, contiguous or channels-last."""
    out = torch.empty_like(features)
    _core.attention_gate(_line(logits), _line(features), _line(out), threads())
    return out


def _line(x: Tensor) -> NDArray[Any]:
    return array((x if x.is_contiguous() else x.permute(0, 2, 3, 1)).view(-1))
