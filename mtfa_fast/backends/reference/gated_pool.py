"""The end of the attention layer: the mask's projection, upsampling, sigmoid, gate, maximum over groups of bands."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from .upsample_add_gate import upsample_add_gate


def gated_pool(
    low: Tensor, skip: Tensor, features: Tensor, weight: Tensor | None, bias: Tensor | None, pooling: int
) -> Tensor:
    """skip, features (B, C, T, D), low (B, C, T / 2, D / 2), weight (C, C), bias (C,) -> (B, C, T, D / pooling).

    ``low`` is projected already, because the projection W commutes with upsampling: W(skip + up(low)) = W skip +
    up(W low). Without ``weight`` nothing is projected.
    """
    if weight is not None:
        skip = F.conv2d(skip, weight[:, :, None, None], bias)
    return F.max_pool2d(upsample_add_gate(low, skip, features), (1, pooling))
