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

PIXELS = 64  # of a program: with 64 channels 32 sums a thread
MAX_CHANNELS = 128


@triton.jit
def _stem(
    x, mean, std, w, bias, y, rows, columns, pixels,
    C: tl.constexpr, SIDE: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    # A thread's channels share the nine values around a pixel, which come from the first-level cache.
    p = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    c = tl.arange(0, SIDE)
    real = c < C
    inside = p < pixels
    line = p // columns
    d = p % columns
    t = line % rows
    sums = tl.zeros((PIXELS, SIDE), tl.float32) + tl.load(bias + c, mask=real, other=0.0)[None, :]
    for tap in tl.static_range(9):
        dy = tap // 3 - 1
        dx = tap % 3 - 1
        # Zeros surround the normalised map, so they come after the normalisation.
        there = inside & (t + dy >= 0) & (t + dy < rows) & (d + dx >= 0) & (d + dx < columns)
        v = tl.load(x + (line + dy).to(tl.int64) * columns + d + dx, mask=there, other=0.0)
        m = tl.load(mean + d + dx, mask=there, other=0.0)
        s = tl.load(std + d + dx, mask=there, other=1.0)
        sums += ((v - m) / s)[:, None] * tl.load(w + c * 9 + tap, mask=real, other=0.0)[None, :]
    out = y + p.to(tl.int64)[:, None] * C + c[None, :]
    tl.store(out, tl.maximum(sums, 0.0).to(y.dtype.element_ty), mask=inside[:, None] & real[None, :])


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
        arrays = [x.contiguous() for x in (log_mel, mean, std, weight, bias)]
        with on_device(log_mel):
            _stem[(triton.cdiv(pixels, PIXELS),)](
                *arrays, out, rows, columns, pixels,
                C=channels, SIDE=triton.next_power_of_2(channels), PIXELS=PIXELS, num_warps=4,
            )  # fmt: skip
    return out
