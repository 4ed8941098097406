"""(1 + sigmoid(skip + upsample(low))) * features: two large maps and a quarter-size one in, one out."""

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
    low, skip, features, out, lines, rows, columns, low_rows, low_columns,
    C: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    # A program takes lines of the small map and the two lines of the large ones above each: the small map is
    # fetched once for both, and its neighbouring pixel repeats are served by the same load.
    line, p, plane, i = place(low_rows, ROWS, WIDTH)
    inside = (line < lines)[:, None] & (p < columns * C)[None, :]
    small = (line.to(tl.int64) * low_columns * C)[:, None] + (p // C // 2 * C + p % C)[None, :]
    u = tl.load(low + small, mask=inside, other=0.0).to(tl.float32)
    for dy in tl.static_range(2):
        h = 2 * i + dy
        mask = inside & (h < rows)[:, None]
        large = ((plane * rows + h) * columns * C)[:, None] + p[None, :]
        z = tl.load(skip + large, mask=mask, other=0.0).to(tl.float32) + u
        f = tl.load(features + large, mask=mask, other=0.0).to(tl.float32)
        tl.store(out + large, ((1.0 + tl.sigmoid(z)) * f).to(out.dtype.element_ty), mask=mask)


@triton.jit
def _backward(
    grad, low, skip, features, grad_low, grad_skip, grad_features, lines, rows, columns, low_rows, low_columns,
    C: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    # A program owns pixels of the small map and the four large pixels of each: all three gradients come from
    # one visit, and the small one's sum needs no atomics. The mask is computed again rather than kept.
    line, p, plane, i = place(low_rows, ROWS, WIDTH)
    j = p // C
    inside = (line < lines)[:, None] & (p < low_columns * C)[None, :]
    small = (line.to(tl.int64) * low_columns * C)[:, None] + p[None, :]
    u = tl.load(low + small, mask=inside, other=0.0).to(tl.float32)
    total = tl.zeros((ROWS, WIDTH), tl.float32)
    for dy in tl.static_range(2):
        for dx in tl.static_range(2):
            h = 2 * i + dy
            w = 2 * j + dx
            mask = inside & (h < rows)[:, None] & (w < columns)[None, :]
            large = ((plane * rows + h) * columns * C)[:, None] + (w * C + p % C)[None, :]
            g = tl.load(grad + large, mask=mask, other=0.0).to(tl.float32)
            m = tl.sigmoid(tl.load(skip + large, mask=mask, other=0.0).to(tl.float32) + u)
            f = tl.load(features + large, mask=mask, other=0.0).to(tl.float32)
            d = g * f * m * (1.0 - m)
            tl.store(grad_skip + large, d.to(grad_skip.dtype.element_ty), mask=mask)
            tl.store(grad_features + large, (g * (1.0 + m)).to(grad_features.dtype.element_ty), mask=mask)
            total += d
    tl.store(grad_low + small, total.to(grad_low.dtype.element_ty), mask=inside)


def supports(low: Tensor, skip: Tensor, features: Tensor) -> Support:
    return runs_here(features)


def supports_backward(grad: Tensor, low: Tensor, skip: Tensor, features: Tensor) -> Support:
    return runs_here(features)


def upsample_add_gate(low: Tensor, skip: Tensor, features: Tensor) -> Tensor:
    out = empty_map(features)
    if out.numel() == 0:
        return out
    maps = Planes.of(features)
    low_rows, low_columns = low.shape[2:]
    lines, grid, tile = maps.over(low_rows, maps.columns)
    with on_device(features):
        _forward[grid](
            low, skip, features, out, lines, maps.rows, maps.columns, low_rows, low_columns,
            **tile, num_warps=4,
        )  # fmt: skip
    return out


def upsample_add_gate_backward(
    grad: Tensor, low: Tensor, skip: Tensor, features: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    grad_skip, grad_features = empty_map(features), empty_map(features)
    grad_low = empty_map(features, tuple(low.shape))
    if features.numel() == 0:
        return grad_low, grad_skip, grad_features
    maps = Planes.of(features)
    low_rows, low_columns = low.shape[2:]
    lines, grid, tile = maps.over(low_rows, low_columns)
    with on_device(features):
        _backward[grid](
            grad, low, skip, features, grad_low, grad_skip, grad_features,
            lines, maps.rows, maps.columns, low_rows, low_columns,
            **tile, num_warps=8,
        )  # fmt: skip
    return grad_low, grad_skip, grad_features
