"""Where the event is in one's own recording of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..audio import files as audio

_RATE = 8_000  # Hz: enough for levels
_FRAME = 80  # 10 ms
_QUIET = 10  # per cent of the frames, which count as background
_DEEPEST, _SHALLOWEST = 40.0, 10.0  # dB below the loudest frame at which the event begins and ends


def sounding(path: Path) -> tuple[float, float]:
    """First and last moment in seconds at which a recording is loud: in frames of 10 ms, above the level half way (in
    dB) between its quiet tenth and its loudest frame, which is 10 to 40 dB below the latter.

    ValueError for a recording that is silent, and as :func:`.audio.files.read` for one that cannot be read.
    """
    wave = audio.read(path, _RATE)
    power = np.square(np.pad(wave, (0, -len(wave) % _FRAME)).reshape(-1, _FRAME).astype(np.float64)).mean(axis=1)
    if power.max() <= 0.0:
        raise ValueError(f"{path}: is silent, allowed: a recording of an event")
    level = 10 * np.log10(np.maximum(power / power.max(), 1e-12))
    depth = np.clip(-np.percentile(level, _QUIET) / 2, _SHALLOWEST, _DEEPEST)
    loud = np.flatnonzero(level >= -depth)
    return float(loud[0] * _FRAME / _RATE), float(min(len(wave), (loud[-1] + 1) * _FRAME) / _RATE)
