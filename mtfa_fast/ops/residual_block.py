"""residual_block(x, w1, b1, w2, b2): both convolutions, biases, ReLUs and the identity, for inference."""

from __future__ import annotations

import torch
from torch import Tensor

from ._contract import in_layout, memory_format, refusal, require_alike, require_maps
from ._dispatch import Table
from ._library import autocast, autocast_dtype, define, not_differentiable, refuse_forward_mode

SCHEMA = 'residual_block(Tensor x, Tensor w1, Tensor b1, Tensor w2, Tensor b2, str backend="auto") -> Tensor'


def _check(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> torch.memory_format:
    require_maps(x=x)
    channels = x.shape[1]
    for name, weight in (("w1", w1), ("w2", w2)):
        if weight.shape != (channels, channels, 3, 3):
            raise refusal(name, weight.shape, f"({channels}, {channels}, 3, 3)")
        require_alike(name, weight, "x", x)
    for name, bias in (("b1", b1), ("b2", b2)):
        if bias.shape != (channels,):
            raise refusal(name, bias.shape, f"({channels},)")
        require_alike(name, bias, "x", x)
    return memory_format(x)


def _fake(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, backend: str = "auto") -> Tensor:
    return torch.empty_like(x, memory_format=_check(x, w1, b1, w2, b2))


_table = Table("residual_block")


def _run(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, backend: str = "auto") -> Tensor:
    layout = _check(x, w1, b1, w2, b2)
    args = (in_layout(x, layout), w1, b1, w2, b2)
    run = _table.choose(backend, *args)
    if not x.numel():  # torch's own functions refuse some empty maps
        return _fake(*args)
    return in_layout(run(*args), layout)


_op = define(SCHEMA, _run, _fake)
not_differentiable("residual_block", "it is for inference; train with mtfa_fast.nn.ResidualBlock.")
autocast(_op, autocast_dtype)


def residual_block(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, *, backend: str = "auto") -> Tensor:
    """``relu(conv2(relu(conv1(x))) + x)``, 3x3 convolutions with zero padding; batch norm folded into them.

    x: (B, C, T, D), any strides, channels-last is fastest; w1, w2: (C, C, 3, 3), channels-last is fastest;
    b1, b2: (C,); one dtype of float32, float16, bfloat16, float64. Returns x's shape, channels-last if x
    is, contiguous otherwise. Under autocast everything is cast to its dtype, as for convolutions.

    For inference: differentiating raises NotImplementedError. ValueError for other shapes, dtypes or
    devices, and for a ``backend`` that cannot run this.
    """
    refuse_forward_mode("residual_block", x, w1, b1, w2, b2)
    out: Tensor = _op(x, w1, b1, w2, b2, backend)
    return out
