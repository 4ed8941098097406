"""The attention layer with batch norm folded into its convolutions: what allows it, the weights, the forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..ops import residual_block, upsample_add
from . import blocks
from .blocks import is_convolution
from .modules import Hourglass, ResidualBlock

NORM_TENSORS = ("weight", "bias", "running_mean", "running_var")
Folded = dict[ResidualBlock, tuple[Tensor, Tensor, Tensor, Tensor]]


def foldable(part: nn.Module, channels: int) -> bool:
    """Whether ``part`` is made of residual blocks and hourglasses as they were built, in evaluation mode.

    Somebody's subclass, adapter or replacement may compute anything and is left to its own forward.
    """
    if isinstance(part, ResidualBlock) and type(part) in (ResidualBlock, blocks.ResidualBlock):
        return all(
            is_convolution(conv, channels, 3)
            and conv.bias is None
            and type(norm) in (nn.BatchNorm2d, nn.SyncBatchNorm)
            and not norm.training
            and norm.running_var is not None
            and norm.affine
            and norm.eps == part.norm1.eps
            for conv, norm in _pairs(part)
        )
    made_of_parts = type(part) is nn.Sequential or isinstance(part, Hourglass)
    return made_of_parts and all(foldable(child, channels) for child in part.children())


def sources(blocks: list[ResidualBlock]) -> list[Tensor]:
    """Every tensor that :func:`fold` reads."""
    return [
        tensor.detach()
        for block in blocks
        for conv, norm in _pairs(block)
        for tensor in (conv.weight, *(getattr(norm, name) for name in NORM_TENSORS))
    ]


def fold(blocks: list[ResidualBlock], dtype: torch.dtype) -> Folded:
    """Weights and biases with batch norm in them, for all blocks at once: a few launches instead of 8 a norm.

    Computed in at least float32 and returned in ``dtype``, channels-last.
    """
    convs, norms = zip(*(pair for block in blocks for pair in _pairs(block)), strict=True)
    exact = torch.promote_types(convs[0].weight.dtype, torch.float32)
    weight = torch.stack([conv.weight.permute(0, 2, 3, 1) for conv in convs]).to(exact)
    scale, shift, mean, variance = (
        torch.stack([getattr(norm, name) for norm in norms]).to(exact) for name in NORM_TENSORS
    )
    scale = scale * torch.rsqrt(variance + norms[0].eps)
    weights = (weight * scale[:, :, None, None, None]).to(dtype).permute(0, 1, 4, 2, 3).unbind()
    biases = (shift - mean * scale).to(dtype).unbind()
    parts = list(zip(weights, biases, strict=True))
    return {block: (*parts[2 * i], *parts[2 * i + 1]) for i, block in enumerate(blocks)}


def run(part: nn.Module, x: Tensor, weights: Folded) -> Tensor:
    """What a :func:`foldable` part makes of ``x``."""
    if isinstance(part, ResidualBlock):
        return residual_block(x, *weights[part])
    if isinstance(part, Hourglass):
        skip, low = scales(part, x, weights)
        return upsample_add(low, skip)
    assert isinstance(part, nn.Sequential)
    for child in part:
        x = run(child, x, weights)
    return x


def scales(hourglass: Hourglass, x: Tensor, weights: Folded) -> tuple[Tensor, Tensor]:
    """:meth:`.modules.Hourglass.scales` with folded blocks."""
    low = run(hourglass.low_in, F.max_pool2d(x, 2), weights)
    low = run(hourglass.low_out, run(hourglass.inner, low, weights), weights)
    return run(hourglass.skip, x, weights), low


def _pairs(block: ResidualBlock) -> Iterator[tuple[Any, Any]]:
    """Each convolution with its norm; anything may have taken their place."""
    yield block.conv1, block.norm1
    yield block.conv2, block.norm2
