"""Plain PyTorch as the measure of everything fast: the truth in float64, and what stock PyTorch errs below it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .backends.reference.log_mel import log_mel as reference_log_mel
from .config import HOURGLASS_DEPTH
from .engine.tiles import HALO_FRAMES
from .nn.convert import from_weights
from .nn.modules import pad_time
from .weights import Weights

PRECISIONS = ("fp64", "fp32", "bf16")
TILE_FRAMES = 512  # of the trunk


class Reference:
    """The plain network of ``weights`` on the CPU: ``"fp64"``, ``"fp32"``, or ``"bf16"`` (float32 under autocast).

    Every method takes and returns NumPy arrays of one clip and answers in float64.
    """

    def __init__(self, weights: Weights, precision: str = "fp64") -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision: got {precision!r}, allowed: {', '.join(PRECISIONS)}")
        self.weights, self.precision = weights, precision
        self._net = from_weights(weights)
        if precision == "fp64":
            self._net.double()

    def log_mel(self, wave: np.ndarray) -> np.ndarray:
        """Mono samples (n,) -> raw log-mel (1 + n // hop, D); float32 where the network is not float64."""
        f, tensors, dtype = self.weights.config.features, self.weights.tensors, self._net.mean.dtype
        window, mel = (torch.from_numpy(tensors[f"features.{name}"]).to(dtype) for name in ("window", "mel"))
        frames = reference_log_mel(torch.from_numpy(wave).to(dtype), window, mel, f.hop, f.fft_length, f.log_floor)
        return _array(frames)

    def probabilities(self, log_mel: np.ndarray) -> np.ndarray:
        """Raw log-mel (T, D) -> frame probabilities (T, K)."""
        return _array(self._recurrent(self._vectors(log_mel)))[: len(log_mel)]

    def vectors(self, log_mel: np.ndarray) -> np.ndarray:
        """Raw log-mel (T, D) -> what the recurrent part gets, (T padded to a multiple of 8, I)."""
        return _array(self._vectors(log_mel))

    def recurrent(self, vectors: np.ndarray) -> np.ndarray:
        """The recurrent part alone, (T, I) -> frame probabilities (T, K)."""
        return _array(self._recurrent(self._input(vectors)))

    @torch.no_grad()
    def stages(self, log_mel: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """What the stages ``names`` make of (T, D), in the shapes of ``engine.cpu.CpuEngine.tap``."""
        net, found = self._net, dict[str, Tensor]()
        # The engine's gate and pooling end where the dropout before the recurrent layers begins.
        modules = {"gate" if name == "input_dropout" else name: module for name, module in net.named_modules()}

        def keep(name: str, output: Tensor | tuple[Tensor, ...]) -> None:
            found[name] = (output[0] if isinstance(output, tuple) else output)[0]

        handles = [modules[n].register_forward_hook(lambda _m, _i, out, n=n: keep(n, out)) for n in names]
        try:
            with self._autocast():
                net(net.normalize(self._input(log_mel)))
        finally:
            for handle in handles:
                handle.remove()
        return {name: self._as_tap(name, found[name]).double().numpy() for name in names}

    def _as_tap(self, name: str, output: Tensor) -> Tensor:
        if output.ndim == 3:
            return output.permute(1, 2, 0)
        return output.unflatten(1, (2, -1) if name == "gru" else (-1, self.weights.config.network.channels))

    @torch.no_grad()
    def _vectors(self, log_mel: np.ndarray) -> Tensor:
        # The trunk in tiles with their neighbourhood, so that memory does not grow with the recording.
        net = self._net
        maps = pad_time(net.normalize(self._input(log_mel)).unsqueeze(1), 2**HOURGLASS_DEPTH)
        parts = []
        with self._autocast():
            for first in range(0, maps.shape[2], TILE_FRAMES):
                low, last = max(first - HALO_FRAMES, 0), min(first + TILE_FRAMES, maps.shape[2])
                tile = net.attention(net.stem(maps[:, :, low : last + HALO_FRAMES]))
                parts.append(net.flatten(tile)[:, first - low : last - low])
        return torch.cat(parts, 1)

    @torch.no_grad()
    def _recurrent(self, vectors: Tensor) -> Tensor:
        with self._autocast():
            logits = self._net.head(self._net.gru(vectors)[0])
        return torch.sigmoid(logits)

    def _input(self, frames: np.ndarray) -> Tensor:
        return torch.from_numpy(frames).to(self._net.mean.dtype).unsqueeze(0)

    def _autocast(self) -> torch.autocast:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16")


def _array(answer: Tensor) -> np.ndarray:
    found: np.ndarray = answer.squeeze(0).double().numpy()
    return found
