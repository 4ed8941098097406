"""relu(norm2(conv2(relu(norm1(conv1(x))))) + x) with batch norm by the batch's statistics, and its gradient."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.grad import conv2d_input, conv2d_weight

OVER = (0, 2, 3)


def residual_block_train(
    x: Tensor, w1: Tensor, scale1: Tensor, shift1: Tensor, w2: Tensor, scale2: Tensor, shift2: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The result; statistics (4, C), mean and biased variance of y1 and y2; y1 and y2, the convolutions' results."""
    y1 = F.conv2d(x, w1, padding=1)
    first = _moments(y1)
    y2 = F.conv2d(_normalized(y1, first, scale1, shift1, eps).relu(), w2, padding=1)
    second = _moments(y2)
    out = (_normalized(y2, second, scale2, shift2, eps) + x).relu()
    return out, torch.stack([*first, *second]), y1, y2


def residual_block_train_backward(
    grad: Tensor,
    x: Tensor,
    w1: Tensor,
    scale1: Tensor,
    shift1: Tensor,
    w2: Tensor,
    scale2: Tensor,
    shift2: Tensor,
    eps: float,
    out: Tensor,
    statistics: Tensor,
    y1: Tensor,
    y2: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of ``x`` to ``shift2``."""
    first, second = (statistics[0], statistics[1]), (statistics[2], statistics[3])
    outer = grad.masked_fill(out <= 0, 0)
    d_y2, d_scale2, d_shift2 = _norm_gradient(outer, y2, second, scale2, eps)
    inner = _normalized(y1, first, scale1, shift1, eps).relu()
    d_w2 = conv2d_weight(inner, w2.shape, d_y2, padding=1)
    d_inner = conv2d_input(inner.shape, w2, d_y2, padding=1).masked_fill(inner <= 0, 0)
    d_y1, d_scale1, d_shift1 = _norm_gradient(d_inner, y1, first, scale1, eps)
    d_w1 = conv2d_weight(x, w1.shape, d_y1, padding=1)
    d_x = conv2d_input(x.shape, w1, d_y1, padding=1) + outer
    return d_x, d_w1, d_scale1, d_shift1, d_w2, d_scale2, d_shift2


def _moments(y: Tensor) -> tuple[Tensor, Tensor]:
    exact = y.to(torch.promote_types(y.dtype, torch.float32))
    variance, mean = torch.var_mean(exact, OVER, correction=0)
    return mean, variance


def _channels(vector: Tensor) -> Tensor:
    return vector[:, None, None]


def _standard(y: Tensor, moments: tuple[Tensor, Tensor], eps: float) -> Tensor:
    mean, variance = moments
    return (y - _channels(mean)) * _channels((variance + eps).rsqrt())


def _normalized(y: Tensor, moments: tuple[Tensor, Tensor], scale: Tensor, shift: Tensor, eps: float) -> Tensor:
    return (_standard(y, moments, eps) * _channels(scale) + _channels(shift)).to(y.dtype)


def _norm_gradient(
    grad: Tensor, y: Tensor, moments: tuple[Tensor, Tensor], scale: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of the normalised map, its scale and its shift."""
    standard, exact = _standard(y, moments, eps), grad.to(moments[0].dtype)
    d_scale, d_shift = (exact * standard).sum(OVER), exact.sum(OVER)
    count = y.numel() // y.shape[1]
    d_y = exact - _channels(d_shift / count) - standard * _channels(d_scale / count)
    return (d_y * _channels(scale * (moments[1] + eps).rsqrt())).to(y.dtype), d_scale, d_shift
