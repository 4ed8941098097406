"""(1 + sigmoid(logits)) * features in one pass over memory, and both gradients in another."""

# A kernel's parameters are pointers and numbers that Triton types at launch.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from ..support import Support
from ._maps import TILE, empty_map, on_device, runs_here


@triton.jit
def _forward(logits, features, out, count, BLOCK: tl.constexpr):
    # Both maps lie in the same order, so the kernel sees two rows of numbers and needs no shape.
    p = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = p < count
    z = tl.load(logits + p, mask=inside, other=0.0).to(tl.float32)
    f = tl.load(features + p, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + p, ((1.0 + tl.sigmoid(z)) * f).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _backward(grad, logits, features, grad_logits, grad_features, count, BLOCK: tl.constexpr):
    # The mask is computed again: keeping it would cost a map of memory and a read, the sigmoid is free here.
    p = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = p < count
    g = tl.load(grad + p, mask=inside, other=0.0).to(tl.float32)
    m = tl.sigmoid(tl.load(logits + p, mask=inside, other=0.0).to(tl.float32))
    f = tl.load(features + p, mask=inside, other=0.0).to(tl.float32)
    tl.store(grad_logits + p, (g * f * m * (1.0 - m)).to(grad_logits.dtype.element_ty), mask=inside)
    tl.store(grad_features + p, (g * (1.0 + m)).to(grad_features.dtype.element_ty), mask=inside)


def supports(logits: Tensor, features: Tensor) -> Support:
    return runs_here(features)


def supports_backward(grad: Tensor, logits: Tensor, features: Tensor) -> Support:
    return runs_here(features)


def attention_gate(logits: Tensor, features: Tensor) -> Tensor:
    out = empty_map(features)
    if out.numel():
        with on_device(features):
            _forward[(triton.cdiv(out.numel(), TILE),)](logits, features, out, out.numel(), BLOCK=TILE, num_warps=4)
    return out


def attention_gate_backward(grad: Tensor, logits: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    grad_logits, grad_features = empty_map(features), empty_map(features)
    count = features.numel()
    if count:
        with on_device(features):
            _backward[(triton.cdiv(count, TILE),)](
                grad, logits, features, grad_logits, grad_features, count, BLOCK=TILE, num_warps=4
            )
    return grad_logits, grad_features
