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


class Frames:
    """Samples of one recording, pushed in blocks of any size, on their way to log-mel frames."""

    def __init__(self, features: FeatureConfig, log_mel: LogMel) -> None:
        self._log_mel = log_mel
        f = features
        self._hop = f.hop
        self._reach = f.window_length + (f.fft_length - f.window_length) // 2 - f.fft_length // 2  # under the window
        self._context = -(-f.fft_length // 2 // f.hop)  # frames before the next one that the waiting samples still hold
        self._waiting = [np.zeros(0, np.float32)]
        self._first = 0  # the frame on which the waiting samples begin
        self.next = 0  # the first frame that is not computed yet
        self.samples = 0

    def push(self, samples: np.ndarray) -> None:
        """Mono float32 (n,), any n."""
        self._waiting.append(np.array(samples))
        self.samples += len(samples)

    @property
    def complete(self) -> int:
        """Frames whose samples are all there: frame i has none from i * hop + reach on under its window."""
        return max((self.samples - self._reach) // self._hop + 1, 0)

    @property
    def late(self) -> int:
        """Frames by which a frame's samples reach beyond the centre of the next one."""
        return -(-max(self._reach - self._hop, 0) // self._hop)

    @property
    def total(self) -> int:
        """Frames if no sample follows. ValueError if none came."""
        if self.samples == 0:
            raise ValueError("samples: got 0, allowed: at least 1")
        return 1 + self.samples // self._hop

    def advance(self, end: int) -> Tensor:
        """The frames up to ``end`` that were not computed; drops the samples that no later frame needs."""
        wave = np.concatenate(self._waiting)
        made = self._log_mel(wave)[self.next - self._first : end - self._first]
        first = max(end - self._context, 0)
        self._waiting = [wave[(first - self._first) * self._hop :]]
        self._first, self.next = first, end
        return made


class GpuStream:
    """One recording: ``push`` as often as you like, then ``finish`` once.

    Spectrogram and, of a long recording, trunk run while the next block is decoded; ``finish`` shares a batch with
    whatever other streams of the engine finish meanwhile. Device memory grows by some 80 kB a second of audio.
    """

    def __init__(self, features: FeatureConfig, log_mel: LogMel, ahead: Ahead, finish: Finish) -> None:
        self._ahead, self._finish = ahead, finish
        self._frames = Frames(features, log_mel)
        self._parts: list[Tensor] = []
        self._start = 0  # the frame on which the parts begin
        self._done: list[Tensor] = []

    def push(self, samples: np.ndarray) -> None:
        """Mono float32 (n,), any n."""
        if samples.ndim != 1 or samples.dtype != np.float32:
            raise ValueError(f"samples: got {samples.dtype} {samples.shape}, allowed: float32 (n,)")
        self._frames.push(samples)
        if self._frames.complete - self._frames.next >= BLOCK_FRAMES:
            self._advance(self._frames.complete)
            self._parts, self._start = self._ahead(self._parts, self._start, self._done)

    def finish(self) -> np.ndarray:
        """Frame probabilities float32 (1 + n // hop, K) of everything pushed. ValueError if that is nothing."""
        total = self._frames.total
        self._advance(total)
        return self._finish(self._parts, total, self._start, self._done)

    def _advance(self, end: int) -> None:
        if end > self._frames.next:
            self._parts.append(self._frames.advance(end))


class GpuWhole:
    """A recording in the place of a live stream: all is answered at the end."""

    delay: int | None = None

    def __init__(self, stream: GpuStream, classes: int) -> None:
        self._stream, self._classes = stream, classes

    def push(self, samples: np.ndarray) -> np.ndarray:
        self._stream.push(samples)
        return np.zeros((0, self._classes), np.float32)

    def finish(self) -> np.ndarray:
        return self._stream.finish()
