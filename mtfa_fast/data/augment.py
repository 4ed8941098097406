"""Augmentation of events, backgrounds and spectrograms for a small source set. NumPy; every switch off by default.

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
    """Random smooth gain in dB at the frequencies ``hz``: normal values at seven knots, an octave and more apart."""
    knots = np.log2(np.geomspace(60.0, 18_000.0, 7))
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


def saturate(wave: Wave, rng: np.random.Generator) -> Wave:
    """Overload: tanh, same peak, the drive log-uniform in DRIVE."""
    peak = np.float32(np.max(np.abs(wave), initial=0.0))
    if peak == 0.0:
        return wave
    drive = np.float32(np.exp(rng.uniform(*np.log(DRIVE))))
    return np.tanh(wave * (drive / peak)) * (peak / np.tanh(drive))


def knocks(rng: np.random.Generator, rate: int, longest: int) -> Wave:
    """Steps, knocks or clatter, (n,) with n <= longest: a series of alike strokes on one made-up body.

    A stroke is a click and the body's decaying resonances; much shorter than a shot, and without its tail.
    """
    time = np.arange(min(longest, int(0.15 * rate))) / rate
    modes = int(rng.integers(2, 8))
    hz = KNOCK_HZ[0] * (KNOCK_HZ[1] / KNOCK_HZ[0]) ** rng.random(modes)
    short, long = KNOCK_DECAY_SECONDS
    decay = short * (long / short) ** rng.random(modes)
    click = np.exp(rng.uniform(*np.log((0.0005, 0.008))))
    spacing = np.exp(rng.uniform(*np.log((0.06, 0.7)))) * rate
    count = min(int(rng.integers(1, 9)), 1 + int((longest - len(time)) / (1.5 * spacing)))
    wave = np.zeros(longest, np.float32)
    place = 0.0
    for _ in range(count):
        levels = rng.normal(0.0, 1.0, modes) / modes
        stroke = levels @ (np.sin(2.0 * np.pi * hz[:, None] * time) * np.exp(-time / decay[:, None]))
        stroke += rng.uniform(0.1, 1.0) * rng.standard_normal(len(time)) * np.exp(-time / click)
        start = int(place)
        wave[start : start + len(time)] += (10.0 ** (rng.uniform(-9.0, 0.0) / 20.0)) * stroke[: longest - start]
        place += spacing * rng.uniform(0.7, 1.3)
    return wave[: int(place) + len(time)]


def add_reverb(wave: Wave, rate: int, rng: np.random.Generator) -> Wave:
    """In a made-up room: the direct sound plus decaying noise, (n,) -> (n + up to 0.4 s,)."""
    decay = np.exp(rng.uniform(*np.log(REVERB_SECONDS)))
    length = int(min(decay, 0.4) * rate)
    time = np.arange(length) / rate
    tail = rng.standard_normal(length).astype(np.float32) * np.exp(-6.9 * time / decay)
    tail *= 10.0 ** (rng.uniform(-15.0, 3.0) / 20.0) / np.sqrt(np.sum(np.square(tail)))
    delay = int(rng.uniform(0.001, 0.02) * rate)
    tail[:delay] = 0.0
    tail[0] = 1.0
    size = fast_length(len(wave) + length)
    wet = np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(tail, size), size)
    return wet[: len(wave) + length].astype(np.float32)


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


def draw_ebr(rng: np.random.Generator, choices: tuple[float, ...], wide: bool) -> float:
    """EBR in dB: one of ``choices``, or with ``wide`` from EBR_DB, one in five from EBR_LOUD_DB."""
    if not wide:
        return float(rng.choice(choices))
    return float(rng.uniform(*(EBR_LOUD_DB if rng.random() < 0.2 else EBR_DB)))


def hide(rng: np.random.Generator, frames: int, bands: int) -> NDArray[np.bool_]:
    """SpecAugment: True where (frames, bands) are hidden, up to two stripes of bands and two short ones of frames."""
    hidden = np.zeros((frames, bands), bool)
    for _ in range(rng.integers(0, 3)):
        width = int(rng.integers(1, bands // 8 + 1))
        start = int(rng.integers(0, bands - width + 1))
        hidden[:, start : start + width] = True
    for _ in range(rng.integers(0, 3)):
        width = int(rng.integers(1, 9))  # 160 ms at most: an onset stays findable
        start = int(rng.integers(0, max(1, frames - width + 1)))
        hidden[start : start + width] = True
    return hidden


def fast_length(n: int) -> int:
    """The smallest 2^a or 3 * 2^a that is >= n: a length that every FFT is fast at."""
    power = 1 << max(0, n - 1).bit_length()
    return 3 * power // 4 if 3 * power // 4 >= n else power
