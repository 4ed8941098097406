"""An engine of a few lines for the tests of what stands around it: a frame is as likely as its sample is loud."""

from __future__ import annotations

import threading
import time
from typing import Any

import numpy as np

from mtfa_fast.config import ClassConfig, Config, FeatureConfig, NetworkConfig
from mtfa_fast.weights import Weights, expected_shapes

RATE, HOP = 8_000, 160  # a frame every 20 ms
CONFIG = Config(
    FeatureConfig(sample_rate=RATE, window_length=320, hop=HOP, fft_length=512, mel_bands=16),
    NetworkConfig(channels=4, hidden=5),
    (ClassConfig("loud", 0.6, 3), ClassConfig("audible", 0.3, 1)),
)


def make_weights(seed: int = 0, config: Config = CONFIG) -> Weights:
    rng = np.random.default_rng(seed)
    tensors = {n: rng.uniform(0.05, 0.2, s).astype(np.float32) for n, s in expected_shapes(config).items()}
    return Weights(config, tensors)


class LoudnessEngine:
    """Frame i has the absolute value of sample i * HOP as the probability of every class."""

    def __init__(self, *_: Any, delay: float = 0.0, **options: Any) -> None:
        self.options, self.delay = options, delay
        self.working = self.most = 0
        self._lock = threading.Lock()

    def stream(self) -> LoudnessStream:
        return LoudnessStream(self)

    def live(self, chunk: int, look_ahead: int | None) -> LoudnessLive:
        return LoudnessLive(chunk, look_ahead)

    def push_live(self, streams: list[LoudnessLive], samples: list[np.ndarray]) -> list[np.ndarray]:
        return [stream.push(block) for stream, block in zip(streams, samples, strict=True)]

    def explain(self) -> dict[str, Any]:
        return {"isa": "none"}


class LoudnessStream:
    def __init__(self, engine: LoudnessEngine) -> None:
        self._engine, self._blocks = engine, list[np.ndarray]()

    def push(self, samples: np.ndarray) -> None:
        if not self._blocks:
            with self._engine._lock:
                self._engine.working += 1
                self._engine.most = max(self._engine.most, self._engine.working)
        assert samples.dtype == np.float32 and samples.ndim == 1 and len(samples) > 0
        self._blocks.append(samples)

    def finish(self) -> np.ndarray:
        time.sleep(self._engine.delay)
        with self._engine._lock:
            self._engine.working -= 1
        wave = np.concatenate([*self._blocks, np.zeros(1, np.float32)])
        frames = 1 + (len(wave) - 1) // HOP
        return np.abs(wave[: frames * HOP : HOP])[:, None].repeat(2, axis=1)


class LoudnessLive:
    """The same in chunks of ``chunk`` frames, each ``look_ahead`` frames late."""

    def __init__(self, chunk: int, look_ahead: int | None) -> None:
        assert look_ahead is not None
        self.chunk, self.look_ahead, self.delay = chunk, look_ahead, chunk + look_ahead
        self._wave, self._done = np.zeros(0, np.float32), 0

    def push(self, samples: np.ndarray) -> np.ndarray:
        assert samples.dtype == np.float32 and samples.ndim == 1 and np.isfinite(samples).all()
        self._wave = np.concatenate([self._wave, samples])
        there = max(len(self._wave) // HOP - self.look_ahead, 0) // self.chunk * self.chunk
        return self._rows(max(there, self._done))

    def finish(self) -> np.ndarray:
        assert len(self._wave)
        self._wave = np.append(self._wave, np.float32(0))
        return self._rows(1 + (len(self._wave) - 1) // HOP)

    def _rows(self, end: int) -> np.ndarray:
        first, self._done = self._done, end
        return np.abs(self._wave[first * HOP : end * HOP : HOP])[:, None].repeat(2, axis=1)


def knock(seconds: float, at: float, length: float = 0.2, loudness: float = 0.8) -> np.ndarray:
    """Silence of ``seconds`` at RATE with one loud span."""
    wave = np.zeros(round(seconds * RATE), np.float32)
    wave[round(at * RATE) : round((at + length) * RATE)] = loudness
    return wave
