"""Log-mel of the C++ core against librosa and NumPy in float64: definition, edges, NaN, partitions, threads."""

from __future__ import annotations

import os
import signal
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from mtfa_fast import _core
from mtfa_fast.audio.features import analysis_window, log_mel, mel_matrix
from mtfa_fast.config import FeatureConfig
from tests.source_folder import NO_RECORDINGS, SHARED

CONFIG = FeatureConfig()
# librosa's window is float64; ours is float32, as the weights store it, which a quiet band beside a loud one can tell.
LIBROSA_TOLERANCE = 1e-4
# From the same window only float32's rounding of the result, whose size reaches 23, is left.
TOLERANCE = 2e-6


def loud_and_quiet(samples: int, seed: int = 0) -> NDArray[np.float32]:
    """A full-scale low tone beside a band of noise 110 dB below it: what an FFT in single precision gets wrong."""
    noise = np.random.default_rng(seed).standard_normal(samples) * 3e-6
    tone = 0.9 * np.sin(2 * np.pi * 97.3 * np.arange(samples) / CONFIG.sample_rate)
    return (tone + noise).astype(np.float32)


def by_librosa(wave: NDArray[np.float32], config: FeatureConfig) -> NDArray[np.float64]:
    import librosa

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "n_fft is too large" for the shortest waves
        power = librosa.feature.melspectrogram(
            y=wave.astype(np.float64),
            sr=config.sample_rate,
            n_fft=config.fft_length,
            hop_length=config.hop,
            win_length=config.window_length,
            window="hamming",
            pad_mode="constant",
            n_mels=config.mel_bands,
        )
    return np.log(power.T + config.log_floor)


def by_numpy(wave: NDArray[np.float32], config: FeatureConfig) -> NDArray[np.float64]:
    n, before = config.fft_length, (config.fft_length - config.window_length) // 2
    window = np.zeros(n)
    window[before : before + config.window_length] = analysis_window(config)
    padded = np.pad(wave.astype(np.float64), (n // 2, n))
    frames = np.stack([padded[i * config.hop :][:n] for i in range(config.frame_count(len(wave)))])
    power = np.abs(np.fft.rfft(frames * window)) ** 2
    return np.log(power @ mel_matrix(config).T.astype(np.float64) + config.log_floor)


@pytest.mark.parametrize("samples", [1, 2, 441, 882, 1764, 44_113])
def test_equals_librosa(samples: int) -> None:
    wave = loud_and_quiet(samples)
    ours = log_mel(wave, CONFIG)
    assert ours.dtype == np.float32
    assert ours.shape == (1 + samples // CONFIG.hop, CONFIG.mel_bands)
    np.testing.assert_allclose(ours, by_librosa(wave, CONFIG), rtol=0, atol=LIBROSA_TOLERANCE)
    np.testing.assert_allclose(ours, by_numpy(wave, CONFIG), rtol=0, atol=TOLERANCE)


@pytest.mark.skipif(not SHARED.is_dir(), reason=NO_RECORDINGS)
def test_equals_librosa_on_recordings() -> None:
    import soundfile

    files = sorted(SHARED.rglob("*.flac"))
    for file in files[:: len(files) // 4]:
        wave = soundfile.read(file, dtype="float32", always_2d=True)[0][: 10 * CONFIG.sample_rate, 0].copy()
        ours = log_mel(wave, CONFIG)
        np.testing.assert_allclose(ours, by_librosa(wave, CONFIG), rtol=0, atol=LIBROSA_TOLERANCE)
        np.testing.assert_allclose(ours, by_numpy(wave, CONFIG), rtol=0, atol=TOLERANCE)


# Every depth of the FFT (radix 4 and the odd radix 2), odd windows, hops longer than the window.
@pytest.mark.parametrize(
    ("fft_length", "window_length", "hop"),
    [
        (2, 1, 1),
        (2, 2, 5),
        (4, 3, 2),
        (8, 5, 3),
        (16, 16, 21),
        (32, 9, 4),
        (64, 64, 7),
        (256, 101, 50),
        (4096, 3001, 999),
    ],
)
def test_any_length(fft_length: int, window_length: int, hop: int) -> None:
    config = FeatureConfig(window_length=window_length, hop=hop, fft_length=fft_length, mel_bands=8, log_floor=1e-12)
    wave = np.random.default_rng(1).standard_normal(3000).astype(np.float32)
    np.testing.assert_allclose(log_mel(wave, config), by_numpy(wave, config), rtol=0, atol=TOLERANCE)


def test_silence_and_nothing() -> None:
    floor = np.float32(np.log(CONFIG.log_floor))
    for samples in (0, 1, 30_000):
        ours = log_mel(np.zeros(samples, np.float32), CONFIG)
        assert ours.shape == (1 + samples // CONFIG.hop, CONFIG.mel_bands)
        assert (ours == floor).all()


@pytest.mark.parametrize("position", [0, 4000, 29_999])
def test_nan_stays_in_its_frames(position: int) -> None:
    wave = loud_and_quiet(30_000)
    clean = log_mel(wave, CONFIG)
    wave[position] = np.nan
    ours = log_mel(wave, CONFIG)
    begin = np.arange(len(ours)) * CONFIG.hop - CONFIG.window_length // 2
    touched = (begin <= position) & (position < begin + CONFIG.window_length)
    assert touched.any() and not touched.all()
    assert np.isnan(ours[touched]).all()
    np.testing.assert_array_equal(ours[~touched], clean[~touched])


def core_log_mel() -> _core.LogMel:
    return _core.LogMel(analysis_window(CONFIG), mel_matrix(CONFIG), CONFIG.hop, CONFIG.fft_length, CONFIG.log_floor)


def test_parts_are_the_whole() -> None:
    """Frame by frame and in groups of all sizes, from exactly the samples that they need: the same bits."""
    wave = loud_and_quiet(40_007)
    core = core_log_mel()
    whole = core.frames(wave, 1)
    rng = np.random.default_rng(2)
    for _ in range(40):
        first = int(rng.integers(len(whole)))
        count = int(rng.integers(1, len(whole) - first + 1))
        begin = max(0, first * CONFIG.hop - CONFIG.window_length // 2)
        end = (first + count - 1) * CONFIG.hop + CONFIG.window_length // 2
        part = core.part(wave[begin:end].copy(), begin, first, count)
        np.testing.assert_array_equal(part, whole[first : first + count])


def test_samples_outside_read_as_zero() -> None:
    wave = loud_and_quiet(20_000)
    inside = np.zeros_like(wave)
    inside[5000:9001] = wave[5000:9001]
    core = core_log_mel()
    part = core.part(wave[5000:9001].copy(), 5000, 0, 23)
    np.testing.assert_array_equal(part, core.frames(inside, 1))


def test_threads_give_the_same_bits() -> None:
    wave = loud_and_quiet(100_000)
    alone = log_mel(wave, CONFIG, threads=1)
    for threads in (2, 3, 8):
        np.testing.assert_array_equal(log_mel(wave, CONFIG, threads=threads), alone)
    core = core_log_mel()
    with ThreadPoolExecutor(8) as callers:
        for ours in callers.map(lambda _: core.frames(wave, 2), range(32)):
            np.testing.assert_array_equal(ours, alone)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_after_use() -> None:
    wave = loud_and_quiet(100_000)
    before = log_mel(wave, CONFIG, threads=2)
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # a hang ends here
        same = np.array_equal(log_mel(wave, CONFIG, threads=2), before)
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_own_window_and_mel_matrix() -> None:
    wave = loud_and_quiet(5000)
    window, mel = analysis_window(CONFIG), mel_matrix(CONFIG)
    np.testing.assert_array_equal(log_mel(wave, CONFIG, window=window, mel=mel), log_mel(wave, CONFIG))
    # log(4 a) - log(a) = log 4: the window squared, and the matrix once, where the floor is far below
    louder = log_mel(wave, CONFIG, window=2 * window, mel=mel)[:, :2] - log_mel(wave, CONFIG)[:, :2]
    np.testing.assert_allclose(louder, np.log(4), atol=1e-5)
    empty = log_mel(wave, CONFIG, mel=np.zeros_like(mel))
    assert (empty == np.float32(np.log(CONFIG.log_floor))).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"wave": np.zeros((2, 5), np.float32)}, r"wave: got float32 \(2, 5\)"),
        ({"wave": np.zeros(5, np.int16)}, "wave: got int16"),
        ({"threads": 0}, "threads: got 0, allowed"),
        ({"threads": 10**6}, "threads: got 1000000, allowed"),
        ({"window": np.ones(3)}, r"window: got shape \(3,\), allowed: \(1764,\)"),
        ({"mel": np.ones((128, 5))}, r"mel: got shape \(128, 5\)"),
    ],
)
def test_refusals(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        log_mel(**{"wave": np.zeros(5, np.float32), "config": CONFIG, **arguments})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.ones(5), np.ones((8, 5)), 1, 9, 1e-10), "fft_length: got 9"),
        ((np.ones(5), np.ones((8, 3)), 1, 4, 1e-10), "window length: got 5"),
        ((np.ones(0), np.ones((8, 3)), 1, 4, 1e-10), "window length: got 0"),
        ((np.ones(4), np.ones((8, 4)), 1, 4, 1e-10), r"mel: got shape \(8, 4\)"),
        ((np.ones(4), np.ones((0, 3)), 1, 4, 1e-10), "mel bands: got 0"),
        ((np.ones(4), np.ones((8, 3)), 0, 4, 1e-10), "hop: got 0"),
        ((np.ones(4), np.ones((8, 3)), 1, 4, 0.0), "log_floor: got 0"),
        ((np.ones(4), np.ones((8, 3)), 1, 4, float("nan")), "log_floor: got nan"),
    ],
)
def test_core_refuses_what_would_touch_foreign_memory(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _core.LogMel(*arguments)  # type: ignore[arg-type]
    core = core_log_mel()
    for part in ((-1, 0, 1), (0, -1, 1), (0, 0, -1), (0, 2**62, 1)):
        with pytest.raises(ValueError, match="got"):
            core.part(np.zeros(5, np.float32), *part)
