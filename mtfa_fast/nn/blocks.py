"""The fast residual block: in training on a CPU one differentiable op, everywhere else the plain one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules.module import _has_any_global_hook

from ..ops.residual_block_train import has_kernel, residual_block_train
from . import modules


class ResidualBlock(modules.ResidualBlock):
    """:class:`.modules.ResidualBlock`; in training on a CPU its convolutions and norms run as one op.

    The parameters, buffers, state dict and results of the plain block, which runs where something else than its own
    convolutions and batch norms took their place, hooks watch them, a norm is in evaluation mode, or the kernels have
    no such type or number of channels.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self._fits(x):
            return super().forward(x)
        first, second = self.norm1, self.norm2
        out, statistics = residual_block_train(
            x,
            self.conv1.weight,
            first.weight,
            first.bias,
            self.conv2.weight,
            second.weight,
            second.bias,
            first.eps,
        )
        count = x.numel() // x.shape[1]
        _follow(first, statistics[0], statistics[1], count)
        _follow(second, statistics[2], statistics[3], count)
        return out

    def _fits(self, x: Tensor) -> bool:
        if x.device.type != "cpu" or x.ndim != 4 or transformed() or not torch.is_grad_enabled():
            return False
        channels = x.shape[1]
        if x.numel() < 2 * channels or watched(self) or not all(_is_norm(norm) for norm in (self.norm1, self.norm2)):
            return False
        convs = (self.conv1, self.conv2)
        if not all(is_convolution(conv, channels, 3) and conv.bias is None for conv in convs):
            return False
        weight, exact = self.conv1.weight, self.norm1.weight.dtype
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
        alike = weight.dtype == self.conv2.weight.dtype and exact == self.norm2.weight.dtype == torch.float32
        cast = torch.is_autocast_enabled("cpu") or weight.dtype == x.dtype
        return alike and cast and self.norm1.eps == self.norm2.eps and has_kernel(dtype, channels)


def is_convolution(part: nn.Module, channels: int, size: int) -> bool:
    """Whether ``part`` is the convolution that a residual block or the projection was built with, and no variation."""
    return (
        type(part) is nn.Conv2d
        and part.in_channels == part.out_channels == channels
        and part.groups == 1
        and part.kernel_size == (size, size)
        and part.padding == (size // 2, size // 2)
        and part.stride == part.dilation == (1, 1)
        and part.padding_mode == "zeros"
    )


def transformed() -> bool:
    """Inside torch.func's transforms or forward-mode differentiation.

    They know the plain modules. Ops of torch.library have no forward mode: there torch goes on with zeros, silently.
    """
    if torch.compiler.is_compiling():
        return False
    return forward_ad._current_level >= 0 or torch._C._functorch.peek_interpreter_stack() is not None


def watched(layer: nn.Module) -> bool:
    """Whether somebody waits for a call of a part that the fast paths do not call, or has put another in its place."""
    if not torch.compiler.is_compiling() and _has_any_global_hook():
        return True
    return any(
        part._forward_hooks
        or part._forward_pre_hooks
        or part._backward_hooks
        or part._backward_pre_hooks
        or "forward" in part.__dict__
        for part in layer.modules()
        if part is not layer
    )


def _is_norm(norm: nn.Module) -> bool:
    """Batch norm as a block is built with it, by the batch's statistics, its running averages in place."""
    return (
        type(norm) is nn.BatchNorm2d
        and norm.training
        and norm.affine
        and norm.track_running_stats
        and norm.momentum is not None
    )


@torch.no_grad()
def _follow(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, count: int) -> None:
    """The running averages after a batch of ``count`` values a channel, as torch.nn.BatchNorm2d keeps them."""
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    assert norm.momentum is not None
    norm.num_batches_tracked.add_(1)
    norm.running_mean.lerp_(mean, norm.momentum)
    norm.running_var.lerp_(variance * (count / (count - 1)), norm.momentum)
