"""A 3x3 convolution and its gradients by Winograd (csrc/core/block_training.h).

A NaN or an infinity reaches one pixel further in time and three in mel than the 3x3 windows: blocks have that size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ... import _core
from ..support import Support
from .arrays import channels_last, pixels, supports_training, threads, training_weight


def supports(x: Tensor, weight: Tensor) -> Support:
    return supports_training(x)


def conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    """Channels-last whatever ``x`` is."""
    out = torch.empty_like(x, memory_format=torch.channels_last)
    _core.conv3x3(channels_last(x), training_weight(weight), pixels(out), threads())
    return out


def supports_backward(grad: Tensor, x: Tensor, weight: Tensor) -> Support:
    return supports_training(x)


def conv3x3_backward(grad: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of ``x`` and ``weight``, channels-last."""
    d_x = torch.empty_like(x, memory_format=torch.channels_last)
    d_weight = torch.empty_like(weight, dtype=torch.float32, memory_format=torch.channels_last)
    _core.conv3x3_backward(
        channels_last(grad), channels_last(x), training_weight(weight), pixels(d_x), pixels(d_weight), threads()
    )
    return d_x, d_weight
