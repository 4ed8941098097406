"""A 3x3 convolution with zero padding, and its gradients."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight


def conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(x, weight, padding=1)


def conv3x3_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of ``x`` and ``weight``."""
    return conv2d_input(x.shape, weight, grad, padding=1), conv2d_weight(x, weight.shape, grad, padding=1)
