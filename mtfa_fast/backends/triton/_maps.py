"""How the element-wise kernels see feature maps, and what their launchers share.

One kernel serves both layouts. A map is ``planes`` images of ``rows`` lines, a line being ``columns * C``
numbers in memory order: channels-last maps are B images with C numbers a pixel, contiguous ones B * C images
with one. Half-size maps have the same planes and C.
"""

# A kernel's parameters are pointers and numbers that Triton types at launch.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..support import Support

FLOATS = (torch.float32, torch.float16, torch.bfloat16)
TILE = 1024  # numbers of one map in a program: 8 a thread with 4 warps, two 16-byte loads in half precision


@triton.jit
def place(low_rows, ROWS: tl.constexpr, WIDTH: tl.constexpr):
    # Of a program over a small map: its lines, its numbers of a line, each line's image and row there.
    line = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    p = tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    return line, p, (line // low_rows).to(tl.int64), line % low_rows


@triton.jit
def _probe():
    pass


# Triton decides at decoration whether a kernel is interpreted; asking one tells for all of this package.
INTERPRETED = not isinstance(_probe, triton.runtime.JITFunction)


def runs_here(x: Tensor) -> Support:
    """Whether a kernel can be launched on ``x`` at all: a GPU, or Triton's interpreter."""
    if x.dtype not in FLOATS:
        return Support.no(f"its kernels take float32, float16, bfloat16, not {x.dtype}")
    return on_gpu_or_interpreted(x)


def on_gpu_or_interpreted(x: Tensor) -> Support:
    if not x.is_cuda and not INTERPRETED:
        return Support.no(f"its kernels run on a GPU, the tensors are on {x.device}")
    return Support.yes()


def on_device(x: Tensor) -> AbstractContextManager[object]:
    """Triton launches on the current device, which need not be the one that holds ``x``."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


def empty_map(like: Tensor, shape: tuple[int, ...] | None = None) -> Tensor:
    """Memory for a result in the layout of ``like``; of another shape if given."""
    layout = torch.contiguous_format if like.is_contiguous() else torch.channels_last
    shape = tuple(like.shape) if shape is None else shape
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)


@dataclass(frozen=True)
class Planes:
    planes: int
    rows: int
    columns: int
    inner: int  # C in the text above

    @classmethod
    def of(cls, x: Tensor) -> Planes:
        batch, channels, rows, columns = x.shape
        if x.is_contiguous():
            return cls(batch * channels, rows, columns, 1)
        return cls(batch, rows, columns, channels)

    def tile(self, rows: int, columns: int) -> tuple[int, int]:
        """Lines and numbers of a line in one program's tile, for a grid over ``rows`` x ``columns`` an image."""
        width = min(TILE, triton.next_power_of_2(columns * self.inner))
        return TILE // width, width

    def over(self, rows: int, columns: int) -> tuple[int, tuple[int, int], dict[str, int]]:
        """Lines in all, grid and constants of a kernel that calls ``place``, over ``rows`` x ``columns`` an image."""
        lines = self.planes * rows
        height, width = self.tile(rows, columns)
        grid = (triton.cdiv(lines, height), triton.cdiv(columns * self.inner, width))
        return lines, grid, {"C": self.inner, "ROWS": height, "WIDTH": width}
