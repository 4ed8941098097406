"""The bidirectional GRU: a matrix product for all steps, then both directions side by side.

Inference runs whole (csrc/core/bigru.h); for training the recurrence keeps its gates, and has a way back
(csrc/core/gru_training.h).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from ... import _core
from ..support import Support
from .arrays import array, threads
from .packed import PackedWeights

MOST_UNITS = 1 << 16
PER_LAYER = 8


def _pack(weights: Sequence[NDArray[Any]], dtype: torch.dtype) -> _core.BiGru:
    return _core.BiGru(weights)


_packed = PackedWeights(_pack)


def supports(x: Tensor, weights: Sequence[Tensor]) -> Support:
    return _supports(x, weights[1].shape[1], x.shape[2])


def _supports(x: Tensor, hidden: int, inputs: int = 1) -> Support:
    if x.device.type != "cpu":
        return Support.no(f"it takes tensors on cpu, not on {x.device}")
    if x.dtype != torch.float32:
        return Support.no(f"its kernels take float32, not {x.dtype}")
    if not 1 <= hidden <= MOST_UNITS or inputs > MOST_UNITS:
        return Support.no(f"its kernels take 1 to {MOST_UNITS} units and inputs, not {hidden} and {inputs}")
    return Support.yes()


def bigru(x: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """x (B, T, I), weights as in torch.nn.GRU -> output (B, T, 2H), h_n (2L, B, H)."""
    (batch, steps, _), hidden = x.shape, weights[1].shape[1]
    output = x.new_empty(batch, steps, 2 * hidden)
    h_n = x.new_empty(2 * len(weights) // PER_LAYER, batch, hidden)
    _packed.get(weights[1], weights).run(array(x.contiguous()), array(output), array(h_n), threads())
    return output, h_n


def supports_recurrence(gi: Tensor, w_hh: Tensor, b_hn: Tensor) -> Support:
    return _supports(gi, w_hh.shape[2])


def bigru_recurrence(gi: Tensor, w_hh: Tensor, b_hn: Tensor) -> tuple[Tensor, Tensor]:
    """One layer: gi (B, T, 2, 3H), w_hh (2, 3H, H), b_hn (2, H) -> out (B, T, 2H), gates (B, T, 2, 4, H)."""
    batch, steps, hidden = gi.shape[0], gi.shape[1], w_hh.shape[2]
    out = gi.new_empty(batch, steps, 2 * hidden)
    gates = gi.new_empty(batch, steps, 2, 4, hidden)
    projected, weights, bias = (array(t.contiguous()) for t in (gi, w_hh, b_hn))
    _core.gru_training_forward(projected, weights, bias, array(out), array(gates), threads())
    return out, gates


def supports_recurrence_backward(d_out: Tensor, out: Tensor, gates: Tensor, w_hh: Tensor) -> Support:
    return _supports(d_out, w_hh.shape[2])


def bigru_recurrence_backward(d_out: Tensor, out: Tensor, gates: Tensor, w_hh: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of gi, (B, T, 2, 3H), and of W_hn h + b_hn, (B, T, 2, H)."""
    batch, steps, hidden = out.shape[0], out.shape[1], w_hh.shape[2]
    d_gi = out.new_empty(batch, steps, 2, 3 * hidden)
    d_hn = out.new_empty(batch, steps, 2, hidden)
    d_states, states, kept, weights = (array(t.contiguous()) for t in (d_out, out, gates, w_hh))
    _core.gru_training_backward(d_states, states, kept, weights, array(d_gi), array(d_hn), threads())
    return d_gi, d_hn
