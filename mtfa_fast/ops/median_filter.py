"""median_filter(x, window): exact median along time."""

from __future__ import annotations

import torch
from torch import Tensor

from ._contract import FLOATS, refusal
from ._dispatch import Table
from ._library import batched, define, not_differentiable, refuse_forward_mode

SCHEMA = 'median_filter(Tensor x, int window, str backend="auto") -> Tensor'


def _check(x: Tensor, window: int) -> None:
    if x.ndim < 2:
        raise refusal("x", x.shape, "(..., T, K)")
    if x.dtype not in (*FLOATS, torch.bool):
        raise refusal("x", x.dtype, "float32, float16, bfloat16, float64, bool")
    require_window("window", window)


def require_window(name: str, window: int) -> None:
    if window < 1 or window % 2 == 0:
        raise refusal(name, window, "an odd number >= 1")


def _fake(x: Tensor, window: int, backend: str = "auto") -> Tensor:
    _check(x, window)
    return x.new_empty(x.shape)


_table = Table("median_filter")


def _run(x: Tensor, window: int, backend: str = "auto") -> Tensor:
    _check(x, window)
    x = x.contiguous()
    out: Tensor = _table.choose(backend, x, window)(x, window)
    return out.contiguous()


_op = define(SCHEMA, _run, _fake)
not_differentiable("median_filter", "it belongs behind the trained network.")
batched("median_filter", _op)


def median_filter(x: Tensor, window: int, *, backend: str = "auto") -> Tensor:
    """Median over ``window`` frames around each frame, zeros beyond the ends, as scipy.signal.medfilt.

    x: (..., T, K), time second to last, float32, float16, bfloat16, float64 or bool; window: odd. Exact:
    every result is one of the inputs or 0. A window that holds a NaN gives NaN. Of bool the median is the
    majority, which is counted instead of sorted. Returns x's shape and dtype, contiguous. Works under vmap.

    The paper (section 3.1) filters thresholded probabilities over 27 frames, 540 ms. Differentiating raises
    NotImplementedError. ValueError for other arguments, and for a ``backend`` that cannot run this.
    """
    refuse_forward_mode("median_filter", x)
    out: Tensor = _op(x, window, backend)
    return out
