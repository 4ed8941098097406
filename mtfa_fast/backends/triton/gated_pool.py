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
PIXELS = 128  # of a program; groups of `pooling` of them, neighbours in memory, never cross a line's end
POOLINGS = (1, 2, 4, 8, 16, 32)
MINUS_LOG2_E = tl.constexpr(-1.4426950408889634)


def warps(channels: int) -> int:
    """64 sums a thread, and for up to 64 channels two of a product's tiles a warp, as ``_order`` has it."""
    return 4 if channels <= 64 else 8


@triton.jit
def _order(n, POOL: tl.constexpr):
    # Which pixel of the tile is row n of the product. A thread holds rows n, n + 8, n + 64 and n + 72 of its result, so
    # these are neighbours of one group: their maximum then needs no other thread, and a shuffle takes what is left.
    if POOL < 4:
        return n
    quarter = n // 16 % 4 * 8 + n % 8
    shared = POOL // 4  # threads of a group
    return quarter // shared * POOL + (n // 64 * 2 + n // 8 % 2) * shared + quarter % shared


@triton.jit
def _largest(x, POOL: tl.constexpr, PIXELS: tl.constexpr, C: tl.constexpr):
    if POOL < 4:
        return tl.max(tl.reshape(x, (PIXELS // POOL, POOL, C)), 1)
    x = tl.max(tl.reshape(x, (2, PIXELS // 32, 2, 8, C)), 0)
    x = tl.max(x, 1)
    return tl.max(tl.reshape(x, (PIXELS // POOL, POOL // 4, C)), 1)


@triton.jit
def _gated_pool(
    low, skip, features, w, bias, out, pixels, rows, columns,
    PROJECTED: tl.constexpr, C: tl.constexpr, POOL: tl.constexpr, PIXELS: tl.constexpr,
):  # fmt: skip
    # Neither the logits nor the gated map are ever in memory: both large maps are read once, and an eighth is written.
    first = tl.program_id(0) * PIXELS
    i = _order(tl.arange(0, PIXELS), POOL)
    p = first + i
    c = tl.arange(0, C)
    inside = (p < pixels)[:, None]
    line = p // columns
    d = p - line * columns
    image = line // rows
    half = (image * (rows // 2) + (line - image * rows) // 2) * (columns // 2) + d // 2
    z = tl.load(low + half.to(tl.int64)[:, None] * C + c[None, :], mask=inside, other=0.0).to(tl.float32)
    start = first.to(tl.int64) * C
    at = i[:, None] * C + c[None, :]
    s = tl.load(skip + start + at, mask=inside, other=0.0)
    f = tl.load(features + start + at, mask=inside, other=0.0)
    if PROJECTED:
        z += tl.load(bias + c).to(tl.float32)[None, :]
        # Read as (C in, C out) from (C out, C in).
        z = tl.dot(s, tl.load(w + c[None, :] * C + c[:, None]), z)
    else:
        z += s.to(tl.float32)
    # sigmoid(z) = 1 / (1 + e) as a square: a division is ten instructions, and this kernel has 30 a number.
    root = tl.rsqrt(1.0 + tl.exp2(z * MINUS_LOG2_E))
    f = f.to(tl.float32)
    best = _largest(f + f * (root * root), POOL, PIXELS, C)
    q = tl.arange(0, PIXELS // POOL)
    there = (q < (pixels - first) // POOL)[:, None]
    tl.store(out + start // POOL + (q[:, None] * C + c[None, :]), best.to(out.dtype.element_ty), mask=there)


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
                PROJECTED=weight is not None, C=channels, POOL=pooling, PIXELS=PIXELS,
                num_warps=warps(channels),
            )  # fmt: skip
    return out
