"""The end of the attention layer in one pass: the mask's projection, upsampling, sigmoid, gate, maximum over bands."""

# A kernel's parameters are pointers and numbers that Triton types at launch.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..support import Support
from ._maps import on_device, runs_here

CHANNELS = (16, 32, 64, 128)  # tl.dot wants at least 16 of them, a power of two
PIXELS = 128  # of a program, in memory order; groups of `pooling` of them never cross a line's end
POOLINGS = (1, 2, 4, 8, 16, 32)


@triton.jit
def _gated_pool(
    low, skip, features, w, bias, out, pixels, rows, columns,
    PROJECTED: tl.constexpr, C: tl.constexpr, POOL: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    # Neither the logits nor the gated map are ever in memory: both large maps are read once, and an eighth is written.
    p = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    c = tl.arange(0, C)
    inside = (p < pixels)[:, None]
    line = p // columns
    half = (line // rows * (rows // 2) + line % rows // 2) * (columns // 2) + p % columns // 2
    z = tl.load(low + half.to(tl.int64)[:, None] * C + c[None, :], mask=inside, other=0.0).to(tl.float32)
    at = p.to(tl.int64)[:, None] * C + c[None, :]
    s = tl.load(skip + at, mask=inside, other=0.0)
    if PROJECTED:
        z += tl.load(bias + c).to(tl.float32)[None, :]
        # Read as (C in, C out) from (C out, C in).
        z = tl.dot(s, tl.load(w + c[None, :] * C + c[:, None]), z)
    else:
        z += s.to(tl.float32)
    f = tl.load(features + at, mask=inside, other=0.0).to(tl.float32)
    gated = (1.0 + tl.sigmoid(z)) * f
    best = tl.max(tl.reshape(gated, (PIXELS // POOL, POOL, C)), 1)
    q = tl.program_id(0) * (PIXELS // POOL) + tl.arange(0, PIXELS // POOL)
    there = (q < pixels // POOL)[:, None]
    tl.store(out + q.to(tl.int64)[:, None] * C + c[None, :], best.to(out.dtype.element_ty), mask=there)


def supports(
    low: Tensor, skip: Tensor, features: Tensor, weight: Tensor | None, bias: Tensor | None, pooling: int
) -> Support:
    channels, rows, columns = features.shape[1:]
    if channels not in CHANNELS:
        return Support.no(f"its kernel takes 16, 32, 64 or 128 channels, not {channels}")
    if pooling not in POOLINGS or columns % pooling or rows % 2 or columns % 2:
        return Support.no(f"its kernel takes even maps and poolings {POOLINGS}, not {rows} x {columns} by {pooling}")
    if weight is not None and features.dtype == torch.float32:
        return Support.no("its projection takes float16 and bfloat16: exact float32 products do not fit its registers")
    if not all(x.is_contiguous(memory_format=torch.channels_last) for x in (low, skip, features)):
        return Support.no("its kernel takes channels-last maps")
    if features.numel() // channels >= 2**31 - PIXELS:
        return Support.no(f"its indices of pixels are 32 bits wide, the map has {features.numel() // channels}")
    return runs_here(features)


def gated_pool(
    low: Tensor, skip: Tensor, features: Tensor, weight: Tensor | None, bias: Tensor | None, pooling: int
) -> Tensor:
    batch, channels, rows, columns = features.shape
    out = torch.empty(
        (batch, channels, rows, columns // pooling),
        dtype=features.dtype,
        device=features.device,
        memory_format=torch.channels_last,
    )
    if out.numel():
        pixels = batch * rows * columns
        w, b = (skip, skip) if weight is None or bias is None else (weight.contiguous(), bias.contiguous())
        with on_device(features):
            _gated_pool[(triton.cdiv(pixels, PIXELS),)](
                low, skip, features, w, b, out, pixels, rows, columns,
                PROJECTED=weight is not None, C=channels, POOL=pooling, PIXELS=PIXELS, num_warps=8,
            )  # fmt: skip
    return out
