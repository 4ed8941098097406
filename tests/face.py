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


def knock(seconds: float, at: float, length: float = 0.2, loudness: float = 0.8) -> np.ndarray:
    """Silence of ``seconds`` at RATE with one loud span."""
    wave = np.zeros(round(seconds * RATE), np.float32)
    wave[round(at * RATE) : round((at + length) * RATE)] = loudness
    return wave
