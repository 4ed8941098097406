"""attention_gate(logits, features): A = (1 + M) * F, equation 1 of the paper, one pass over memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._contract import in_layout, memory_format, require_gradient, require_maps, require_same_shape
from ._dispatch import Table
from ._library import autocast, batched, define, differentiable, not_differentiable, refuse_forward_mode, widest

SCHEMA = 'attention_gate(Tensor logits, Tensor features, str backend="auto") -> Tensor'
BACKWARD_SCHEMA = (
    'attention_gate_backward(Tensor grad, Tensor logits, Tensor features, str backend="auto") -> (Tensor, Tensor)'
)


def _check(logits: Tensor, features: Tensor) -> torch.memory_format:
    require_maps(features=features, logits=logits)
    require_same_shape("logits", logits, "features", features)
    return memory_format(features)


def _fake(logits: Tensor, features: Tensor, backend: str = "auto") -> Tensor:
    return torch.empty_like(features, memory_format=_check(logits, features))


def _fake_backward(grad: Tensor, logits: Tensor, features: Tensor, backend: str = "auto") -> tuple[Tensor, Tensor]:
    layout = _check(logits, features)
    require_gradient(grad, "features", features)
    return torch.empty_like(logits, memory_format=layout), torch.empty_like(features, memory_format=layout)


_forward = Table("attention_gate")
_backward = Table("attention_gate_backward", "attention_gate")


def _run(logits: Tensor, features: Tensor, backend: str = "auto") -> Tensor:
    layout = _check(logits, features)
    logits, features = in_layout(logits, layout), in_layout(features, layout)
    return in_layout(_forward.choose(backend, logits, features)(logits, features), layout)


def _run_backward(grad: Tensor, logits: Tensor, features: Tensor, backend: str = "auto") -> tuple[Tensor, Tensor]:
    layout = _check(logits, features)
    require_gradient(grad, "features", features)
    args = [in_layout(x, layout) for x in (grad, logits, features)]
    grad_logits, grad_features = _backward.choose(backend, *args)(*args)
    return in_layout(grad_logits, layout), in_layout(grad_features, layout)


_op = define(SCHEMA, _run, _fake)
_backward_op = define(BACKWARD_SCHEMA, _run_backward, _fake_backward)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:2])
    ctx.backend = inputs[2]


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    return *_backward_op(grad, *ctx.saved_tensors, ctx.backend), None


differentiable("attention_gate", _gradient, _save)
not_differentiable("attention_gate_backward", "second derivatives are not implemented; use the plain torch modules.")
autocast(_op, widest)
batched("attention_gate", _op)


def attention_gate(logits: Tensor, features: Tensor, *, backend: str = "auto") -> Tensor:
    """``(1 + sigmoid(logits)) * features``: equation 1 of the paper.

    Both (B, C, T, D), one dtype of float32, float16, bfloat16, float64, any strides. Returns the same
    shape, channels-last if features is, contiguous otherwise. Under autocast mixed dtypes are promoted as
    by ``*``. Differentiable once; works under vmap.

    Raises ValueError for other shapes, dtypes or devices, and for a ``backend`` that cannot run this.
    """
    refuse_forward_mode("attention_gate", logits, features)
    out: Tensor = _op(logits, features, backend)
    return out
