"""The log-mel spectrogram through the C++ core, its window and its mel matrix."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _core
from ..arguments import require_int
from ..config import FeatureConfig

# Slaney's mel scale: linear below 1 kHz (3 mel per 200 Hz), then 27 mel per factor of 6.4.
_LINEAR_HZ = 200.0 / 3.0
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ
_LOG_STEP = np.log(6.4) / 27.0


def analysis_window(config: FeatureConfig) -> NDArray[np.float32]:
    """Periodic Hamming window, float32 (window_length,)."""
    phase = 2.0 * np.pi * np.arange(config.window_length) / config.window_length
    return (0.54 - 0.46 * np.cos(phase)).astype(np.float32)


def mel_matrix(config: FeatureConfig) -> NDArray[np.float32]:
    """Triangles from 0 Hz to half the rate, each of unit area in Hz: float32 (mel_bands, fft_length // 2 + 1)."""
    nyquist = config.sample_rate / 2
    bins = np.linspace(0.0, nyquist, config.fft_length // 2 + 1)
    edges = mel_to_hz(np.linspace(0.0, hz_to_mel(np.array(nyquist)), config.mel_bands + 2))
    low, centre, high = (edges[i : i + config.mel_bands, None] for i in range(3))
    rising = (bins - low) / (centre - low)
    falling = (high - bins) / (high - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return (triangles * (2.0 / (high - low))).astype(np.float32)


def mel_centres(config: FeatureConfig) -> NDArray[np.float64]:
    """Centre frequency of each mel band in Hz, float64 (mel_bands,)."""
    top = hz_to_mel(np.array(config.sample_rate / 2))
    return mel_to_hz(np.linspace(0.0, top, config.mel_bands + 2))[1:-1]


def hz_to_mel(hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Frequency in Hz (any shape, >= 0) to Slaney's mel scale."""
    above = _BREAK_MEL + np.log(np.maximum(hz, _BREAK_HZ) / _BREAK_HZ) / _LOG_STEP
    return np.where(hz < _BREAK_HZ, hz / _LINEAR_HZ, above)


def mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of :func:`hz_to_mel`."""
    above = _BREAK_HZ * np.exp(_LOG_STEP * (np.maximum(mel, _BREAK_MEL) - _BREAK_MEL))
    return np.where(mel < _BREAK_MEL, mel * _LINEAR_HZ, above)


def log_mel(
    wave: ArrayLike,
    config: FeatureConfig,
    *,
    window: ArrayLike | None = None,
    mel: ArrayLike | None = None,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """Log-mel spectrogram (section 3.1 of the paper): mono samples (n,) -> (1 + n // hop, mel_bands), float32.

    ``wave`` is floating point, any n >= 0, at ``config.sample_rate``; samples beyond its ends read as zero. ``window``
    (window_length,) and ``mel`` (mel_bands, fft_length // 2 + 1), float32, default to :func:`analysis_window` and
    :func:`mel_matrix`; ``threads`` to the cores that the process may use, and never changes a bit. Computed in double
    precision: within 2e-6 of the definition. ValueError for other shapes, types or thread counts.
    """
    samples = np.asarray(wave)
    if samples.ndim != 1 or samples.dtype.kind != "f":
        raise ValueError(f"wave: got {samples.dtype} {samples.shape}, allowed: floating point (n,)")
    if threads is None:
        threads = _core.default_threads()
    else:
        require_int("threads", threads, 1)
    if window is None and mel is None:
        return _default_log_mel(config, _core.chosen_isa()).frames(samples, threads)
    window = analysis_window(config) if window is None else np.asarray(window, np.float32)
    mel = mel_matrix(config) if mel is None else np.asarray(mel, np.float32)
    for name, array, shape in (
        ("window", window, (config.window_length,)),
        ("mel", mel, (config.mel_bands, config.fft_length // 2 + 1)),
    ):
        if array.shape != shape:
            raise ValueError(f"{name}: got shape {array.shape}, allowed: {shape}")
    return _core.LogMel(window, mel, config.hop, config.fft_length, config.log_floor).frames(samples, threads)


@lru_cache(maxsize=8)
def _default_log_mel(config: FeatureConfig, isa: str) -> _core.LogMel:
    # The core picks `isa` itself; here it is part of the key, for whoever changes MTFA_FAST_ISA within a process.
    return _core.LogMel(analysis_window(config), mel_matrix(config), config.hop, config.fft_length, config.log_floor)
