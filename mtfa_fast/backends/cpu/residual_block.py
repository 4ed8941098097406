"""relu(conv2(relu(conv1(x))) + x): rows of both convolutions stream through the cache (csrc/core/residual_block.h).

A NaN or an infinity reaches one pixel further than the 3x3 windows: Winograd's convolution works on squares of 4 x 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from ... import _core
from ..support import Support
from .arrays import LARGEST_ROW, MOST_CHANNELS, PIXEL, array, supports_type, threads
from .packed import PackedWeights


def _pack(weights: Sequence[NDArray[Any]], dtype: torch.dtype) -> _core.ResidualBlock | _core.ResidualBlockBf16:
    kind = _core.ResidualBlockBf16 if dtype == torch.bfloat16 else _core.ResidualBlock
    return kind(*weights)


_packed = PackedWeights(_pack)


def supports(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Support:
    channels, width = x.shape[1], x.shape[3]
    if not 1 <= channels <= MOST_CHANNELS:
        return Support.no(f"its kernels take 1 to {MOST_CHANNELS} channels, not {channels}")
    padded = -(-channels // PIXEL) * PIXEL
    if padded * width >= LARGEST_ROW:
        return Support.no(f"its kernels take channels * D < {LARGEST_ROW}, not {padded * width}")
    return supports_type(x)


def residual_block(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """Any layout: a row is brought into the kernels' order on its way into the cache, and back on its way out."""
    out = torch.empty_like(x)
    _packed.get(w1, (w1, b1, w2, b2)).run(array(x), array(out), threads())
    return out
