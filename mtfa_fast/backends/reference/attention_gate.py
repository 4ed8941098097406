"""(1 + sigmoid(logits)) * features: equation 1 of the paper, and its gradient."""

from __future__ import annotations

import torch
from torch import Tensor


def attention_gate(logits: Tensor, features: Tensor) -> Tensor:
    return (1 + torch.sigmoid(logits)) * features


def attention_gate_backward(grad: Tensor, logits: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of ``logits`` and ``features``."""
    mask = torch.sigmoid(logits)
    through_sigmoid = torch.ops.aten.sigmoid_backward(grad * features, mask)  # times mask * (1 - mask)
    return through_sigmoid, torch.addcmul(grad, grad, mask)
