"""The bidirectional GRU: torch's matrix products, and one kernel a layer for the recurrence (csrc/cuda/bigru.h)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import gru_layers
from ..support import Support
from .library import DTYPES, launch, runs_on

IN_REGISTERS = (64, 128)  # hidden sizes whose recurrent weights fit a multiprocessor's registers
LARGEST = 256


def supports(x: Tensor, weights: Sequence[Tensor]) -> Support:
    return _supports(x, weights[1].shape[1])


def bigru(x: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """x (B, T, I), weights as in torch.nn.GRU -> output (B, T, 2H), h_n (2L, B, H)."""
    states = []
    for layer in gru_layers.layers(weights):
        x, _ = _forward(gru_layers.project(x, layer), *gru_layers.recurrent_weights(layer), keep=False)
        states.append(gru_layers.last_states(x))
    return x, torch.cat(states)


def supports_recurrence(gi: Tensor, w_hh: Tensor, b_hn: Tensor) -> Support:
    return _supports(gi, w_hh.shape[2])


def bigru_recurrence(gi: Tensor, w_hh: Tensor, b_hn: Tensor) -> tuple[Tensor, Tensor]:
    """One layer, see :mod:`mtfa_fast.backends.gru_layers` -> out (B, T, 2H), gates (B, T, 2, 4, H)."""
    out, gates = _forward(gi, w_hh, b_hn, keep=True)
    assert gates is not None
    return out, gates


def supports_recurrence_backward(d_out: Tensor, out: Tensor, gates: Tensor, w_hh: Tensor) -> Support:
    return _supports(d_out, w_hh.shape[2])


def bigru_recurrence_backward(d_out: Tensor, out: Tensor, gates: Tensor, w_hh: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of gi, (B, T, 2, 3H), and of W_hn h + b_hn, (B, T, 2, H)."""
    batch, steps, _ = out.shape
    hidden, dtype = w_hh.shape[2], out.dtype
    wide = hidden not in IN_REGISTERS
    held = torch.float32 if wide else dtype
    d_out, out = d_out.to(held).contiguous(), out.to(held).contiguous()
    d_gi = out.new_empty(batch, steps, 2, 3 * hidden)
    d_hn = out.new_empty(batch, steps, 2, hidden)
    arrays = (d_out, out, gates.contiguous(), w_hh.contiguous(), d_gi, d_hn)
    if wide:
        launch("mtfa_bigru_wide_backward", out, *arrays, batch, steps, hidden)
    else:
        launch("mtfa_bigru_backward", out, *arrays, DTYPES[dtype], batch, steps, hidden)
    return d_gi.to(dtype), d_hn.to(dtype)


def _supports(x: Tensor, hidden: int) -> Support:
    if x.dtype not in DTYPES:
        return Support.no(f"its kernels take float32, bfloat16 and float16, not {x.dtype}")
    if hidden > LARGEST:
        return Support.no(f"its recurrence takes at most {LARGEST} hidden units, not {hidden}")
    return runs_on(x)


def _forward(gi: Tensor, w_hh: Tensor, b_hn: Tensor, *, keep: bool, lanes: int = 0) -> tuple[Tensor, Tensor | None]:
    """``keep``: the gates too. ``lanes``: threads a hidden unit, 0 for the kernel's choice."""
    batch, steps, _, _ = gi.shape
    hidden, dtype = w_hh.shape[2], gi.dtype
    wide = hidden not in IN_REGISTERS
    gi = (gi.float() if wide else gi).contiguous()
    out = gi.new_empty(batch, steps, 2 * hidden)
    gates = w_hh.new_empty(batch, steps, 2, 4, hidden) if keep else None
    if wide:  # neighbouring threads own neighbouring rows: transposed, they read neighbouring numbers
        rows = w_hh.transpose(1, 2).contiguous()
        launch("mtfa_bigru_wide_forward", gi, gi, rows, b_hn.contiguous(), out, gates, batch, steps, hidden)
    else:
        arrays = (gi, w_hh.contiguous(), b_hn.contiguous(), out, gates)
        launch("mtfa_bigru_forward", gi, *arrays, DTYPES[dtype], batch, steps, hidden, lanes)
    return out.to(dtype), gates
