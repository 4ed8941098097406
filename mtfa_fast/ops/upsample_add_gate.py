"""upsample_add_gate(low, skip, features): the whole end of the mask branch, one pass over memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._contract import in_layout, memory_format, require_gradient, require_half_size, require_maps, require_same_shape
from ._dispatch import Table
from ._library import autocast, batched, define, differentiable, not_differentiable, refuse_forward_mode, widest

SCHEMA = 'upsample_add_gate(Tensor low, Tensor skip, Tensor features, str backend="auto") -> Tensor'
BACKWARD_SCHEMA = (
    "upsample_add_gate_backward(Tensor grad, Tensor low, Tensor skip, Tensor features, "
    'str backend="auto") -> (Tensor, Tensor, Tensor)'
)


def _check(low: Tensor, skip: Tensor, features: Tensor) -> torch.memory_format:
    require_maps(features=features, skip=skip, low=low)
    require_same_shape("skip", skip, "features", features)
    require_half_size(low, "features", features)
    return memory_format(features)


def _fake(low: Tensor, skip: Tensor, features: Tensor, backend: str = "auto") -> Tensor:
    return torch.empty_like(features, memory_format=_check(low, skip, features))


def _fake_backward(
    grad: Tensor, low: Tensor, skip: Tensor, features: Tensor, backend: str = "auto"
) -> tuple[Tensor, Tensor, Tensor]:
    layout = _check(low, skip, features)
    require_gradient(grad, "features", features)
    low, skip, features = (torch.empty_like(x, memory_format=layout) for x in (low, skip, features))
    return low, skip, features


_forward = Table("upsample_add_gate")
_backward = Table("upsample_add_gate_backward", "upsample_add_gate")


def _run(low: Tensor, skip: Tensor, features: Tensor, backend: str = "auto") -> Tensor:
    layout = _check(low, skip, features)
    args = [in_layout(x, layout) for x in (low, skip, features)]
    run = _forward.choose(backend, *args)
    if not features.numel():  # torch's own functions refuse some empty maps
        return _fake(low, skip, features)
    return in_layout(run(*args), layout)


def _run_backward(
    grad: Tensor, low: Tensor, skip: Tensor, features: Tensor, backend: str = "auto"
) -> tuple[Tensor, Tensor, Tensor]:
    layout = _check(low, skip, features)
    require_gradient(grad, "features", features)
    args = [in_layout(x, layout) for x in (grad, low, skip, features)]
    run = _backward.choose(backend, *args)
    if not features.numel():  # as above
        return _fake_backward(grad, low, skip, features)
    grad_low, grad_skip, grad_features = run(*args)
    return in_layout(grad_low, layout), in_layout(grad_skip, layout), in_layout(grad_features, layout)


_op = define(SCHEMA, _run, _fake)
_backward_op = define(BACKWARD_SCHEMA, _run_backward, _fake_backward)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.backend = inputs[3]


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
    return *_backward_op(grad, *ctx.saved_tensors, ctx.backend), None


differentiable("upsample_add_gate", _gradient, _save)
not_differentiable("upsample_add_gate_backward", "second derivatives are not implemented; use the plain torch modules.")
autocast(_op, widest)
batched("upsample_add_gate", _op)


def upsample_add_gate(low: Tensor, skip: Tensor, features: Tensor, *, backend: str = "auto") -> Tensor:
    """``(1 + sigmoid(skip + upsample(low))) * features``: mask, sigmoid and gate of the MTFA layer at once.

    A 1x1 projection W before the sigmoid commutes with the upsampling, W(skip + up(low)) = W skip + up(W low):
    give the projected terms.

    low: (B, C, ceil(T / 2), ceil(D / 2)); skip, features: (B, C, T, D); one dtype of float32, float16,
    bfloat16, float64; any strides. Returns (B, C, T, D), channels-last if features is, contiguous
    otherwise. Under autocast mixed dtypes are promoted as by ``+``. Differentiable once; works under vmap.

    Raises ValueError for other shapes, dtypes or devices, and for a ``backend`` that cannot run this.
    """
    refuse_forward_mode("upsample_add_gate", low, skip, features)
    out: Tensor = _op(low, skip, features, backend)
    return out
