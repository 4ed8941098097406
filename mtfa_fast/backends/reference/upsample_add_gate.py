"""(1 + sigmoid(skip + upsample(low))) * features, and its gradient."""

from __future__ import annotations

from torch import Tensor

from .attention_gate import attention_gate, attention_gate_backward
from .upsample_add import upsample_add, upsample_add_backward


def upsample_add_gate(low: Tensor, skip: Tensor, features: Tensor) -> Tensor:
    return attention_gate(upsample_add(low, skip), features)


def upsample_add_gate_backward(
    grad: Tensor, low: Tensor, skip: Tensor, features: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``low``, ``skip`` and ``features``."""
    grad_skip, grad_features = attention_gate_backward(grad, upsample_add(low, skip), features)
    return upsample_add_backward(grad_skip), grad_skip, grad_features
