"""(1 + sigmoid(skip + upsample(low))) * features, and its gradient: a pass over memory each (csrc/core/pointwise.h)."""

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


def supports_backward(grad: Tensor, low: Tensor, skip: Tensor, features: Tensor) -> Support:
    return supports_pixels(features)


def upsample_add_gate_backward(
    grad: Tensor, low: Tensor, skip: Tensor, features: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``low``, ``skip`` and ``features``."""
    gradients = torch.empty_like(low), torch.empty_like(skip), torch.empty_like(features)
    d_low, d_skip, d_features = map(pixels, gradients)
    _core.upsample_add_gate_backward(
        pixels(grad), pixels(low), pixels(skip), pixels(features), d_low, d_skip, d_features, threads()
    )
    return gradients
