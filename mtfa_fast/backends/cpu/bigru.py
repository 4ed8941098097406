"""The bidirectional GRU: a matrix product for all steps, then both directions side by side (csrc/core/bigru.h).

Forward only: where a gradient is wanted the op takes the recurrence that keeps its gates from another backend.
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
    hidden, inputs = weights[1].shape[1], x.shape[2]
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
