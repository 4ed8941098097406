"""upsample_add(low, skip): the end of every hourglass scale, one pass over memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._contract import in_layout, memory_format, require_half_size, require_maps
from ._dispatch import Table
from ._library import autocast, batched, define, differentiable, not_differentiable, refuse_forward_mode, widest

SCHEMA = 'upsample_add(Tensor low, Tensor skip, str backend="auto") -> Tensor'
BACKWARD_SCHEMA = 'upsample_add_backward(Tensor grad, str backend="auto") -> Tensor'


def _check(low: Tensor, skip: Tensor) -> torch.memory_format:
    require_maps(skip=skip, low=low)
    require_half_size(low, "skip", skip)
    return memory_format(skip)


def _fake(low: Tensor, skip: Tensor, backend: str = "auto") -> Tensor:
    return torch.empty_like(skip, memory_format=_check(low, skip))


def _fake_backward(grad: Tensor, backend: str = "auto") -> Tensor:
    require_maps(grad=grad)
    b, c, t, d = grad.shape
    return torch.empty(
        (b, c, (t + 1) // 2, (d + 1) // 2), dtype=grad.dtype, device=grad.device, memory_format=memory_format(grad)
    )


_forward = Table("upsample_add")
_backward = Table("upsample_add_backward", "upsample_add")


def _run(low: Tensor, skip: Tensor, backend: str = "auto") -> Tensor:
    layout = _check(low, skip)
    low, skip = in_layout(low, layout), in_layout(skip, layout)
    run = _forward.choose(backend, low, skip)
    if not skip.numel():  # torch's own functions refuse some empty maps
        return _fake(low, skip)
    return in_layout(run(low, skip), layout)


def _run_backward(grad: Tensor, backend: str = "auto") -> Tensor:
    require_maps(grad=grad)
    layout = memory_format(grad)
    grad = in_layout(grad, layout)
    run = _backward.choose(backend, grad)
    if not grad.numel():  # as above
        return _fake_backward(grad)
    return in_layout(run(grad), layout)


_op = define(SCHEMA, _run, _fake)
_backward_op = define(BACKWARD_SCHEMA, _run_backward, _fake_backward)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.backend = inputs[2]


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
    low = _backward_op(grad, ctx.backend) if ctx.needs_input_grad[0] else None
    return low, grad, None


differentiable("upsample_add", _gradient, _save)
not_differentiable("upsample_add_backward", "second derivatives are not implemented; use the plain torch modules.")
autocast(_op, widest)
batched("upsample_add", _op)


def upsample_add(low: Tensor, skip: Tensor, *, backend: str = "auto") -> Tensor:
    """``skip + upsample(low)``, nearest neighbour, by 2 in time and frequency.

    low: (B, C, ceil(T / 2), ceil(D / 2)), skip: (B, C, T, D), one dtype of float32, float16, bfloat16,
    float64, any strides. Returns (B, C, T, D), channels-last if skip is, contiguous otherwise. Under
    autocast mixed dtypes are promoted as by ``+``. Differentiable once; works under vmap.

    Raises ValueError for other shapes, dtypes or devices, and for a ``backend`` that cannot run this.
    """
    refuse_forward_mode("upsample_add", low, skip)
    out: Tensor = _op(low, skip, backend)
    return out
