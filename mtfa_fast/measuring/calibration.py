"""The sounds that everybody's 8-bit steps are chosen on in a comparison, so that none has heard more than another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..audio.features import log_mel
from ..checking.verification import probe
from ..weights import Weights
from .networks import noise

NOISE_FRAMES = 256


def sounds(weights: Weights, recordings: Sequence[np.ndarray] = ()) -> list[np.ndarray]:
    """Raw log-mel (T, D) of noise like that of :class:`.checks.Oracle`, of a made-up sound, and of ``recordings``.

    The noise is another than the one that answers are checked on. ``recordings``: raw log-mel (T, D).
    """
    made = log_mel(
        probe(weights.config),
        weights.config.features,
        window=weights.tensors["features.window"],
        mel=weights.tensors["features.mel"],
    )
    return [*noise(weights, 1, NOISE_FRAMES, seed=1), made, *recordings]


def batches(given: Sequence[np.ndarray], batch: int, frames: int) -> np.ndarray:
    """All of ``given`` end to end, from its beginning again until the last batch is full: (n, batch, frames, D)."""
    whole = np.concatenate(list(given)).astype(np.float32)
    number = -(-len(whole) // (batch * frames))
    return np.resize(whole, (number, batch, frames, whole.shape[1]))
