"""The network's first layer: normalisation, 3x3 convolution from one channel, bias, ReLU."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def stem(log_mel: Tensor, mean: Tensor, std: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
    """log_mel (B, T, D), mean and std (D,), weight (C, 1, 3, 3), bias (C,), one dtype -> (B, C, T, D) in ``dtype``.

    Zeros surround the normalised map. Channels-last memory.
    """
    maps = ((log_mel - mean) / std).unsqueeze(1)
    out = torch.relu_(F.conv2d(maps, weight, bias, padding=1))
    return out.to(dtype).contiguous(memory_format=torch.channels_last)
