"""Recordings on their way through the engine: samples in, blocks of any size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from ...config import FeatureConfig

BLOCK_FRAMES = 512  # of samples that are waited for before a block goes to the device

# What a stream asks of its engine: samples to frames; complete windows through the trunk; all to probabilities.
LogMel = Callable[[np.ndarray], Tensor]
Ahead = Callable[[list[Tensor], int, list[Tensor]], tuple[list[Tensor], int]]
Finish = Callable[[list[Tensor], int, int, list[Tensor]], np.ndarray]


@dataclass
class Clip:
    """A recording inside the engine: log-mel frames [start, total), and what the trunk made of earlier ones.

    ``done``: the trunk's output of the first ``len(done)`` windows, which need their frames no more.
    """

    frames: Tensor
    total: int
    start: int = 0
    done: list[Tensor] = field(default_factory=list)


class GpuStream:
    """One recording: ``push`` as often as you like, then ``finish`` once.

    Spectrogram and, of a long recording, trunk run while the next block is decoded; ``finish`` shares a batch with
    whatever other streams of the engine finish meanwhile. Device memory grows by some 80 kB a second of audio.
    """

    def __init__(self, features: FeatureConfig, log_mel: LogMel, ahead: Ahead, finish: Finish) -> None:
        f = features
        self._log_mel, self._ahead, self._finish = log_mel, ahead, finish
        self._hop, self._reach = f.hop, f.fft_length // 2
        self._context = -(-self._reach // f.hop)  # frames before the next one that the waiting samples still hold
        self._waiting = [np.zeros(0, np.float32)]
        self._first = 0  # the frame on which the waiting samples begin
        self._next = 0  # the first frame that is not computed yet
        self._samples = 0
        self._parts: list[Tensor] = []
        self._start = 0  # the frame on which the parts begin
        self._done: list[Tensor] = []

    def push(self, samples: np.ndarray) -> None:
        """Mono float32 (n,), any n."""
        if samples.ndim != 1 or samples.dtype != np.float32:
            raise ValueError(f"samples: got {samples.dtype} {samples.shape}, allowed: float32 (n,)")
        self._waiting.append(np.array(samples))
        self._samples += len(samples)
        complete = (self._samples - self._reach) // self._hop + 1
        if complete - self._next >= BLOCK_FRAMES:
            self._advance(complete)
            self._parts, self._start = self._ahead(self._parts, self._start, self._done)

    def finish(self) -> np.ndarray:
        """Frame probabilities float32 (1 + n // hop, K) of everything pushed. ValueError if that is nothing."""
        if self._samples == 0:
            raise ValueError("samples: got 0, allowed: at least 1")
        total = 1 + self._samples // self._hop
        self._advance(total)
        return self._finish(self._parts, total, self._start, self._done)

    def _advance(self, end: int) -> None:
        """Compute the frames up to ``end`` and drop the samples that no later frame needs."""
        if end == self._next:
            return
        wave = np.concatenate(self._waiting)
        self._parts.append(self._log_mel(wave)[self._next - self._first : end - self._first])
        first = max(end - self._context, 0)
        self._waiting = [wave[(first - self._first) * self._hop :]]
        self._first, self._next = first, end
