"""conv3x3(x, weight): a 3x3 convolution with zero padding and as many outputs as inputs, differentiable."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._contract import in_layout, memory_format, refusal, require_alike, require_gradient, require_maps
from ._dispatch import Table
from ._library import autocast, autocast_dtype, define, differentiable, not_differentiable, refuse_forward_mode

SCHEMA = 'conv3x3(Tensor x, Tensor weight, str backend="auto") -> Tensor'
BACKWARD_SCHEMA = 'conv3x3_backward(Tensor grad, Tensor x, Tensor weight, str backend="auto") -> (Tensor, Tensor)'


def _check(x: Tensor, weight: Tensor) -> None:
    require_maps(x=x)
    channels = x.shape[1]
    if weight.shape != (channels, channels, 3, 3):
        raise refusal("weight", weight.shape, f"({channels}, {channels}, 3, 3)")
    require_alike("weight", weight, "x", x)


def _fake(x: Tensor, weight: Tensor, backend: str = "auto") -> Tensor:
    _check(x, weight)
    return torch.empty_like(x, memory_format=memory_format(x))


def _fake_backward(grad: Tensor, x: Tensor, weight: Tensor, backend: str = "auto") -> tuple[Tensor, Tensor]:
    _check(x, weight)
    require_gradient(grad, "x", x)
    d_weight = torch.empty_like(weight, memory_format=memory_format(weight))
    return torch.empty_like(x, memory_format=memory_format(x)), d_weight


_forward = Table("conv3x3")
_backward = Table("conv3x3_backward", "conv3x3")


def _run(x: Tensor, weight: Tensor, backend: str = "auto") -> Tensor:
    _check(x, weight)
    run = _forward.choose(backend, x, weight)
    if not x.numel():  # torch's own functions refuse some empty maps
        return _fake(x, weight)
    return in_layout(run(x, weight), memory_format(x))


def _run_backward(grad: Tensor, x: Tensor, weight: Tensor, backend: str = "auto") -> tuple[Tensor, Tensor]:
    _check(x, weight)
    require_gradient(grad, "x", x)
    run = _backward.choose(backend, grad, x, weight)
    if not x.numel():
        d_x, d_weight = _fake_backward(grad, x, weight)
        return d_x, d_weight.zero_()
    d_x, d_weight = run(grad, x, weight)
    return in_layout(d_x, memory_format(x)), in_layout(d_weight.to(weight.dtype), memory_format(weight))


_op = define(SCHEMA, _run, _fake)
_backward_op = define(BACKWARD_SCHEMA, _run_backward, _fake_backward)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, weight, ctx.backend = inputs
    ctx.save_for_backward(x, weight)


def _gradient(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    gradients = _backward_op(grad, *ctx.saved_tensors, ctx.backend)
    return *gradients, *[None] * (len(ctx.needs_input_grad) - len(gradients))


differentiable("conv3x3", _gradient, _save)
not_differentiable("conv3x3_backward", "second derivatives are not implemented; use torch.nn.functional.conv2d.")
autocast(_op, autocast_dtype)
autocast(_backward_op, None)


def conv3x3(x: Tensor, weight: Tensor, *, backend: str = "auto") -> Tensor:
    """``torch.nn.functional.conv2d(x, weight, padding=1)`` for a 3x3 kernel that keeps the number of channels.

    x: (B, C, T, D), any strides, channels-last is fastest; weight: (C, C, 3, 3), x's dtype and device; float32,
    float16, bfloat16 or float64. Returns x's shape, channels-last if x is, contiguous otherwise. Under autocast both
    are cast to its dtype, as for torch's convolution. Differentiable once.

    ValueError for other shapes, dtypes or devices, and for a ``backend`` that cannot run this.
    """
    refuse_forward_mode("conv3x3", x, weight)
    out: Tensor = _op(x, weight, backend)
    return out
