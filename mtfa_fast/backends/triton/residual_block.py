"""The residual block as two 3x3 convolutions with fused epilogues, by implicit matrix multiplication.

The portable form: any GPU, C = 16, 32, 64 or 128, half precision or float32.
"""

# A kernel's parameters are pointers and numbers that Triton types at launch.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

from __future__ import annotations

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..support import Support
from ._maps import on_device, runs_here

CHANNELS = (16, 32, 64, 128)  # tl.dot wants at least 16 of them, a power of two
_PIXELS = 128  # pixels of a tile of the pointer form: with C = 64 the sums take 64 registers a thread
_DESCRIPTOR_PIXELS = 256  # of the descriptor form, with 8 warps


@triton.jit
def _convolve(
    x, w, bias, residual, y, rows, columns,
    RESIDUAL: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr, C: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    # y = relu(conv(x) + bias [+ residual]): the sum over the nine taps is nine matrix products of a shifted
    # tile of pixels (BT * BD, C) with that tap's weights (C, C). Bias, addition and ReLU happen while the sums
    # are still in registers. x, residual, y: (B, rows, columns, C); w: (C out, 9, C in).
    across = tl.cdiv(columns, BD)
    down = tl.cdiv(rows, BT)
    tile = tl.program_id(0)
    image = (tile // (down * across)).to(tl.int64) * rows * columns * C
    p = tl.arange(0, BT * BD)
    t = tile // across % down * BT + p // BD
    d = tile % across * BD + p % BD
    c = tl.arange(0, C)
    sums = tl.zeros((BT * BD, C), tl.float32)
    for tap in tl.range(0, 9, num_stages=STAGES):
        tt = t + tap // 3 - 1
        dd = d + tap % 3 - 1
        inside = (tt >= 0) & (tt < rows) & (dd >= 0) & (dd < columns)  # zeros outside are the padding
        pixels = tl.load(x + image + (tt * columns + dd)[:, None] * C + c[None, :], mask=inside[:, None], other=0.0)
        # Read as (C in, C out) from (C out, tap, C in): a channels-last weight needs no repacking.
        taps = tl.load(w + c[None, :] * (9 * C) + (tap * C + c)[:, None])
        sums = tl.dot(pixels, taps, sums, input_precision="tf32")  # which concerns float32 alone
    sums += tl.load(bias + c).to(tl.float32)[None, :]
    offset = image + (t * columns + d)[:, None] * C + c[None, :]
    inside = ((t < rows) & (d < columns))[:, None]
    if RESIDUAL:
        sums += tl.load(residual + offset, mask=inside, other=0.0).to(tl.float32)
    tl.store(y + offset, tl.maximum(sums, 0.0).to(y.dtype.element_ty), mask=inside)


@triton.jit
def _convolve_by_descriptor(
    x, w, bias, residual, y, rows, columns,
    RESIDUAL: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr, C: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    # The same for Hopper and later: a tile is one bulk copy by the copy engine, which computes the addresses
    # and fills what lies outside, negative coordinates too, with zeros. Descriptors made on the host, because
    # those made in the kernel need scratch memory and a fence.
    across = tl.cdiv(columns, BD)
    down = tl.cdiv(rows, BT)
    tile = tl.program_id(0)
    image = tile // (down * across)
    t = tile // across % down * BT
    d = tile % across * BD
    sums = tl.zeros((BT * BD, C), tl.float32)
    for tap in tl.range(0, 9, num_stages=STAGES):
        pixels = x.load([image, t + tap // 3 - 1, d + tap % 3 - 1, 0])
        sums = tl.dot(tl.reshape(pixels, (BT * BD, C)), w.load([0, tap * C]).T, sums)
    sums += tl.load(bias + tl.arange(0, C)).to(tl.float32)[None, :]
    if RESIDUAL:
        sums += tl.reshape(residual.load([image, t, d, 0]), (BT * BD, C)).to(tl.float32)
    y.store([image, t, d, 0], tl.reshape(tl.maximum(sums, 0.0).to(y.dtype), (1, BT, BD, C)))


def supports(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Support:
    channels, rows, columns = x.shape[1:]
    if channels not in CHANNELS:
        return Support.no(f"its kernels take 16, 32, 64 or 128 channels, not {channels}")
    if rows * columns * channels >= 2**31:
        return Support.no(f"its indices within a clip are 32 bits wide, a clip has {rows} x {columns} x {channels}")
    if x.dtype == torch.float32 and not _tf32_allowed():
        return Support.no("torch is set to exact float32 convolutions, its kernel multiplies float32 in tf32")
    return runs_here(x)


def _tf32_allowed() -> bool:
    """As torch's own convolutions are set; the older switch refuses to be read once the newer one was used."""
    switch = getattr(torch.backends.cudnn, "conv", None)
    return bool(torch.backends.cudnn.allow_tf32 if switch is None else switch.fp32_precision == "tf32")


def residual_block(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """The map goes through channels-last memory, the order in which a pixel's channels are one load."""
    x = x.contiguous(memory_format=torch.channels_last)
    if x.numel() == 0:
        return x
    w1, w2 = (w.contiguous(memory_format=torch.channels_last) for w in (w1, w2))
    convolve = _by_descriptor if _has_descriptors(x) else _by_pointer
    middle, out = (torch.empty_like(x, memory_format=torch.channels_last) for _ in range(2))
    with on_device(x):
        convolve(x, w1, b1.contiguous(), None, middle)
        convolve(middle, w2, b2.contiguous(), x, out)
    return out


def _tile(pixels: int, columns: int) -> tuple[int, int]:
    """Rows and columns of a tile of ``pixels``: whole lines of a narrow map rather than empty columns."""
    width = min(128, max(8, triton.next_power_of_2(columns)))
    return pixels // width, width


def _by_pointer(x: Tensor, w: Tensor, bias: Tensor, residual: Tensor | None, y: Tensor) -> None:
    batch, channels, rows, columns = x.shape
    height, width = _tile(_PIXELS if channels <= 64 else _PIXELS // 2, columns)
    grid = (batch * triton.cdiv(rows, height) * triton.cdiv(columns, width),)
    _convolve[grid](
        x, w, bias, x if residual is None else residual, y, rows, columns,
        RESIDUAL=residual is not None, BT=height, BD=width, C=channels, STAGES=3 if x.element_size() == 2 else 2,
        num_warps=4,
    )  # fmt: skip


def _by_descriptor(x: Tensor, w: Tensor, bias: Tensor, residual: Tensor | None, y: Tensor) -> None:
    from triton.tools.tensor_descriptor import TensorDescriptor

    batch, channels, rows, columns = x.shape
    height, width = _tile(_DESCRIPTOR_PIXELS, columns)

    def described(maps: Tensor) -> Any:
        # Strides in full: torch may report any stride for a dimension of one, the copy engine wants the true ones.
        shape, pixel = [batch, rows, columns, channels], channels
        strides = [rows * columns * pixel, columns * pixel, pixel, 1]
        return TensorDescriptor(maps, shape, strides, [1, height, width, channels])

    flat = w.permute(0, 2, 3, 1).reshape(channels, 9 * channels)
    grid = (batch * triton.cdiv(rows, height) * triton.cdiv(columns, width),)
    _convolve_by_descriptor[grid](
        described(x), TensorDescriptor.from_tensor(flat, [channels, channels]), bias,
        described(x if residual is None else residual), described(y), rows, columns,
        RESIDUAL=residual is not None, BT=height, BD=width, C=channels, STAGES=4, num_warps=8,
    )  # fmt: skip


def _has_descriptors(x: Tensor) -> bool:
    """Bulk tensor copies: Hopper and later, half precision, 64 channels; other tiles overflow shared memory."""
    return x.is_cuda and x.element_size() == 2 and x.shape[1] == 64 and _copy_engine(x.device.index)


@cache
def _copy_engine(device: int) -> bool:
    if torch.version.hip is not None:
        return False
    try:
        import triton.tools.tensor_descriptor  # noqa: F401 - Triton 3.4 and later
    except ImportError:
        return False
    return torch.cuda.get_device_capability(device) in ((9, 0), (10, 0), (10, 3))
