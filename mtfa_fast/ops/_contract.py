"""Checks that the ops share, worded once: argument, what was given, what is allowed.

An op runs its check on every call, so nothing is formatted before a check has failed.
"""

from __future__ import annotations

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def refusal(argument: str, given: object, allowed: str) -> ValueError:
    if isinstance(given, torch.Size):
        given = f"shape {tuple(given)}"
    return ValueError(f"{argument}: got {given}, allowed: {allowed}")


def require_maps(**maps: Tensor) -> None:
    """Feature maps: (B, C, T, D), one float dtype, one device."""
    names = iter(maps)
    leader = next(names)
    first = maps[leader]
    if first.dtype not in FLOATS:
        raise refusal(leader, first.dtype, "float32, float16, bfloat16, float64")
    if first.ndim != 4:
        raise refusal(leader, first.shape, "(B, C, T, D)")
    for name in names:
        x = maps[name]
        if x.ndim != 4:
            raise refusal(name, x.shape, "(B, C, T, D)")
        require_alike(name, x, leader, first)


def require_alike(name: str, x: Tensor, leader: str, first: Tensor) -> None:
    """``x`` has the dtype and the device of ``first``."""
    if x.dtype != first.dtype:
        raise refusal(name, x.dtype, f"{first.dtype}, that of {leader}")
    if x.device != first.device:
        raise refusal(name, f"a tensor on {x.device}", f"{first.device}, the device of {leader}")


def require_same_shape(name: str, x: Tensor, leader: str, first: Tensor) -> None:
    if x.shape != first.shape:
        raise refusal(name, x.shape, f"{tuple(first.shape)}, that of {leader}")


def require_gradient(grad: Tensor, leader: str, first: Tensor) -> None:
    """``grad`` is that of a result like ``first``."""
    require_same_shape("grad", grad, leader, first)
    require_alike("grad", grad, leader, first)


def require_half_size(low: Tensor, leader: str, full: Tensor) -> None:
    """``low`` is ``full`` pooled by 2 x 2, the last row and column of an odd size kept."""
    (b, c, t, d), (fb, fc, ft, fd) = low.shape, full.shape
    if not (b == fb and c == fc and 0 <= 2 * t - ft <= 1 and 0 <= 2 * d - fd <= 1):
        raise refusal("low", low.shape, f"(B, C, ceil(T / 2), ceil(D / 2)) of {leader}, which is {tuple(full.shape)}")


def memory_format(x: Tensor) -> torch.memory_format:
    """The layout that a result of ``x``'s shape takes: channels-last if ``x`` is, contiguous otherwise."""
    if not x.is_contiguous(memory_format=torch.channels_last):
        return torch.contiguous_format
    # One pixel or one channel lies both ways. So does, for torch, every empty map: there the strides tell.
    last = not x.is_contiguous() or (not x.numel() and x.stride(3) == x.shape[1] > 1)
    return torch.channels_last if last else torch.contiguous_format


def in_layout(x: Tensor, layout: torch.memory_format) -> Tensor:
    """``x`` itself where it already lies so, otherwise a copy."""
    return x.contiguous(memory_format=layout)
