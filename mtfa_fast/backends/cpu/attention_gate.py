"""(1 + sigmoid(logits)) * features, and its gradient: a pass over memory each, in any order (csrc/core/pointwise.h)."""

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


def supports_backward(grad: Tensor, logits: Tensor, features: Tensor) -> Support:
    return supports_type(features)


def attention_gate_backward(grad: Tensor, logits: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of ``logits`` and ``features``, all in one layout."""
    gradients = torch.empty_like(logits), torch.empty_like(features)
    d_logits, d_features = map(_line, gradients)
    _core.attention_gate_backward(_line(grad), _line(logits), _line(features), d_logits, d_features, threads())
    return gradients


def _line(x: Tensor) -> NDArray[Any]:
    return array((x if x.is_contiguous() else x.permute(0, 2, 3, 1)).view(-1))
