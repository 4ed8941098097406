"""Augmentation of events, backgrounds and spectrograms for a small source set: switches, ranges, and the effects that
hard scenes share, in NumPy. Training's own are drawn in ``training.plan`` and made in ``training.render``.

The source corpora leave traces that a network would rather learn than the sound itself: baby cries
end at 8 kHz, many gunshots at 11 kHz, each corpus has its rooms and microphones. So events are
shifted in pitch and speed, filtered and placed in made-up rooms, and whole chunks are filtered,
band-limited and covered with noise, events and backgrounds alike.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Wave = NDArray[np.float32]

KNOT_HZ = (60.0, 18_000.0)  # of random spectral curves: the first and the last of KNOTS, an octave and more apart
KNOTS = 7
SPEED = (0.85, 1.18)  # pitch and speed together, as a tape would
EVENT_FILTER_DB = 7.0  # deviation of the random curve at its knots
BACKGROUND_FILTER_DB = 5.0
CHUNK_FILTER_DB = 4.0
BAND_LIMIT_HZ = (3_500.0, 18_000.0)
REVERB_SECONDS = (0.08, 0.9)  # time to fall by 60 dB
GAIN_DB = (-10.0, 6.0)
EBR_DB = (-7.0, 9.0)
EBR_LOUD_DB = (9.0, 18.0)
MORE_EVENTS = (0.3, 0.35, 0.25, 0.1)  # that a chunk with events holds 1, 2, 3, 4
DISTRACTOR_DB = (-3.0, 15.0)
DRIVE = (1.5, 12.0)  # peak into the overload's tanh
KNOCK_HZ = (150.0, 9_000.0)
KNOCK_DECAY_SECONDS = (0.003, 0.03)  # to 1/e
NOISE_DB = (-95.0, -55.0)  # full scale, after the anti-clipping factor


@dataclass(frozen=True)
class AugmentConfig:
    """Switches; all off is the paper's protocol."""

    speed: bool = False  # events played 0.85 to 1.18 times as fast
    event_filter: bool = False  # random spectral curve, sometimes a band limit, on each event
    saturation: bool = False  # some events overload the microphone
    reverb: bool = False  # a made-up room around some events
    ebr_range: bool = False  # EBR uniform in -7..9 dB, sometimes up to 18, in place of -6, 0, 6
    several_events: bool = False  # up to four events in a chunk: more to learn from in every second
    cut_events: bool = False  # events may begin before or end after the chunk
    background_mix: bool = False  # two backgrounds at once in some chunks
    background_filter: bool = False  # random spectral curve on some backgrounds
    gain: bool = False  # the whole chunk -10..+6 dB
    distractors: bool = False  # a piece of another recording appears suddenly and is no event
    knocks: bool = False  # some distractors are made-up steps, knocks and clatter: short, but no shots and no glass
    chunk_filter: bool = False  # random spectral curve, sometimes a band limit, on the whole chunk
    noise: bool = False  # faint white noise
    masking: bool = False  # SpecAugment: bands and frames hidden
    balance_sources: bool = False  # files of a source with many files are drawn less often

    @classmethod
    def all(cls) -> AugmentConfig:
        """Every switch on: how the shipped weights were trained."""
        return cls(**{f.name: True for f in dataclasses.fields(cls)})


def spectral_curve(rng: np.random.Generator, hz: NDArray[np.float64], deviation_db: float) -> NDArray[np.float64]:
    """Random smooth gain in dB at the frequencies ``hz``: normal values at KNOTS, straight between them."""
    knots = np.log2(np.geomspace(*KNOT_HZ, KNOTS))
    return np.interp(np.log2(np.maximum(hz, 1.0)), knots, rng.normal(0.0, deviation_db, knots.size))


def band_limit(rng: np.random.Generator, hz: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gain in dB of a random low-pass: 0 below its corner, falling by up to 80 dB within a third of an octave."""
    corner = np.exp(rng.uniform(*np.log(BAND_LIMIT_HZ)))
    octaves = np.log2(np.maximum(hz, 1.0) / corner)
    return -80.0 * np.clip(octaves * rng.uniform(2.0, 6.0), 0.0, 1.0)


def filter_wave(wave: Wave, rate: int, rng: np.random.Generator, deviation_db: float, limit: float) -> Wave:
    """A random spectral curve on a wave (n,), with probability ``limit`` a band limit too; zero phase, same length."""
    size = fast_length(len(wave) + rate // 50)
    hz = np.fft.rfftfreq(size, 1.0 / rate)
    coarse = np.geomspace(1.0, rate / 2.0, 256)  # the curve is smooth: drawn on a few points
    gain = spectral_curve(rng, coarse, deviation_db)
    if rng.random() < limit:
        gain = gain + band_limit(rng, coarse)
    spectrum = np.fft.rfft(wave, size) * np.interp(hz, coarse, 10.0 ** (gain / 20.0))
    return np.fft.irfft(spectrum, size)[: len(wave)].astype(np.float32)


def change_speed(wave: Wave, rng: np.random.Generator) -> Wave:
    """Played ``factor`` times as fast, factor log-uniform in SPEED: (n,) -> (about n / factor,)."""
    import soxr

    factor = np.exp(rng.uniform(*np.log(SPEED)))
    return soxr.resample(wave, 44_100.0 * factor, 44_100.0, quality="LQ")


def fade(wave: Wave, rate: int, seconds: float = 0.01) -> Wave:
    """Linear fades at both ends, so that a cut piece brings no click."""
    n = min(int(seconds * rate), len(wave) // 2)
    if n == 0:
        return wave
    ramp = np.linspace(0.0, 1.0, n, dtype=np.float32)
    faded = wave.copy()
    faded[:n] *= ramp
    faded[len(wave) - n :] *= ramp[::-1]
    return faded


def fast_length(n: int) -> int:
    """The smallest 2^a or 3 * 2^a that is >= n: a length that every FFT is fast at."""
    power = 1 << max(0, n - 1).bit_length()
    return 3 * power // 4 if 3 * power // 4 >= n else power
