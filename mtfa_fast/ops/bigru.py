"""bigru(x, weights): a whole bidirectional GRU, all layers over all steps, as one node for compilers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..backends import gru_layers
from ._contract import FLOATS, refusal, require_alike
from ._dispatch import Table
from ._library import autocast, autocast_dtype, define, differentiable, not_differentiable, refuse_forward_mode, widest

SCHEMA = 'bigru(Tensor x, Tensor[] weights, str backend="auto") -> (Tensor, Tensor)'
TRAIN_SCHEMA = 'bigru_train(Tensor x, Tensor[] weights, str backend="auto") -> (Tensor, Tensor, Tensor, Tensor)'
BACKWARD_SCHEMA = (
    "bigru_backward(Tensor grad_output, Tensor grad_h_n, Tensor x, Tensor[] weights, Tensor output, Tensor inner, "
    'Tensor gates, str backend="auto") -> (Tensor, Tensor[])'
)


def _check(x: Tensor, weights: Sequence[Tensor]) -> None:
    if x.ndim != 3 or x.shape[1] < 1:
        raise refusal("x", x.shape, "(B, T >= 1, I)")
    if x.dtype not in FLOATS:
        raise refusal("x", x.dtype, "float32, float16, bfloat16, float64")
    if not weights or len(weights) % gru_layers.PER_LAYER:
        raise refusal(
            "weights", f"{len(weights)} tensors", f"{gru_layers.PER_LAYER} for each layer, as in torch.nn.GRU"
        )
    hidden, inputs = weights[1].shape[-1], x.shape[2]
    for index, weight in enumerate(weights):
        kind = index % gru_layers.PER_DIRECTION
        width = inputs if index < gru_layers.PER_LAYER else 2 * hidden
        expected = ((3 * hidden, width), (3 * hidden, hidden), (3 * hidden,), (3 * hidden,))[kind]
        if weight.shape != expected:
            raise refusal(f"weights[{index}]", weight.shape, f"{expected}")
        require_alike(f"weights[{index}]", weight, "x", x)


def _fake(x: Tensor, weights: Sequence[Tensor], backend: str = "auto") -> tuple[Tensor, Tensor]:
    _check(x, weights)
    batch, steps, _ = x.shape
    hidden, count = weights[1].shape[1], len(weights) // gru_layers.PER_LAYER
    return x.new_empty(batch, steps, 2 * hidden), x.new_empty(2 * count, batch, hidden)


def _fake_train(x: Tensor, weights: Sequence[Tensor], backend: str = "auto") -> tuple[Tensor, Tensor, Tensor, Tensor]:
    output, h_n = _fake(x, weights)
    (batch, steps, _), hidden, count = x.shape, weights[1].shape[1], h_n.shape[0] // 2
    inner = x.new_empty(count - 1, batch, steps, 2 * hidden)
    gates = x.new_empty(count, batch, steps, 2, 4, hidden, dtype=gru_layers.state_dtype(x.dtype))
    return output, h_n, inner, gates


def _fake_backward(
    grad_output: Tensor, grad_h_n: Tensor, x: Tensor, weights: Sequence[Tensor], *saved: Any
) -> tuple[Tensor, list[Tensor]]:
    return x.new_empty(x.shape), [w.new_empty(w.shape) for w in weights]


_forward = Table("bigru")
_recurrence = Table("bigru_recurrence", "bigru")
_recurrence_backward = Table("bigru_recurrence_backward", "bigru")


def _check_saved(x: Tensor, weights: Sequence[Tensor], *given: Tensor) -> None:
    """``given``: the gradients of output and h_n, output, inner and gates, as forward would make them of x."""
    (batch, steps, _), hidden, count = x.shape, weights[1].shape[1], len(weights) // gru_layers.PER_LAYER
    rows, states = (batch, steps, 2 * hidden), (2 * count, batch, hidden)
    shapes = (rows, states, rows, (count - 1, *rows), (count, batch, steps, 2, 4, hidden))
    for name, tensor, shape in zip(("grad_output", "grad_h_n", "output", "inner", "gates"), given, shapes, strict=True):
        if tensor.shape != shape:
            raise refusal(name, tensor.shape, f"{shape}")


def _run(x: Tensor, weights: Sequence[Tensor], backend: str = "auto") -> tuple[Tensor, Tensor]:
    _check(x, weights)
    output, h_n = _forward.choose(backend, x, weights)(x, weights)
    return output, h_n


def _run_train(x: Tensor, weights: Sequence[Tensor], backend: str = "auto") -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _check(x, weights)

    def recurrence(*args: Tensor) -> tuple[Tensor, Tensor]:
        out, gates = _recurrence.choose(backend, *args)(*args)
        return out, gates

    return gru_layers.forward(x, weights, recurrence)


def _run_backward(
    grad_output: Tensor,
    grad_h_n: Tensor,
    x: Tensor,
    weights: Sequence[Tensor],
    output: Tensor,
    inner: Tensor,
    gates: Tensor,
    backend: str = "auto",
) -> tuple[Tensor, list[Tensor]]:
    _check(x, weights)
    _check_saved(x, weights, grad_output, grad_h_n, output, inner, gates)

    def recurrence_backward(*args: Tensor) -> tuple[Tensor, Tensor]:
        d_gi, d_hn = _recurrence_backward.choose(backend, *args)(*args)
        return d_gi, d_hn

    return gru_layers.backward(grad_output, grad_h_n, x, weights, output, inner, gates, recurrence_backward)


_op = define(SCHEMA, _run, _fake)
_train_op = define(TRAIN_SCHEMA, _run_train, _fake_train)
_backward_op = define(BACKWARD_SCHEMA, _run_backward, _fake_backward)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weights, ctx.backend = inputs
    ctx.save_for_backward(x, *weights)


def _gradient(ctx: Any, grad_output: Tensor, grad_h_n: Tensor) -> tuple[Any, ...]:
    """``bigru`` kept nothing, so the gates are computed again."""
    x, *weights = ctx.saved_tensors
    output, _, inner, gates = _train_op(x, weights, ctx.backend)
    return _gradients(ctx, _backward_op(grad_output, grad_h_n, x, weights, output, inner, gates, ctx.backend))


def _save_train(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weights, ctx.backend = inputs
    out, _, inner, gates = output
    ctx.mark_non_differentiable(inner, gates)
    ctx.save_for_backward(x, out, inner, gates, *weights)


def _gradient_train(ctx: Any, grad_output: Tensor, grad_h_n: Tensor, *_: Any) -> tuple[Any, ...]:
    x, output, inner, gates, *weights = ctx.saved_tensors
    return _gradients(ctx, _backward_op(grad_output, grad_h_n, x, weights, output, inner, gates, ctx.backend))


def _gradients(ctx: Any, gradients: tuple[Tensor, list[Tensor]]) -> tuple[Any, ...]:
    """With None for ``backend``, which the dispatcher takes away from the inputs when it is the default."""
    return *gradients, *[None] * (len(ctx.needs_input_grad) - len(gradients))


def _autocast_rule(device_type: str, tensors: list[Tensor]) -> torch.dtype:
    """As torch.nn.GRU: the context's dtype on a GPU (cuDNN), no change of precision on a CPU."""
    return widest(device_type, tensors) if device_type == "cpu" else autocast_dtype(device_type, tensors)


differentiable("bigru", _gradient, _save)
differentiable("bigru_train", _gradient_train, _save_train)
not_differentiable("bigru_backward", "second derivatives are not implemented; use torch.nn.GRU.")
autocast(_op, _autocast_rule)
autocast(_train_op, _autocast_rule)
autocast(_backward_op, None)


def bigru(x: Tensor, weights: Sequence[Tensor], *, backend: str = "auto") -> tuple[Tensor, Tensor]:
    """A bidirectional GRU, batch first, from zero states: ``output, h_n = torch.nn.GRU(...)(x)``.

    x: (B, T, I) with T >= 1, float32, float16, bfloat16 or float64. weights: torch.nn.GRU's flat list, for
    each layer and direction w_ih (3H, I), w_hh (3H, H), b_ih (3H), b_hh (3H), I = 2H from the second layer
    on, gates in the order r, z, n; x's dtype and device. Returns output (B, T, 2H) and h_n (2L, B, H), both
    contiguous. No dropout: between layers, call it layer by layer. Half-precision states are held in float32.

    Differentiable once: where a gradient is wanted the forward pass keeps the gates, 8H numbers a frame and
    layer. Section 2.3 of the paper uses two layers of 64 units.

    Raises ValueError for other shapes, dtypes or devices, and for a ``backend`` that cannot run this.
    """
    weights = list(weights)
    refuse_forward_mode("bigru", x, *weights)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (x, *weights)):
        output, h_n, _, _ = _train_op(x, weights, backend)
    else:
        output, h_n = _op(x, weights, backend)
    return output, h_n
