"""The GRU recurrence: one program a clip and direction, the recurrent weights in registers for all steps.

The portable form, for GPUs that the CUDA library was not built for.
"""

# A kernel's parameters are pointers and numbers that Triton types at launch.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import gru_layers
from ..support import Support
from ._maps import on_device, runs_here

MAX_HIDDEN = 64  # with three float32 matrices of side 128 the compiler spills, whatever the number of warps


@triton.jit
def _weights(w_hh, direction, H: tl.constexpr, SIDE: tl.constexpr):
    i = tl.arange(0, SIDE)
    at = w_hh + direction * 3 * H * H + i[:, None] * H + i[None, :]
    inside = (i < H)[:, None] & (i < H)[None, :]
    w_r = tl.load(at, mask=inside, other=0.0)
    w_z = tl.load(at + H * H, mask=inside, other=0.0)
    w_n = tl.load(at + 2 * H * H, mask=inside, other=0.0)
    return w_r, w_z, w_n


@triton.jit
def _tanh(x):
    # Of the forms without a library call the one whose rounding near zero is smallest: 1 - e is exact there.
    e = tl.exp(-2 * tl.abs(x))
    t = (1 - e) / (1 + e)
    return tl.where(x < 0, -t, t)


@triton.jit
def _forward(
    gi, w_hh, b_hn, out, steps,
    H: tl.constexpr, SIDE: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    # Steps depend on each other, so time is a loop and everything in it is latency: weights and state never
    # leave the registers, the next steps' inputs are fetched ahead (STAGES). SIDE is H rounded up to a power of
    # two; the lanes beyond H have zero weights and inputs, so their state stays zero.
    clip = tl.program_id(0)
    direction = tl.program_id(1)
    i = tl.arange(0, SIDE)
    unit = i < H
    w_r, w_z, w_n = _weights(w_hh, direction, H, SIDE)
    bias = tl.load(b_hn + direction * H + i, mask=unit, other=0.0)
    h = tl.zeros((SIDE,), tl.float32)
    first = (clip.to(tl.int64) * steps * 2 + direction) * H
    t = direction * (steps - 1)
    for _ in tl.range(0, steps, num_stages=STAGES):
        at = first + t.to(tl.int64) * 2 * H
        x = gi + at * 3 + i
        x_r = tl.load(x, mask=unit, other=0.0).to(tl.float32)
        x_z = tl.load(x + H, mask=unit, other=0.0).to(tl.float32)
        x_n = tl.load(x + 2 * H, mask=unit, other=0.0).to(tl.float32)
        row = tl.reshape(h, (1, SIDE))
        r = tl.sigmoid(x_r + tl.sum(w_r * row, 1))
        z = tl.sigmoid(x_z + tl.sum(w_z * row, 1))
        n = _tanh(x_n + r * (tl.sum(w_n * row, 1) + bias))
        h = n + z * (h - n)
        tl.store(out + at + i, h.to(out.dtype.element_ty), mask=unit)
        t += 1 - 2 * direction


@triton.jit
def _backward(
    d_out, out, gates, w_hh, d_gi, d_hn, steps,
    H: tl.constexpr, SIDE: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    # The steps in the opposite order. What a step hands to the one before it is W_hh^T times the gradients of
    # its pre-activations, plus z times its own; everything that is a sum over steps is left to matrix products.
    clip = tl.program_id(0)
    direction = tl.program_id(1)
    i = tl.arange(0, SIDE)
    unit = i < H
    w_r, w_z, w_n = _weights(w_hh, direction, H, SIDE)
    first = (clip.to(tl.int64) * steps * 2 + direction) * H
    t = (1 - direction) * (steps - 1)
    step = 2 * direction - 1
    carried = tl.zeros((SIDE,), tl.float32)
    for count in tl.range(0, steps, num_stages=STAGES):
        at = first + t.to(tl.int64) * 2 * H
        g = gates + at * 4 + i
        r = tl.load(g, mask=unit, other=0.0)
        z = tl.load(g + H, mask=unit, other=0.0)
        n = tl.load(g + 2 * H, mask=unit, other=0.0)
        q = tl.load(g + 3 * H, mask=unit, other=0.0)
        earlier = i < tl.where(count < steps - 1, H, 0)  # the very first state was zero
        h = tl.load(out + at + step * 2 * H + i, mask=earlier, other=0.0).to(tl.float32)
        d = tl.load(d_out + at + i, mask=unit, other=0.0).to(tl.float32) + carried
        d_n = d * (1 - z) * (1 - n * n)
        d_z = d * (h - n) * z * (1 - z)
        d_r = d_n * q * r * (1 - r)
        d_q = d_n * r
        carried = d * z + tl.sum(w_r * d_r[:, None] + w_z * d_z[:, None] + w_n * d_q[:, None], 0)
        x = d_gi + at * 3 + i
        tl.store(x, d_r.to(d_gi.dtype.element_ty), mask=unit)
        tl.store(x + H, d_z.to(d_gi.dtype.element_ty), mask=unit)
        tl.store(x + 2 * H, d_n.to(d_gi.dtype.element_ty), mask=unit)
        tl.store(d_hn + at + i, d_q.to(d_hn.dtype.element_ty), mask=unit)
        t += step


def _supports(hidden: int, x: Tensor) -> Support:
    if hidden > MAX_HIDDEN:
        return Support.no(f"its kernels hold the weights in registers: at most {MAX_HIDDEN} units, not {hidden}")
    return runs_here(x)


def supports(x: Tensor, weights: Sequence[Tensor]) -> Support:
    return _supports(weights[1].shape[1], x)


def supports_recurrence(gi: Tensor, w_hh: Tensor, b_hn: Tensor) -> Support:
    return _supports(w_hh.shape[2], gi)


def supports_recurrence_backward(d_out: Tensor, out: Tensor, gates: Tensor, w_hh: Tensor) -> Support:
    return _supports(w_hh.shape[2], d_out)


def bigru(x: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    states = []
    for layer in gru_layers.layers(weights):
        x = _recurrence(gru_layers.project(x, layer), *gru_layers.recurrent_weights(layer))
        states.append(gru_layers.last_states(x))
    return x, torch.cat(states)


def bigru_recurrence(gi: Tensor, w_hh: Tensor, b_hn: Tensor) -> tuple[Tensor, Tensor]:
    """The gates follow from the states by one matrix product over all steps.

    To store them from the loop would make the compiler turn the weights' layout around in every step.
    """
    out = _recurrence(gi, w_hh, b_hn)
    return out, gru_layers.gates(gi, w_hh, b_hn, out)


def _recurrence(gi: Tensor, w_hh: Tensor, b_hn: Tensor) -> Tensor:
    batch, steps = gi.shape[:2]
    hidden = w_hh.shape[2]
    out = gi.new_empty(batch, steps, 2 * hidden)
    if batch:
        side, warps, stages = _configuration(hidden)
        arrays = (gi.contiguous(), w_hh.contiguous(), b_hn.contiguous(), out)
        with on_device(gi):
            _forward[(batch, 2)](*arrays, steps, H=hidden, SIDE=side, STAGES=stages, num_warps=warps)
    return out


def bigru_recurrence_backward(d_out: Tensor, out: Tensor, gates: Tensor, w_hh: Tensor) -> tuple[Tensor, Tensor]:
    batch, steps = d_out.shape[:2]
    hidden = w_hh.shape[2]
    d_gi = d_out.new_empty(batch, steps, 2, 3 * hidden)
    d_hn = d_out.new_empty(batch, steps, 2, hidden)
    if batch:
        side, warps, stages = _configuration(hidden)
        arrays = (d_out.contiguous(), out.contiguous(), gates.contiguous(), w_hh.contiguous(), d_gi, d_hn)
        with on_device(d_out):
            _backward[(batch, 2)](*arrays, steps, H=hidden, SIDE=side, STAGES=stages, num_warps=warps)
    return d_gi, d_hn


def _configuration(hidden: int) -> tuple[int, int, int]:
    """SIDE, warps and steps fetched ahead. AMD's compiler spills when it is asked to fetch ahead."""
    side = max(16, triton.next_power_of_2(hidden))
    warps = {16: 1, 32: 2, 64: 8}[side]
    return side, warps, 1 if torch.version.hip is not None else 4
