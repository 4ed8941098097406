"""The same network and weights in stock PyTorch, eager and compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..checking.comparison import Check
from ..engine.tiles import padded
from ..nn import ResidualBlock, Stem
from ..nn.convert import from_weights
from ..weights import Weights
from .checks import Oracle, Part
from .contestants import Call, with_padding


class Plain(nn.Module):
    """The network without what only training and odd lengths need: norms folded, T a multiple of 8, one part of it."""

    def __init__(self, weights: Weights, part: Part, trunk_dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.part: Part = part
        self.dtype = trunk_dtype
        self.net = net = from_weights(weights)
        for module in net.modules():
            if isinstance(module, (Stem, ResidualBlock)):
                for n in ("",) if isinstance(module, Stem) else ("1", "2"):
                    conv, norm = getattr(module, f"conv{n}"), getattr(module, f"norm{n}")
                    setattr(module, f"conv{n}", fuse_conv_bn_eval(conv, norm))
                    setattr(module, f"norm{n}", nn.Identity())
        net.stem.to(trunk_dtype)
        net.attention.to(trunk_dtype)

    def forward(self, x: Tensor) -> Tensor:
        """The part: raw log-mel (B, T, D), or for the recurrent part vectors (B, T, I), as in ``Contestant``."""
        if self.part == "recurrent":
            return self.recurrent(x)
        return self.trunk(x) if self.part == "trunk" else self.recurrent(self.trunk(x))

    def trunk(self, x: Tensor) -> Tensor:
        """Raw log-mel (B, T, D) -> pooled vectors (B, T, I), float32."""
        net, attention = self.net, self.net.attention
        maps = net.stem(net.normalize(x).unsqueeze(1).to(self.dtype))
        gated = attention.features(maps)
        if attention.mask is not None:
            logits = attention.mask(maps)
            if attention.projection is not None:
                logits = attention.projection(logits)
            gated = (1 + torch.sigmoid(logits)) * gated
        return net.flatten(gated).float()

    def recurrent(self, x: Tensor) -> Tensor:
        """Pooled vectors (B, T, I) -> probabilities (B, T, K)."""
        return torch.sigmoid(self.net.head(self.net.gru(x)[0]))


class Eager:
    """Stock PyTorch, convolutions channels-last; contiguous only for the search."""

    library = "torch"

    def __init__(
        self, weights: Weights, precision: str, threads: int, *, device: str = "cpu", channels_last: bool = True
    ) -> None:
        self._weights, self._threads, self._device = weights, threads, device
        self._dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._channels_last = channels_last
        self.precision = self.yardstick = precision
        self.name = f"torch {precision}"
        self.version = f"torch {torch.__version__}"
        layout = "channels-last" if channels_last else "contiguous"
        self.settings = f"eager, norms folded, {layout}, recurrent part fp32, {threads} threads"

    def prepare(self, part: Part, batch: int, frames: int) -> Call:
        module = Plain(self._weights, part, self._dtype).eval().to(self._device)
        if self._channels_last:
            module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        run = self._ready(module, part, batch, frames)

        @torch.inference_mode()
        def call(array: np.ndarray) -> np.ndarray:
            torch.set_num_threads(self._threads)
            answer: np.ndarray = run(torch.from_numpy(array).to(self._device)).cpu().numpy()
            return answer

        return with_padding(call, part, frames)

    def examine(self, oracle: Oracle) -> Iterable[Check]:
        return ()

    def _ready(self, module: Plain, part: Part, batch: int, frames: int) -> Callable[[Tensor], Tensor]:
        return module


class Compiled(Eager):
    """torch.compile: on a CPU with frozen weights, on a GPU with max-autotune and CUDA graphs.

    The trunk is compiled and the recurrent part runs eagerly, which compilation does not make faster.
    """

    def __init__(self, weights: Weights, precision: str, threads: int, *, device: str = "cpu", **options: Any) -> None:
        super().__init__(weights, precision, threads, device=device)
        self._options = options or ({"mode": "max-autotune"} if device.startswith("cuda") else {})
        self._compiled: dict[tuple[int, int], Callable[[Tensor], Tensor]] = {}
        self.name = f"torch.compile {precision}"
        what = ", ".join(f"{key}={value}" for key, value in self._options.items()) or "freezing"
        self.settings = f"trunk compiled ({what}), channels-last, recurrent part fp32, {threads} threads"

    def _ready(self, module: Plain, part: Part, batch: int, frames: int) -> Callable[[Tensor], Tensor]:
        if part == "recurrent":
            return module
        shape = batch, padded(frames)
        if shape not in self._compiled:
            self._compiled[shape] = self._compile(module, *shape)
        trunk = self._compiled[shape]
        return trunk if part == "trunk" else lambda x: module.recurrent(trunk(x))

    def _compile(self, module: Plain, batch: int, frames: int) -> Callable[[Tensor], Tensor]:
        torch.set_num_threads(self._threads)
        compiled: Callable[[Tensor], Tensor] = torch.compile(module.trunk, dynamic=False, **self._options)
        example = torch.zeros(batch, frames, self._weights.config.features.mel_bands, device=self._device)
        inductor = import_module("torch._inductor.config")
        frozen = inductor.patch(freezing=True) if self._device == "cpu" else nullcontext()
        with torch.inference_mode(), frozen:
            compiled(example)  # compiles now, and reads the setting now
        return compiled
