"""The fast layers: parameters, state dict and results of the plain ones, other arithmetic in between.

:class:`MTFA`, :class:`Hourglass` and :class:`.blocks.ResidualBlock` stand for those of :mod:`.modules`,
:class:`BiGRU` for a bidirectional torch.nn.GRU; :func:`accelerate` puts them into a finished model.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import PackedSequence

from ..config import HOURGLASS_DEPTH, Variant
from ..ops import attention_gate, bigru, upsample_add, upsample_add_gate
from . import blocks, folding, modules
from .blocks import is_convolution, transformed, watched
from .modules import crop_time


class Hourglass(modules.Hourglass):
    """:class:`.modules.Hourglass` with upsampling and addition in one pass over memory."""

    def forward(self, x: Tensor) -> Tensor:
        if transformed():
            return super().forward(x)
        skip, low = self.scales(x)
        return upsample_add(low, skip)


class MTFA(modules.MTFA):
    """:class:`.modules.MTFA`, the attention layer A = (1 + M) * F (section 2 of the paper), made fast.

    The same arguments, parameters, state dict and results; (B, C, T, D) -> the same, any float dtype, either
    memory layout, which the result keeps. D must be a multiple of ``2 ** depth``; ValueError otherwise.

    - Where gradients are wanted: upsampling, addition, sigmoid and gate are fused, forward and backward, and in
      training on a CPU each residual block is one op, batch norm included; elsewhere the plain convolutions and norms.
    - In evaluation without gradients (``eval()`` under ``torch.no_grad`` or ``inference_mode``): batch norm is
      folded into the convolutions and each residual block is one op. No change of the weights is missed, be it
      an optimizer step, ``load_state_dict`` or an exponential moving average that writes to ``.data``: on a CPU
      the folded weights are kept as long as a comparison finds the numbers behind them unchanged, on other
      devices, where a comparison would wait for the device, and in compiled graphs every call folds.
    - Where hooks watch parts of the layer, where a part was replaced by something of another kind, and under
      torch.func's transforms and forward-mode differentiation: the plain modules.
    """

    _kept: tuple[torch.dtype, list[Tensor], folding.Folded] | None = None

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
        if transformed() or watched(self) or not self._ends_as_built():
            return super().forward(x)
        padded = self._pad(x)
        plain = _wants_gradient(self, x) or not self._foldable()
        layout = torch.contiguous_format if x.is_contiguous() else torch.channels_last
        if not plain or x.device.type == "cpu":  # there each convolution would reorder its maps, forward and backward
            padded = padded.contiguous(memory_format=torch.channels_last)
        out = self._plain(padded) if plain else self._folded(padded, self._weights(x.device.type))
        # A plain block adds its input to maps of autocast's dtype, so the input's dtype, if wider, outlives autocast.
        out = out.to(torch.promote_types(out.dtype, x.dtype))
        return crop_time(out, x.shape[2]).contiguous(memory_format=layout)

    def _ends_as_built(self) -> bool:
        """Whether what the fused ends take apart, hourglass and projection, is of the kind that it was built as."""
        hourglass = self.mask is None or not isinstance(self.mask, modules.Hourglass) or type(self.mask) is Hourglass
        projected = self.projection is None or is_convolution(self.projection, self.channels, 1)
        return hourglass and projected

    def _foldable(self) -> bool:
        branches = [self.features] if self.mask is None else [self.features, self.mask]
        return all(folding.foldable(branch, self.channels) for branch in branches)

    def _weights(self, device: str) -> folding.Folded:
        parts = [part for part in self.modules() if isinstance(part, modules.ResidualBlock)]
        autocast = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if autocast else parts[0].conv1.weight.dtype
        if device != "cpu" or torch.compiler.is_compiling():
            return folding.fold(parts, dtype)
        sources = folding.sources(parts)
        if self._kept is not None and self._kept[0] == dtype and all(map(_same, sources, self._kept[1])):
            return self._kept[2]
        folded = folding.fold(parts, dtype)
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

    def _folded(self, x: Tensor, weights: folding.Folded) -> Tensor:
        features = folding.run(self.features, x, weights)
        if isinstance(self.mask, modules.Hourglass):
            skip, low = folding.scales(self.mask, x, weights)
            return upsample_add_gate(self._project_low(low), self._project(skip), features)
        if self.mask is not None:
            return attention_gate(self._project(folding.run(self.mask, x, weights)), features)
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
        if isinstance(x, PackedSequence) or hx is not None or transformed():
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

    Every MTFA, Hourglass and ResidualBlock layer of :mod:`mtfa_fast.nn` and every bidirectional torch.nn.GRU with
    biases keeps its identity, parameters, buffers, hooks and state dict keys and changes its class, so that
    optimizers, checkpoints and DistributedDataParallel stay as they are. Warns where there was nothing to change.
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
        elif type(module) is modules.ResidualBlock:
            module.__class__ = blocks.ResidualBlock
        elif type(module) is nn.GRU and module.bidirectional and module.bias:
            module.__class__ = BiGRU  # type: ignore[assignment]
        found += isinstance(module, (MTFA, Hourglass, blocks.ResidualBlock, BiGRU))
    return found


def _wants_gradient(module: nn.Module, x: Tensor) -> bool:
    return torch.is_grad_enabled() and (x.requires_grad or any(p.requires_grad for p in module.parameters()))


def _same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a, b)
