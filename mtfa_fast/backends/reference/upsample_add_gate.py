"""(1 + sigmoid(skip + upsample(low))) * features, and its gradient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def _logits(low: Tensor, skip: Tensor) -> Tensor:
    up = low.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    return skip + up[:, :, : skip.shape[2], : skip.shape[3]]


def upsample_add_gate(low: Tensor, skip: Tensor, features: Tensor) -> Tensor:
    return (1 + torch.sigmoid(_logits(low, skip))) * features


def upsample_add_gate_backward(
    grad: Tensor, low: Tensor, skip: Tensor, features: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of ``low``, ``skip`` and ``features``."""
    mask = torch.sigmoid(_logits(low, skip))
    grad_skip = grad * features * mask * (1 - mask)
    rows, columns = grad.shape[2:]
    padded = F.pad(grad_skip, (0, columns % 2, 0, rows % 2))
    grad_low = padded.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).sum((3, 5))
    return grad_low, grad_skip, grad * (1 + mask)
