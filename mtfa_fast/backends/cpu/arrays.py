"""CPU tensors as the NumPy arrays that the C++ core takes, and what all its ops ask of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ... import _core
from ..support import Support

PIXEL = 16  # channels in a map's memory: whole vectors of every instruction set
LARGEST_ROW = 1 << 25  # values of one row (one time step) of a map
_BF16_SETS = ("avx512bf16", "amx", "neonbf16")
_MOST_THREADS = 1024
MOST_CHANNELS = 4096


def array(x: Tensor) -> NDArray[Any]:
    """The tensor's own memory; bfloat16, which NumPy does not know, as the int16 of its bits."""
    x = x.detach()
    view: NDArray[Any] = (x.view(torch.int16) if x.dtype == torch.bfloat16 else x).numpy()
    return view


def pixels(x: Tensor) -> NDArray[Any]:
    """A channels-last (B, C, T, D) map as its contiguous (B, T, D, C) memory."""
    return array(x.permute(0, 2, 3, 1))


def threads() -> int:
    """torch's number of threads, so that torch.set_num_threads holds for these ops too."""
    return min(torch.get_num_threads(), _MOST_THREADS)


def supports_type(x: Tensor) -> Support:
    """float32 everywhere, bfloat16 where the instruction set multiplies it."""
    if x.device.type != "cpu":
        return Support.no(f"it takes tensors on cpu, not on {x.device}")
    if x.dtype == torch.float32:
        return Support.yes()
    if x.dtype != torch.bfloat16:
        return Support.no(f"its kernels take float32 and bfloat16, not {x.dtype}")
    if _core.chosen_isa() not in _BF16_SETS:
        return Support.no(f"its kernels for bfloat16 need AVX-512 BF16; this process uses {_core.chosen_isa()}")
    return Support.yes()


def supports_pixels(x: Tensor) -> Support:
    """Maps whose channels lie together in memory and fill whole vectors."""
    channels, width = x.shape[1], x.shape[3]
    if not x.is_contiguous(memory_format=torch.channels_last):
        return Support.no("its kernels take channels-last maps, not contiguous ones")
    if channels == 0 or channels % PIXEL:
        return Support.no(f"its kernels take channels in multiples of {PIXEL}, not {channels}")
    if channels * width >= LARGEST_ROW:
        return Support.no(f"its kernels take channels * D < {LARGEST_ROW}, not {channels * width}")
    return supports_type(x)


def supports_training(x: Tensor) -> Support:
    """Maps of any layout, whose pixels are whole vectors: one that is not channels-last is copied."""
    channels, width = x.shape[1], x.shape[3]
    if channels == 0 or channels % PIXEL:
        return Support.no(f"its kernels take channels in multiples of {PIXEL}, not {channels}")
    if channels > MOST_CHANNELS or channels * width >= LARGEST_ROW:
        return Support.no(
            f"its kernels take channels <= {MOST_CHANNELS} and channels * D < {LARGEST_ROW}, not {channels} and "
            f"{channels * width}"
        )
    return supports_type(x)


def channels_last(x: Tensor) -> NDArray[Any]:
    """:func:`pixels` of a map of any layout, copied where it has to be."""
    return pixels(x.contiguous(memory_format=torch.channels_last))


def training_weight(weight: Tensor) -> NDArray[Any]:
    """A convolution's (C, C, 3, 3) as training's kernels pack it, each step anew.

    Copied by NumPy: torch would wake its threads for it, which costs more than the copy.
    """
    return np.ascontiguousarray(array(weight.float()))
