"""A residual block in training: Winograd, norms in its passes over memory (csrc/core/block_training.h).

A NaN or an infinity reaches one pixel further in time and three in mel than the 3x3 windows, for Winograd's convolution
works on blocks; the norms carry it everywhere anyway.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ... import _core
from ..support import Support
from .arrays import array, channels_last, pixels, supports_training, threads, training_weight

LAST = torch.channels_last


def supports(
    x: Tensor, w1: Tensor, scale1: Tensor, shift1: Tensor, w2: Tensor, scale2: Tensor, shift2: Tensor, eps: float
) -> Support:
    return supports_training(x)


def residual_block_train(
    x: Tensor, w1: Tensor, scale1: Tensor, shift1: Tensor, w2: Tensor, scale2: Tensor, shift2: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The result, statistics (4, C) and the convolutions' results, channels-last."""
    out, y1, y2 = (torch.empty_like(x, memory_format=LAST) for _ in range(3))
    statistics = torch.empty(4, x.shape[1])
    norms = torch.stack([scale1, shift1, scale2, shift2])
    _core.block_training_forward(
        channels_last(x),
        training_weight(w1),
        training_weight(w2),
        array(norms),
        eps,
        pixels(y1),
        pixels(y2),
        pixels(out),
        array(statistics),
        threads(),
    )
    return out, statistics, y1, y2


def supports_backward(grad: Tensor, x: Tensor, *_: Any) -> Support:
    return supports_training(x)


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
    """Gradients of ``x`` to ``shift2``, maps and weights channels-last."""
    d_x = torch.empty_like(x, memory_format=LAST)
    d_w1, d_w2 = (torch.empty_like(w, dtype=torch.float32, memory_format=LAST) for w in (w1, w2))
    norms = torch.stack([scale1, shift1, scale2, shift2])
    d_norms = torch.empty_like(norms)
    _core.block_training_backward(
        channels_last(grad),
        channels_last(x),
        channels_last(y1),
        channels_last(y2),
        channels_last(out),
        array(statistics.contiguous()),
        training_weight(w1),
        training_weight(w2),
        array(norms),
        eps,
        pixels(d_x),
        pixels(d_w1),
        pixels(d_w2),
        array(d_norms),
        threads(),
    )
    d_scale1, d_shift1, d_scale2, d_shift2 = d_norms.unbind()
    # Views of one tensor may not leave an op that promises new ones.
    return d_x, d_w1, d_scale1.clone(), d_shift1.clone(), d_w2, d_scale2.clone(), d_shift2.clone()
