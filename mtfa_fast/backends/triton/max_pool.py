"""The maximum of each rectangle of a channels-last map. torch's own also writes where each maximum was, in 64 bits."""

# A kernel's parameters are pointers and numbers that Triton types at launch.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..support import Support
from ._maps import TILE, on_device, runs_here

MOST_CELLS = 16  # of a rectangle: the loop over them is unrolled


@triton.jit
def _pool(x, y, count, columns, C: tl.constexpr, DOWN: tl.constexpr, ACROSS: tl.constexpr, BLOCK: tl.constexpr):
    # Number e of the small map, in memory order, is the maximum of DOWN * ACROSS numbers of the large one; `columns`
    # are the small map's, and a batch's images follow each other without a gap in both.
    e = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = e < count
    c = e % C
    pixel = e // C
    line = pixel // columns
    corner = (line * DOWN * columns * ACROSS + pixel % columns * ACROSS) * C + c
    best = tl.load(x + corner, mask=inside, other=0.0).to(tl.float32)
    for cell in tl.static_range(1, DOWN * ACROSS):
        at = corner + (cell // ACROSS * columns * ACROSS + cell % ACROSS) * C
        v = tl.load(x + at, mask=inside, other=0.0).to(tl.float32)
        best = tl.where((v > best) | (v != v), v, best)  # a NaN spreads, as in torch
    tl.store(y + e, best.to(y.dtype.element_ty), mask=inside)


def supports(x: Tensor, down: int, across: int) -> Support:
    if x.shape[1] > 1 and not x.is_contiguous(memory_format=torch.channels_last):
        return Support.no("its kernel takes channels-last maps")
    if down * across > MOST_CELLS or x.shape[2] % down or x.shape[3] % across:
        return Support.no(f"its kernel takes at most {MOST_CELLS} cells that divide {tuple(x.shape[2:])} evenly")
    if x.numel() >= 2**31 - TILE:
        return Support.no(f"its indices are 32 bits wide, the map has {x.numel()} numbers")
    return runs_here(x)


def max_pool(x: Tensor, down: int, across: int) -> Tensor:
    batch, channels, rows, columns = x.shape
    shape = (batch, channels, rows // down, columns // across)
    out = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    if count := out.numel():
        with on_device(x):
            _pool[(triton.cdiv(count, TILE),)](
                x, out, count, shape[3], C=channels, DOWN=down, ACROSS=across, BLOCK=TILE, num_warps=4
            )
    return out
