"""Nearest-neighbour upsampling and addition in one pass; the gradient of the small map as a 2 x 2 sum."""

# A kernel's parameters are pointers and numbers that Triton types at launch.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from ..support import Support
from ._maps import Planes, empty_map, on_device, place, runs_here


@triton.jit
def _forward(
    low, skip, out, lines, rows, columns, low_rows, low_columns,
    C: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    # A program takes lines of the small map and the two lines of the large one above each: the small map is
    # fetched once for both, and its neighbouring pixel repeats are served by the same load.
    line, p, plane, i = place(low_rows, ROWS, WIDTH)
    inside = (line < lines)[:, None] & (p < columns * C)[None, :]
    small = (line.to(tl.int64) * low_columns * C)[:, None] + (p // C // 2 * C + p % C)[None, :]
    u = tl.load(low + small, mask=inside, other=0.0).to(tl.float32)
    for dy in tl.static_range(2):
        h = 2 * i + dy
        mask = inside & (h < rows)[:, None]
        large = ((plane * rows + h) * columns * C)[:, None] + p[None, :]
        s = tl.load(skip + large, mask=mask, other=0.0).to(tl.float32)
        tl.store(out + large, (s + u).to(out.dtype.element_ty), mask=mask)


@triton.jit
def _backward(
    grad, grad_low, lines, rows, columns, low_rows, low_columns,
    C: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    # Gathers the four gradients of a small pixel instead of scattering: no atomics, the same sum every time.
    line, p, plane, i = place(low_rows, ROWS, WIDTH)
    j = p // C
    inside = (line < lines)[:, None] & (p < low_columns * C)[None, :]
    total = tl.zeros((ROWS, WIDTH), tl.float32)
    for dy in tl.static_range(2):
        for dx in tl.static_range(2):
            h = 2 * i + dy
            w = 2 * j + dx
            mask = inside & (h < rows)[:, None] & (w < columns)[None, :]
            large = ((plane * rows + h) * columns * C)[:, None] + (w * C + p % C)[None, :]
            total += tl.load(grad + large, mask=mask, other=0.0).to(tl.float32)
    small = (line.to(tl.int64) * low_columns * C)[:, None] + p[None, :]
    tl.store(grad_low + small, total.to(grad_low.dtype.element_ty), mask=inside)


def supports(low: Tensor, skip: Tensor) -> Support:
    return runs_here(skip)


def supports_backward(grad: Tensor) -> Support:
    return runs_here(grad)


def upsample_add(low: Tensor, skip: Tensor) -> Tensor:
    out = empty_map(skip)
    if out.numel() == 0:
        return out
    maps = Planes.of(skip)
    low_rows, low_columns = low.shape[2:]
    lines, grid, tile = maps.over(low_rows, maps.columns)
    with on_device(skip):
        _forward[grid](
            low, skip, out, lines, maps.rows, maps.columns, low_rows, low_columns,
            **tile, num_warps=4,
        )  # fmt: skip
    return out


def upsample_add_backward(grad: Tensor) -> Tensor:
    batch, channels, rows, columns = grad.shape
    maps = Planes.of(grad)
    low_rows, low_columns = (rows + 1) // 2, (columns + 1) // 2
    out = empty_map(grad, (batch, channels, low_rows, low_columns))
    if out.numel() == 0:
        return out
    lines, grid, tile = maps.over(low_rows, low_columns)
    with on_device(grad):
        _backward[grid](
            grad, out, lines, rows, columns, low_rows, low_columns,
            **tile, num_warps=4,
        )  # fmt: skip
    return out
