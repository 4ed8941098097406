"""residual_block_train(x, ...): a residual block in training, batch norm by its own batch, as one differentiable op."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._contract import in_layout, memory_format, refusal, require_alike, require_gradient, require_maps
from ._dispatch import LADDERS, Table
from ._library import autocast, autocast_dtype, define, differentiable, not_differentiable, refuse_forward_mode

_INPUTS = "Tensor x, Tensor w1, Tensor scale1, Tensor shift1, Tensor w2, Tensor scale2, Tensor shift2, float eps"
SCHEMA = f'residual_block_train({_INPUTS}, str backend="auto") -> (Tensor, Tensor, Tensor, Tensor)'
BACKWARD_SCHEMA = (
    f"residual_block_train_backward(Tensor grad, {_INPUTS}, Tensor out, Tensor statistics, Tensor y1, Tensor y2, "
    'str backend="auto") -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)'
)
_CONVOLVED = (0, 1, 4)  # of the inputs: what autocast casts, as it does a convolution's
Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def statistics_dtype(x: Tensor) -> torch.dtype:
    """Norms and their statistics are held in at least float32."""
    return torch.promote_types(x.dtype, torch.float32)


def _check(x: Tensor, w1: Tensor, scale1: Tensor, shift1: Tensor, w2: Tensor, scale2: Tensor, shift2: Tensor) -> None:
    require_maps(x=x)
    batch, channels, frames, bands = x.shape
    if batch * frames * bands < 2:
        raise refusal("x", x.shape, "(B, C, T, D) of more than one value a channel, B * T * D >= 2")
    for name, weight in (("w1", w1), ("w2", w2)):
        if weight.shape != (channels, channels, 3, 3):
            raise refusal(name, weight.shape, f"({channels}, {channels}, 3, 3)")
        require_alike(name, weight, "x", x)
    exact = statistics_dtype(x)
    for name, norm in (("scale1", scale1), ("shift1", shift1), ("scale2", scale2), ("shift2", shift2)):
        if norm.shape != (channels,):
            raise refusal(name, norm.shape, f"({channels},)")
        if norm.dtype not in (exact, x.dtype):
            raise refusal(name, norm.dtype, f"{exact} or {x.dtype} with maps of {x.dtype}")
        if norm.device != x.device:
            raise refusal(name, f"a tensor on {norm.device}", f"{x.device}, the device of x")


def _fake(
    x: Tensor,
    w1: Tensor,
    scale1: Tensor,
    shift1: Tensor,
    w2: Tensor,
    scale2: Tensor,
    shift2: Tensor,
    eps: float,
    backend: str = "auto",
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _check(x, w1, scale1, shift1, w2, scale2, shift2)
    y1, y2 = (torch.empty_like(x, memory_format=torch.channels_last) for _ in range(2))
    statistics = x.new_empty((4, x.shape[1]), dtype=statistics_dtype(x))
    return torch.empty_like(x, memory_format=memory_format(x)), statistics, y1, y2


def _fake_backward(
    grad: Tensor,
    x: Tensor,
    w1: Tensor,
    scale1: Tensor,
    shift1: Tensor,
    w2: Tensor,
    scale2: Tensor,
    shift2: Tensor,
    eps: float,
    *saved: Any,
) -> Inputs:
    _check(x, w1, scale1, shift1, w2, scale2, shift2)
    require_gradient(grad, "x", x)
    maps = (torch.empty_like(t, memory_format=memory_format(t)) for t in (x, w1, w2))
    d_x, d_w1, d_w2 = maps
    d_scale1, d_shift1, d_scale2, d_shift2 = (t.new_empty(t.shape) for t in (scale1, shift1, scale2, shift2))
    return d_x, d_w1, d_scale1, d_shift1, d_w2, d_scale2, d_shift2


_forward = Table("residual_block_train")
_backward = Table("residual_block_train_backward", "residual_block_train")


def _with_exact_norms(x: Tensor, w1: Tensor, scale1: Tensor, shift1: Tensor, w2: Tensor, *norm2: Tensor) -> Inputs:
    scale1, shift1, scale2, shift2 = (t.to(statistics_dtype(x)) for t in (scale1, shift1, *norm2))
    return x, w1, scale1, shift1, w2, scale2, shift2


def _run(
    x: Tensor,
    w1: Tensor,
    scale1: Tensor,
    shift1: Tensor,
    w2: Tensor,
    scale2: Tensor,
    shift2: Tensor,
    eps: float,
    backend: str = "auto",
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _check(x, w1, scale1, shift1, w2, scale2, shift2)
    args = _with_exact_norms(x, w1, scale1, shift1, w2, scale2, shift2)
    out, statistics, y1, y2 = _forward.choose(backend, *args, eps)(*args, eps)
    last = torch.channels_last
    return in_layout(out, memory_format(x)), statistics, in_layout(y1, last), in_layout(y2, last)


def _run_backward(
    grad: Tensor,
    x: Tensor,
    w1: Tensor,
    scale1: Tensor,
    shift1: Tensor,
    w2: Tensor,
    scale2: Tensor,
    shift2: Tensor,
    eps: float,
    out: Tensor,
    statistics: Tensor,
    y1: Tensor,
    y2: Tensor,
    backend: str = "auto",
) -> Inputs:
    inputs = (x, w1, scale1, shift1, w2, scale2, shift2)
    _check(*inputs)
    require_gradient(grad, "x", x)
    for name, kept in (("out", out), ("y1", y1), ("y2", y2)):
        if kept.shape != x.shape or kept.dtype != x.dtype:
            raise refusal(name, f"{tuple(kept.shape)} {kept.dtype}", f"{tuple(x.shape)} {x.dtype}, as forward made it")
    if statistics.shape != (4, x.shape[1]) or statistics.dtype != statistics_dtype(x):
        raise refusal("statistics", statistics.shape, f"(4, {x.shape[1]}) {statistics_dtype(x)}, as forward made it")
    args = (grad, *_with_exact_norms(*inputs), eps, out, statistics, y1, y2)
    gradients = _backward.choose(backend, *args)(*args)
    made = (gradient.to(t.dtype) for t, gradient in zip(inputs, gradients, strict=True))
    d_x, d_w1, d_scale1, d_shift1, d_w2, d_scale2, d_shift2 = made
    d_w1, d_w2 = in_layout(d_w1, memory_format(w1)), in_layout(d_w2, memory_format(w2))
    return in_layout(d_x, memory_format(x)), d_w1, d_scale1, d_shift1, d_w2, d_scale2, d_shift2


_op = define(SCHEMA, _run, _fake)
_backward_op = define(BACKWARD_SCHEMA, _run_backward, _fake_backward)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.eps, ctx.backend = inputs
    out, statistics, y1, y2 = output
    ctx.mark_non_differentiable(statistics, y1, y2)
    ctx.set_materialize_grads(False)  # of these as zeros, two maps
    ctx.save_for_backward(*tensors, out, statistics, y1, y2)


def _gradient(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Any, ...]:
    if grad is None:
        return (None,) * len(ctx.needs_input_grad)
    inputs, kept = ctx.saved_tensors[:7], ctx.saved_tensors[7:]
    gradients = _backward_op(grad, *inputs, ctx.eps, *kept, ctx.backend)
    return *gradients, *[None] * (len(ctx.needs_input_grad) - len(gradients))


differentiable("residual_block_train", _gradient, _save)
not_differentiable("residual_block_train_backward", "second derivatives are not implemented; use the plain modules.")
autocast(_op, autocast_dtype, only=_CONVOLVED)
autocast(_backward_op, None)


def has_kernel(dtype: torch.dtype, channels: int) -> bool:
    """Whether CPU kernels train blocks of so many channels in this dtype; otherwise torch's own code is faster.

    In a compiled graph, where the instruction set cannot be asked for, what every one has.
    """
    if torch.compiler.is_compiling():
        return dtype == torch.float32 and channels % 16 == 0
    x = torch.empty(1, channels, 1, 2, dtype=dtype)
    weight, norm = x.new_empty(channels, channels, 3, 3), x.new_empty(channels)
    args = (x, weight, norm, norm, weight, norm, norm, 0.0)
    return any(_forward.support(name, *args).ok for name in LADDERS["cpu"] if name != "reference")


def residual_block_train(
    x: Tensor,
    w1: Tensor,
    scale1: Tensor,
    shift1: Tensor,
    w2: Tensor,
    scale2: Tensor,
    shift2: Tensor,
    eps: float = 1e-5,
    *,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """``relu(norm2(conv2(relu(norm1(conv1(x))))) + x)``: 3x3 convolutions, batch norm by this batch's statistics.

    x: (B, C, T, D) with B * T * D >= 2, any strides, channels-last is fastest; w1, w2: (C, C, 3, 3); x, w1 and w2 of
    one dtype of float32, float16, bfloat16, float64. scale1, shift1, scale2, shift2: (C,), the norms' weights and
    biases, and eps; of x's dtype, or float32 with maps of half precision. Returns the result, x's shape, channels-last
    if x is, contiguous otherwise; and the statistics (4, C): mean and biased variance of conv1's result and of
    conv2's, for running averages. Under autocast maps and weights are cast to its dtype, as for convolutions.

    Differentiable once, the statistics not. Kept for that are two maps beside x and the result, where the plain
    modules keep three: what conv1 and conv2 made.

    ValueError for other shapes, dtypes or devices, and for a ``backend`` that cannot run this.
    """
    args = (x, w1, scale1, shift1, w2, scale2, shift2)
    refuse_forward_mode("residual_block_train", *args)
    out, statistics, _, _ = _op(*args, eps, backend)
    return out, statistics
