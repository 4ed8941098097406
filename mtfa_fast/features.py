"""The log-mel spectrogram's window and mel matrix. NumPy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .config import FeatureConfig

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
