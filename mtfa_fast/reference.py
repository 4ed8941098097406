"""The float64 reference of a detector, and stock PyTorch beside it: what every fast path is measured against."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .backends.reference.log_mel import log_mel as reference_log_mel
from .config import HOURGLASS_DEPTH
from .engine.torch_engine import HALO_FRAMES
from .nn import SEDNet
from .nn.convert import from_weights
from .nn.modules import pad_time
from .weights import Weights

TILE_FRAMES = 512  # of the trunk


class Reference:
    """The network of ``weights`` in float64, and stock PyTorch in ``precision`` ("fp32", or "bf16": autocast)."""

    def __init__(self, weights: Weights, precision: str) -> None:
        if precision not in ("fp32", "bf16"):
            raise ValueError(f"precision: got {precision!r}, allowed: fp32, bf16")
        self.weights, self.precision = weights, precision
        self._stock = from_weights(weights)
        self._exact = copy.deepcopy(self._stock).double()

    def log_mel(self, wave: np.ndarray, dtype: torch.dtype = torch.float64) -> np.ndarray:
        """Mono samples (n,) -> raw log-mel (1 + n // hop, D)."""
        f, tensors = self.weights.config.features, self.weights.tensors
        window, mel = (torch.from_numpy(tensors[f"features.{name}"]).to(dtype) for name in ("window", "mel"))
        frames = reference_log_mel(torch.from_numpy(wave).to(dtype), window, mel, f.hop, f.fft_length, f.log_floor)
        return frames.numpy()

    def probabilities(self, log_mel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Raw log-mel (T, D) -> frame probabilities (T, K) in float64: exact, and stock PyTorch's."""
        return self._run(self._exact, log_mel), self._run(self._stock, log_mel)

    def vectors(self, log_mel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Raw log-mel (T, D) -> what the recurrent part gets, (T padded to a multiple of 8, I): exact and stock."""
        exact, stock = (self._vectors(net, log_mel)[0].double().numpy() for net in (self._exact, self._stock))
        return exact, stock

    def recurrent(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The recurrent part alone, (T, I) -> (T, K): exact and stock."""
        exact, stock = (self._recurrent(net, self._input(net, vectors)) for net in (self._exact, self._stock))
        return exact, stock

    def stages(self, log_mel: np.ndarray, names: Sequence[str]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """What the stages ``names`` make of (T, D): exact and stock, in the shape of the engine's ``tap``."""
        exact, stock = (self._outputs(net, log_mel, names) for net in (self._exact, self._stock))
        return {name: (exact[name], stock[name]) for name in names}

    def _run(self, net: SEDNet, log_mel: np.ndarray) -> np.ndarray:
        return self._recurrent(net, self._vectors(net, log_mel))[: len(log_mel)]

    @torch.no_grad()
    def _vectors(self, net: SEDNet, log_mel: np.ndarray) -> Tensor:
        # The trunk in tiles with their neighbourhood, so that memory does not grow with the recording.
        maps = pad_time(net.normalize(self._input(net, log_mel)).unsqueeze(1), 2**HOURGLASS_DEPTH)
        parts = []
        with self._precision_of(net):
            for first in range(0, maps.shape[2], TILE_FRAMES):
                low, last = max(first - HALO_FRAMES, 0), min(first + TILE_FRAMES, maps.shape[2])
                tile = net.attention(net.stem(maps[:, :, low : last + HALO_FRAMES]))
                parts.append(net.flatten(tile)[:, first - low : last - low])
        return torch.cat(parts, 1)

    @torch.no_grad()
    def _recurrent(self, net: SEDNet, vectors: Tensor) -> np.ndarray:
        with self._precision_of(net):
            logits = net.head(net.gru(vectors)[0])
        return torch.sigmoid(logits)[0].double().numpy()

    @torch.no_grad()
    def _outputs(self, net: SEDNet, log_mel: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        found: dict[str, Tensor] = {}
        # The engine's gate and pooling end where the dropout before the recurrent layers begins.
        modules = {"gate" if name == "input_dropout" else name: module for name, module in net.named_modules()}

        def keep(name: str, output: Tensor | tuple[Tensor, ...]) -> None:
            found[name] = (output[0] if isinstance(output, tuple) else output)[0]

        handles = [modules[n].register_forward_hook(lambda _m, _i, out, n=n: keep(n, out)) for n in names]
        try:
            with self._precision_of(net):
                net(net.normalize(self._input(net, log_mel)))
        finally:
            for handle in handles:
                handle.remove()
        return {name: self._as_tap(name, output).double().numpy() for name, output in found.items()}

    def _as_tap(self, name: str, output: Tensor) -> Tensor:
        if output.ndim == 3:
            return output.permute(1, 2, 0)
        return output.unflatten(1, (2, -1) if name == "gru" else (-1, self.weights.config.network.channels))

    def _input(self, net: SEDNet, frames: np.ndarray) -> Tensor:
        return torch.from_numpy(frames).to(net.mean.dtype).unsqueeze(0)

    def _precision_of(self, net: SEDNet) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=net is self._stock and self.precision == "bf16")
