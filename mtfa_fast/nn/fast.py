"""The fast layers: parameters, state dict and results of the plain ones, other arithmetic in between.

:class:`MTFA` and :class:`Hourglass` stand for those of :mod:`.modules`, :class:`BiGRU` for a bidirectional
torch.nn.GRU; :func:`accelerate` puts them into a finished model.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.rnn import PackedSequence

from ..config import HOURGLASS_DEPTH, Variant
from ..ops import attention_gate, bigru, residual_block, upsample_add, upsample_add_gate
from . import modules
from .modules import ResidualBlock, crop_time

NORM_TENSORS = ("weight", "bias", "running_mean", "running_var")
Folded = dict[ResidualBlock, tuple[Tensor, Tensor, Tensor, Tensor]]


class Hourglass(modules.Hourglass):
    """:class:`.modules.Hourglass` with upsampling and addition in one pass over memory."""

    def forward(self, x: Tensor) -> Tensor:
        skip, low = self.scales(x)
        return upsample_add(low, skip)


class MTFA(modules.MTFA):
    """:class:`.modules.MTFA`, the attention layer A = (1 + M) * F (section 2 of the paper), made fast.

    The same arguments, parameters, state dict and results; (B, C, T, D) -> the same, any float dtype, either
    memory layout, which the result keeps. D must be a multiple of ``2 ** depth``; ValueError otherwise.

    - Where gradients are wanted: the plain modules, with upsampling, addition, sigmoid and gate fused, forward
      and backward.
    - In evaluation without gradients (``eval()`` under ``torch.no_grad`` or ``inference_mode``): batch norm is
      folded into the convolutions and each residual block is one op. No change of the weights is missed, be it
      an optimizer step, ``load_state_dict`` or an exponential moving average that writes to ``.data``: on a CPU
      the folded weights are kept as long as a comparison finds the numbers behind them unchanged, on other
      devices, where a comparison would wait for the device, and in compiled graphs every call folds.
    - Where hooks watch parts of the layer, or a norm was replaced by something that cannot be folded: the
      plain modules.
    """

    _kept: tuple[torch.dtype, list[Tensor], Folded] | None = None

    def __init__(
        self,
        channels: int,
        *,
        depth: int = HOURGLASS_DEPTH,
        variant: Variant = "mtfa",
        mask_projection: bool = True,
    ) -> None:
        super().__init__(channels, depth=depth, variant=variant, mask_projection=mask_projection)
        _swap(self)

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles fold again."""
        return {name: value for name, value in self.__dict__.items() if name != "_kept"}

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T, D), any float dtype -> A, same shape. ValueError on a wrong C or D."""
        if _watched(self):
            return super().forward(x)
        padded = self._pad(x)
        blocks = [block for block in self.modules() if isinstance(block, ResidualBlock)]
        plain = _wants_gradient(self, x) or not _foldable(blocks)
        layout = torch.contiguous_format if x.is_contiguous() else torch.channels_last
        if not plain or x.device.type == "cpu":  # there each convolution would reorder its maps, forward and backward
            padded = padded.contiguous(memory_format=torch.channels_last)
        out = self._plain(padded) if plain else self._folded(padded, self._weights(blocks, x.device.type))
        return crop_time(out, x.shape[2]).contiguous(memory_format=layout)

    def _weights(self, blocks: list[ResidualBlock], device: str) -> Folded:
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else blocks[0].conv1.weight.dtype
        if device != "cpu" or torch.compiler.is_compiling():
            return _fold(blocks, dtype)
        sources = [
            tensor.detach()
            for block in blocks
            for conv, norm in _pairs(block)
            for tensor in (conv.weight, *(getattr(norm, name) for name in NORM_TENSORS))
        ]
        if self._kept is not None and self._kept[0] == dtype and all(map(_same, sources, self._kept[1])):
            return self._kept[2]
        folded = _fold(blocks, dtype)
        self._kept = (dtype, [tensor.clone() for tensor in sources], folded)
        return folded

    def _plain(self, x: Tensor) -> Tensor:
        features = self.features(x)
        if isinstance(self.mask, modules.Hourglass):
            skip, low = self.mask.scales(x)
            return upsample_add_gate(self._project_low(low), self._project(skip), features)
        if self.mask is not None:
            return attention_gate(self._project(self.mask(x)), features)
        return features

    def _folded(self, x: Tensor, weights: Folded) -> Tensor:
        features = _sequence(self.features, x, weights)
        if isinstance(self.mask, modules.Hourglass):
            skip, low = _scales(self.mask, x, weights)
            return upsample_add_gate(self._project_low(low), self._project(skip), features)
        if self.mask is not None:
            return attention_gate(self._project(_sequence(self.mask, x, weights)), features)
        return features

    def _project_low(self, low: Tensor) -> Tensor:
        """The projection commutes with upsampling, so half the size is enough; the bias came with the skip."""
        return low if self.projection is None else F.conv2d(low, self.projection.weight)


class BiGRU(nn.RNNBase):
    """A bidirectional GRU with torch.nn.GRU's parameters, state dict and results.

    Unlike torch.nn.GRU it compiles and exports, with any batch and length. ``forward(x)`` takes (B, T, I), or
    (T, B, I) with ``batch_first=False``, or one sequence without B, and returns ``output, h_n``. Initial states
    other than zero and packed sequences are torch's own business and run through torch.nn.GRU's code.
    On a CPU a seed gives the dropout masks that torch.nn.GRU would give.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        *,
        batch_first: bool = True,
        dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            "GRU",
            input_size,
            hidden_size,
            num_layers,
            batch_first=batch_first,
            dropout=dropout,
            bidirectional=True,
            device=device,
            dtype=dtype,
        )

    def forward(self, x: Tensor | PackedSequence, hx: Tensor | None = None) -> tuple[Tensor | PackedSequence, Tensor]:
        if isinstance(x, PackedSequence) or hx is not None:
            return nn.GRU.forward(self, x, hx)  # type: ignore[call-overload]
        if x.ndim not in (2, 3) or x.shape[-1] != self.input_size:
            raise ValueError(f"x: got shape {tuple(x.shape)}, allowed: (.., .., {self.input_size}), batch and time")
        if x.ndim == 2:
            output, h_n = self._layers(x.unsqueeze(0))
            return output.squeeze(0), h_n.squeeze(1)
        output, h_n = self._layers(x if self.batch_first else x.transpose(0, 1))
        if self.training:
            # Time-major in memory as torch.nn.GRU's: a dropout behind it draws the same mask from the same seed.
            output = output.transpose(0, 1).contiguous().transpose(0, 1)
        return output if self.batch_first else output.transpose(0, 1), h_n

    def _layers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weights = [getattr(self, name) for name in self._flat_weights_names]
        if not self.training or self.dropout == 0 or self.num_layers == 1:
            return bigru(x, weights)
        per_layer = len(weights) // self.num_layers
        states = []
        for first in range(0, len(weights), per_layer):
            if first:  # torch.nn.GRU drops in the order of time, then batch
                x = F.dropout(x.transpose(0, 1).contiguous(), self.dropout).transpose(0, 1)
            x, h_n = bigru(x, weights[first : first + per_layer])
            states.append(h_n)
        return x, torch.cat(states)


def accelerate(model: nn.Module) -> nn.Module:
    """Puts the fast layers into ``model``, in place, and returns it.

    Every MTFA and Hourglass layer of :mod:`mtfa_fast.nn` and every bidirectional torch.nn.GRU with biases keeps
    its identity, parameters, buffers, hooks and state dict keys and changes its class, so that optimizers,
    checkpoints and DistributedDataParallel stay as they are. Warns where there was nothing to change.
    """
    if not _swap(model):
        warnings.warn(
            "mtfa_fast.accelerate: the model has no MTFA or Hourglass layer of mtfa_fast.nn and no bidirectional "
            "torch.nn.GRU with biases; nothing was changed",
            stacklevel=2,
        )
    return model


def _swap(model: nn.Module) -> int:
    """The number of fast layers in ``model``, those that it puts there included."""
    found = 0
    for module in model.modules():
        # Subclasses are somebody's own and keep their forward.
        if type(module) is modules.MTFA:
            module.__class__ = MTFA
        elif type(module) is modules.Hourglass:
            module.__class__ = Hourglass
        elif type(module) is nn.GRU and module.bidirectional and module.bias:
            module.__class__ = BiGRU  # type: ignore[assignment]
        found += isinstance(module, (MTFA, Hourglass, BiGRU))
    return found


def _wants_gradient(module: nn.Module, x: Tensor) -> bool:
    return torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in module.parameters()))


def _watched(layer: nn.Module) -> bool:
    """Whether somebody waits for a call of a part that the fast paths do not call."""
    return any(part._forward_hooks or part._forward_pre_hooks for part in layer.modules() if part is not layer)


def _pairs(block: ResidualBlock) -> Iterator[tuple[nn.Conv2d, _BatchNorm]]:
    yield block.conv1, block.norm1
    yield block.conv2, block.norm2


def _foldable(blocks: list[ResidualBlock]) -> bool:
    """Whether every norm is a batch norm that uses its running statistics, as they come from ResidualBlock."""
    pairs = [pair for block in blocks for pair in _pairs(block)]
    return all(
        conv.bias is None
        and isinstance(norm, _BatchNorm)
        and not norm.training
        and norm.running_var is not None
        and norm.affine
        and norm.eps == blocks[0].norm1.eps
        for conv, norm in pairs
    )


def _same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a, b)


def _fold(blocks: list[ResidualBlock], dtype: torch.dtype) -> Folded:
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


def _block(block: nn.Module, x: Tensor, weights: Folded) -> Tensor:
    assert isinstance(block, ResidualBlock)
    return residual_block(x, *weights[block])


def _sequence(blocks: nn.Module, x: Tensor, weights: Folded) -> Tensor:
    for block in blocks.children():
        x = _block(block, x, weights)
    return x


def _scales(hourglass: modules.Hourglass, x: Tensor, weights: Folded) -> tuple[Tensor, Tensor]:
    """:meth:`.modules.Hourglass.scales` with folded blocks."""
    low = _block(hourglass.low_in, F.max_pool2d(x, 2), weights)
    if isinstance(hourglass.inner, modules.Hourglass):
        skip, inner = _scales(hourglass.inner, low, weights)
        low = upsample_add(inner, skip)
    else:
        low = _block(hourglass.inner, low, weights)
    return _block(hourglass.skip, x, weights), _block(hourglass.low_out, low, weights)
