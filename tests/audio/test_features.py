"""The front end's window, mel matrix and reference log-mel against scipy and librosa."""

from __future__ import annotations

import librosa
import numpy as np
import pytest
import scipy.signal
import torch

from mtfa_fast.audio.features import analysis_window, mel_centres, mel_matrix
from mtfa_fast.backends.reference.log_mel import log_mel
from mtfa_fast.config import FeatureConfig


@pytest.mark.parametrize("config", [FeatureConfig(), FeatureConfig(16_000, 400, 160, 1_024, 64)])
def test_window_and_mel_matrix_equal_scipy_and_librosa(config: FeatureConfig) -> None:
    theirs = librosa.filters.mel(sr=config.sample_rate, n_fft=config.fft_length, n_mels=config.mel_bands)
    np.testing.assert_allclose(mel_matrix(config), theirs, rtol=1e-6, atol=1e-8)
    window = scipy.signal.get_window("hamming", config.window_length)
    np.testing.assert_allclose(analysis_window(config), window, atol=1e-7)
    edges = librosa.mel_frequencies(config.mel_bands + 2, fmax=config.sample_rate / 2)
    np.testing.assert_allclose(mel_centres(config), edges[1:-1], rtol=1e-10)


@pytest.mark.filterwarnings("ignore:n_fft")
@pytest.mark.parametrize("samples", [1, 881, 882, 44_117])
def test_log_mel_equals_librosa(samples: int) -> None:
    config = FeatureConfig()
    wave = np.random.default_rng(samples).normal(0, 0.1, (2, samples)).astype(np.float32)
    window, mel = (torch.from_numpy(x) for x in (analysis_window(config), mel_matrix(config)))
    theirs = librosa.feature.melspectrogram(
        y=wave.astype(np.float64), sr=44_100, n_fft=2_048, hop_length=882, win_length=1_764, window="hamming",
        center=True, pad_mode="constant", n_mels=128,
    )  # fmt: skip
    theirs = np.log(theirs + config.log_floor).swapaxes(-1, -2)
    for dtype, bound in ((torch.float32, 1e-4), (torch.float64, 2e-6)):
        ours = log_mel(torch.from_numpy(wave).to(dtype), window, mel, 882, 2_048, config.log_floor)
        assert ours.dtype == dtype and ours.shape == (2, config.frame_count(samples), 128)
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=bound)
