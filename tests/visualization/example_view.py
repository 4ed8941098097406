"""What a picture is made of, with known events: for the tests of figures and pages."""

from __future__ import annotations

import numpy as np

from mtfa_fast.config import ClassConfig, Config, FeatureConfig, NetworkConfig
from mtfa_fast.data.annotations import Annotation
from mtfa_fast.events.result import Event, Result
from mtfa_fast.visualization import View

RATE, HOP, SECONDS = 8_000, 160, 6.4  # a frame every 20 ms
HOSTILE = "<script>alert(1)&\"'$x$"
CONFIG = Config(
    FeatureConfig(sample_rate=RATE, window_length=320, hop=HOP, fft_length=512, mel_bands=16),
    NetworkConfig(channels=4, hidden=4),
    (ClassConfig("loud", 0.6, 1), ClassConfig(HOSTILE, 0.25, 1)),
)
REFERENCE = (Annotation("loud", 1.3, 2.2), Annotation(HOSTILE, 5.0, 5.0), Annotation("dog", 0.0, 6.4))
EVENTS = (Event("loud", 1.0, 2.0, 0.9), Event("loud", 4.5, 5.5, 0.8), Event(HOSTILE, 3.0, 3.02, 0.3))


def view(first: int = 0, start: float = 0.0, end: float = SECONDS, source: str = f"day/{HOSTILE}.wav") -> View:
    """Known events, noise elsewhere; frames from ``first`` to the end."""
    rng = np.random.default_rng(0)
    frames = 1 + int(SECONDS * RATE) // HOP
    probabilities = rng.uniform(0, 0.2, (frames, 2)).astype(np.float32)
    for event in EVENTS:
        rows = slice(round(event.onset / 0.02), round(event.offset / 0.02))
        probabilities[rows, CONFIG.class_names.index(event.label)] = event.score
    count = frames - first
    maps = [rng.uniform(0.2, 0.6, (-(-count // 2**s), 16 >> s)).astype(np.float32) for s in range(4)]
    wave = 0.1 * np.sin(np.arange(round(start * RATE), round(end * RATE)) * 0.3).astype(np.float32)
    result = Result(probabilities, CONFIG, source, SECONDS)
    assert [(e.label, e.onset, e.offset) for e in result] == sorted(
        [(e.label, e.onset, e.offset) for e in EVENTS], key=lambda e: e[1]
    )
    spectrogram = rng.uniform(-20, 0, (count, 16)).astype(np.float32)
    return View(result, first, spectrogram, tuple(maps), wave, start, end, REFERENCE)
