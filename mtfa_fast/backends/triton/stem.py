"""Normalisation, the 3x3 convolution from one channel, bias, ReLU and the cast in one pass: it writes, hardly reads."""

# A kernel's parameters are pointers and numbers that Triton types at launch.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..support import Support
from ._maps import FLOATS, on_device, on_gpu_or_interpreted

PIXELS = 128  # of a program: with 64 channels 64 sums a thread
MAX_CHANNELS = 128


@triton.jit
def _stem(
    x, mean, std, w, bias, y, rows, columns, pixels,
    C: tl.constexpr, SIDE: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    # It must write as fast as memory takes it, and nine products a number are two thirds of the instructions that leaves
    # time for. So: as many pixels as threads, each normalised once and handed out through shared memory; weights (9, C),
    # which are read 16 bytes at a time; a division for three values instead of for each; one address for each line.
    first = tl.program_id(0) * PIXELS
    i = tl.arange(0, PIXELS)
    p = first + i
    c = tl.arange(0, SIDE)
    real = c < C
    inside = p < pixels
    line = p // columns
    d = p - line * columns
    t = line - line // rows * rows
    sums = tl.broadcast_to(tl.load(bias + c, mask=real, other=0.0)[None, :], (PIXELS, SIDE))
    here = x + p
    for dx in tl.static_range(-1, 2):
        across = inside if dx == 0 else inside & ((d > 0) if dx < 0 else (d < columns - 1))
        m = tl.load(mean + d + dx, mask=across, other=0.0)
        inverse = 1.0 / tl.load(std + d + dx, mask=across, other=1.0)
        for dy in tl.static_range(-1, 2):
            there = across if dy == 0 else across & ((t > 0) if dy < 0 else (t < rows - 1))
            v = tl.load(here + dy * columns + dx, mask=there, other=0.0)
            v = tl.where(there, (v - m) * inverse, 0.0)  # zeros surround the normalised map
            sums += v[:, None] * tl.load(w + (dy * 3 + dx + 4) * C + c, mask=real, other=0.0)[None, :]
    out = y + first.to(tl.int64) * C + (i[:, None] * C + c[None, :])
    keep = (i < pixels - first)[:, None]
    if SIDE != C:
        keep = keep & real[None, :]
    tl.store(out, tl.maximum(sums, 0.0).to(y.dtype.element_ty), mask=keep)


def supports(log_mel: Tensor, mean: Tensor, std: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Support:
    if log_mel.dtype != torch.float32 or dtype not in FLOATS:
        return Support.no(f"its kernel makes float32, float16 or bfloat16 of float32, not {dtype} of {log_mel.dtype}")
    if weight.shape[0] > MAX_CHANNELS:
        return Support.no(f"its kernel has at most {MAX_CHANNELS} channels, not {weight.shape[0]}")
    if log_mel.numel() >= 2**31 - PIXELS:
        return Support.no(f"its indices are 32 bits wide, the batch has {log_mel.numel()} pixels")
    return on_gpu_or_interpreted(log_mel)


def stem(log_mel: Tensor, mean: Tensor, std: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> Tensor:
    batch, rows, columns = log_mel.shape
    channels = weight.shape[0]
    out = torch.empty(
        (batch, channels, rows, columns), dtype=dtype, device=log_mel.device, memory_format=torch.channels_last
    )
    if out.numel():
        pixels = log_mel.numel()
        taps_first = weight.flatten(1).t()  # no copy where memory holds them in this order, as the engine's does
        arrays = [x.contiguous() for x in (log_mel, mean, std, taps_first, bias)]
        with on_device(log_mel):
            _stem[(triton.cdiv(pixels, PIXELS),)](
                *arrays, out, rows, columns, pixels,
                C=channels, SIDE=triton.next_power_of_2(channels), PIXELS=PIXELS, num_warps=4,
            )  # fmt: skip
    return out
