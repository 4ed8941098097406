"""Exact median along time by bisection of the values' bits; the majority for bool."""

# A kernel's parameters are pointers and numbers that Triton types at launch.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..support import Support
from ._maps import on_device, on_gpu_or_interpreted

MAX_WINDOW = 255
_TILE = 4096  # window entries in a program: 32 a thread with 4 warps
# Bits that tell two values of a dtype apart once they are float32: a sign, 8 exponent bits, the mantissa.
_BITS = {torch.float32: 32, torch.float16: 19, torch.bfloat16: 16}


@triton.jit
def _median(
    x, out, count, classes, window,
    BITS: tl.constexpr, OUTPUTS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    # Time is the second to last dimension, so the neighbours of number e are e + j * classes, and leaving
    # [0, count) is the same as leaving the signal.
    e = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    j = tl.arange(0, WIDTH)
    base = tl.program_id(1).to(tl.int64) * count
    q = e[:, None] + (j - window // 2)[None, :] * classes
    v = tl.load(x + base + q, mask=(q >= 0) & (q < count), other=0.0).to(tl.float32)
    in_window = (j < window)[None, :]
    # Order-preserving bits: of a negative number flip all but the sign, then make the order unsigned.
    bits = v.to(tl.int32, bitcast=True)
    ordered = bits ^ ((bits >> 31) & 0x7FFFFFFF)
    key = (ordered ^ -2147483648).to(tl.uint32, bitcast=True) >> (32 - BITS)
    key = tl.where(in_window, key, 0xFFFFFFFF)
    # The median is the largest value that at most half of the window lies below: set its bits from the top.
    # Counting keeps the window in registers; sorting would shuffle it between threads.
    found = tl.zeros((OUTPUTS,), tl.uint32)
    one = tl.full((OUTPUTS,), 1, tl.uint32)
    for step in tl.range(0, BITS):
        candidate = found | (one << (BITS - 1 - step))
        below = tl.sum((key < candidate[:, None]).to(tl.int32), 1)
        found = tl.where(below <= window // 2, candidate, found)
    found = found << (32 - BITS)
    ordered = found.to(tl.int32, bitcast=True) ^ -2147483648
    # The bits that were shifted out are ones of a negative number and zeros otherwise.
    ordered = tl.where(ordered < 0, ordered | ((1 << (32 - BITS)) - 1), ordered)
    value = (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)
    nan = tl.max(((v != v) & in_window).to(tl.int32), 1) > 0
    value = tl.where(nan, float("nan"), value)
    tl.store(out + base + e, value.to(out.dtype.element_ty), mask=e < count)


@triton.jit
def _majority(x, out, count, classes, window, OUTPUTS: tl.constexpr, WIDTH: tl.constexpr):
    # The median of zeros and ones needs no order, only their number.
    e = tl.program_id(0) * OUTPUTS + tl.arange(0, OUTPUTS)
    j = tl.arange(0, WIDTH)
    base = tl.program_id(1).to(tl.int64) * count
    q = e[:, None] + (j - window // 2)[None, :] * classes
    inside = (q >= 0) & (q < count) & (j < window)[None, :]
    ones = tl.sum(tl.load(x + base + q, mask=inside, other=0).to(tl.int32), 1)
    tl.store(out + base + e, (ones > window // 2).to(out.dtype.element_ty), mask=e < count)


def supports(x: Tensor, window: int) -> Support:
    if x.dtype not in _BITS and x.dtype != torch.bool:
        return Support.no(f"its kernels take float32, float16, bfloat16, bool, not {x.dtype}")
    if window > MAX_WINDOW:
        return Support.no(f"its windows end at {MAX_WINDOW} frames, not {window}")
    if x.shape[-2] * x.shape[-1] + window * x.shape[-1] >= 2**31:
        return Support.no(f"its indices are 32 bits wide, the signal has {x.shape[-2]} x {x.shape[-1]} values")
    return on_gpu_or_interpreted(x)


def median_filter(x: Tensor, window: int) -> Tensor:
    out = torch.empty_like(x)
    if out.numel() == 0:
        return out
    count = x.shape[-2] * x.shape[-1]
    width = triton.next_power_of_2(window)
    outputs = min(_TILE // width, triton.next_power_of_2(count))
    grid = (triton.cdiv(count, outputs), x.numel() // count)
    sizes = (count, x.shape[-1], window)
    with on_device(x):
        if x.dtype == torch.bool:
            _majority[grid](x.view(torch.uint8), out.view(torch.uint8), *sizes, OUTPUTS=outputs, WIDTH=width)
        else:
            _median[grid](x, out, *sizes, BITS=_BITS[x.dtype], OUTPUTS=outputs, WIDTH=width)
    return out
