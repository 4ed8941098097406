"""Whole-network inference through torch: the same three methods as the C++ engine, on any torch device.

The convolutions run over tiles of time with enough neighbouring frames that no tile border can be seen in
the result, so their memory does not grow with the recording; the recurrent layers run over all frames.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..backends.reference.log_mel import log_mel
from ..config import HOURGLASS_DEPTH
from ..nn.convert import from_weights
from ..nn.modules import pad_time
from ..weights import Weights
from .cpu import PRECISIONS, Precision

TILE_FRAMES = 2_048  # a multiple of 2 ** HOURGLASS_DEPTH
# The stem sees 1 frame further, and each hourglass level two blocks of two convolutions: 4 rows of 2, 4 and 8
# frames, two more rows of 8 for the deepest block, and up to one row of alignment a level:
# 1 + 4 * (2 + 4 + 8) + 2 * 8 + (2 + 4 + 8) = 87, rounded up to the level's multiple.
HALO_FRAMES = 96


class TorchEngine:
    """Reference network and log-mel on a torch device.

    ``precision``: ``"fp32"``, ``"bf16"`` (autocast), or ``"auto"``: bf16 on a GPU that has it, else fp32.
    Raises ValueError for another precision. Safe to use from several threads at once.
    """

    def __init__(self, weights: Weights, *, device: str | torch.device = "cuda", precision: Precision = "auto") -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision: got {precision!r}, allowed: {', '.join(PRECISIONS)}")
        self.device = torch.device(device)
        reason = "asked for"
        if precision == "auto":
            fast = self.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
            precision = "bf16" if fast else "fp32"
            reason = f"{self.device} {'multiplies' if fast else 'has no fast'} bf16"
        self.precision, self._reason = precision, reason
        self.config = weights.config
        self._net = from_weights(weights).to(self.device)
        self._window = self._tensor(weights.tensors["features.window"])
        self._mel = self._tensor(weights.tensors["features.mel"])

    def probabilities(self, log_mel: np.ndarray) -> np.ndarray:
        """Raw log-mel (T, D) or (B, T, D) -> frame probabilities float32 (T, K) or (B, T, K)."""
        array = np.asarray(log_mel, np.float32)
        bands = self.config.features.mel_bands
        if array.ndim not in (2, 3) or array.shape[-1] != bands or array.shape[-2] < 1:
            raise ValueError(f"log_mel: got shape {array.shape}, allowed: (T >= 1, {bands}) or (B, T >= 1, {bands})")
        result = self._probabilities(self._tensor(array.reshape(-1, *array.shape[-2:])))
        return result.reshape(*array.shape[:-1], -1)

    def detect_wave(self, wave: np.ndarray) -> np.ndarray:
        """Mono float32 samples (n,) at the config's rate -> frame probabilities float32 (frames, K)."""
        stream = self.stream()
        stream.push(wave)
        return stream.finish()

    def stream(self) -> TorchStream:
        """One recording, handed over in blocks."""
        return TorchStream(self)

    def explain(self) -> dict[str, Any]:
        """Which device and precision run, and why."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type
        reasons = {
            "device": f"{self.device}: {name}, torch {torch.__version__}",
            "precision": f"{self.precision}: {self._reason}",
        }
        return {"device": str(self.device), "precision": self.precision, "reasons": reasons}

    @torch.inference_mode()
    def log_mel(self, wave: np.ndarray) -> Tensor:
        """(n,) samples -> (1 + n // hop, D) on the device, float32."""
        f = self.config.features
        return log_mel(self._tensor(wave), self._window, self._mel, f.hop, f.fft_length, f.log_floor)

    @torch.inference_mode()
    def _probabilities(self, frames: Tensor) -> np.ndarray:
        """(B, T, D) raw log-mel -> (B, T, K)."""
        net = self._net
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            maps = pad_time(net.normalize(frames).unsqueeze(1), 2**HOURGLASS_DEPTH)
            total = maps.shape[2]
            vectors = []
            for first in range(0, total, TILE_FRAMES):
                last = min(first + TILE_FRAMES, total)
                low, high = max(first - HALO_FRAMES, 0), min(last + HALO_FRAMES, total)
                tile = net.flatten(net.attention(net.stem(maps[:, :, low:high])))
                vectors.append(tile[:, first - low : last - low])
            logits = net.head(net.gru(torch.cat(vectors, 1))[0])
        result: np.ndarray = torch.sigmoid(logits.float())[:, : frames.shape[1]].cpu().numpy()
        return result

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.tensor(array, dtype=torch.float32, device=self.device)


class TorchStream:
    """Samples in, blocks of any size; log-mel frames are computed on the way, the network in :meth:`finish`."""

    def __init__(self, engine: TorchEngine) -> None:
        f = engine.config.features
        self._engine, self._hop, self._reach = engine, f.hop, f.fft_length // 2
        self._context = -(-self._reach // f.hop)  # frames before the next one that the waiting samples still hold
        self._waiting = [np.zeros(0, np.float32)]
        self._first = 0  # the frame on which the waiting samples begin
        self._next = 0  # the first frame that is not computed yet
        self._samples = 0
        self._frames: list[Tensor] = []

    def push(self, samples: np.ndarray) -> None:
        """Mono float32 (n,), any n."""
        if samples.ndim != 1 or samples.dtype != np.float32:
            raise ValueError(f"samples: got {samples.dtype} {samples.shape}, allowed: float32 (n,)")
        self._waiting.append(np.array(samples))
        self._samples += len(samples)
        complete = (self._samples - self._reach) // self._hop + 1
        if complete - self._next >= TILE_FRAMES:
            self._advance(complete)

    def finish(self) -> np.ndarray:
        """Frame probabilities float32 (1 + n // hop, K) of everything pushed. ValueError if that is nothing."""
        if self._samples == 0:
            raise ValueError("samples: got 0, allowed: at least 1")
        self._advance(1 + self._samples // self._hop)
        result: np.ndarray = self._engine._probabilities(torch.cat(self._frames).unsqueeze(0))[0]
        return result

    def _advance(self, end: int) -> None:
        """Compute the frames up to ``end`` and drop the samples that no later frame needs."""
        wave = np.concatenate(self._waiting)
        self._frames.append(self._engine.log_mel(wave)[self._next - self._first : end - self._first])
        first = max(end - self._context, 0)
        self._waiting = [wave[(first - self._first) * self._hop :]]
        self._first, self._next = first, end
