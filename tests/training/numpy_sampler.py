"""The sampler in NumPy, sound after sound, that the tensors of training must equal in distribution."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtfa_fast.audio.features import mel_centres
from mtfa_fast.config import FeatureConfig
from mtfa_fast.data import augment as aug
from mtfa_fast.data.augment import AugmentConfig, Wave
from mtfa_fast.data.batches import MARGIN, Batch, frame_targets
from mtfa_fast.data.distractors import Distractors
from mtfa_fast.data.mixing import ANTI_CLIPPING, EBRS, event_gain, rms
from mtfa_fast.data.sources import EventSource, SourceAudio, SourceSet


@dataclass
class NumpySampler:
    """Mixtures of a source set: a background with, at ``presence``, an event of a uniformly drawn class.

    Backgrounds marked in the screening for any of the classes are not used: their frames have no target.
    """

    sources: SourceSet
    audio: SourceAudio
    features: FeatureConfig
    batch_size: int = 16
    frames: int = 256
    seed: int = 0
    presence: float = 0.75
    ebrs: tuple[float, ...] = EBRS
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    others: Distractors | None = None  # more distractors than the backgrounds' pieces, and more to mix into those

    def __post_init__(self) -> None:
        classes = set(self.sources.classes)
        self._backgrounds = [b for b in self.sources.backgrounds if not b.marks & classes]
        if not self._backgrounds:
            raise ValueError(
                f"{self.sources.folder}: every background of {self.sources.split} is marked as holding an event"
            )
        self._samples = (self.frames + 2 * MARGIN - 1) * self.features.hop
        self._hz = mel_centres(self.features)
        self._weights = [_weights(events, self.augment.balance_sources) for events in self.sources.events.values()]

    def batch(self, step: int, rank: int = 0) -> Batch:
        """The chunks of one step on one process."""
        rng = np.random.default_rng([self.seed, step, rank])
        chunks = [self._chunk(rng) for _ in range(self.batch_size)]
        return Batch(*(np.stack(parts) for parts in zip(*chunks, strict=True)))

    def _chunk(self, rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
        """One chunk's part of each field of :class:`Batch`."""
        on, bands = self.augment, self.features.mel_bands
        background = self._background(rng)
        wave = background.copy()
        targets = np.zeros((self.frames, len(self.sources.classes)), np.float32)
        count = int(rng.random() < self.presence)
        if count and on.several_events:
            count += int(rng.choice(len(aug.MORE_EVENTS), p=aug.MORE_EVENTS))
        for _ in range(count):
            self._place(rng, wave, background, targets)
        level = ANTI_CLIPPING
        if on.gain:
            level *= 10.0 ** (rng.uniform(*aug.GAIN_DB) / 20.0)
        wave *= np.float32(level)
        if on.noise and rng.random() < 0.5:
            amplitude = 10.0 ** (rng.uniform(*aug.NOISE_DB) / 20.0)
            wave += np.float32(amplitude) * rng.standard_normal(wave.size, dtype=np.float32)
        peak = np.max(np.abs(wave))
        if peak >= 1.0:
            wave /= peak
        decibels = np.zeros(bands)
        if on.chunk_filter and rng.random() < 0.6:
            decibels += aug.spectral_curve(rng, self._hz, aug.CHUNK_FILTER_DB)
        if on.chunk_filter and rng.random() < 0.3:
            decibels += aug.band_limit(rng, self._hz)
        masked = on.masking and rng.random() < 0.5
        hidden = hide(rng, self.frames, bands) if masked else np.zeros((self.frames, bands), bool)
        return wave, targets, (decibels * (np.log(10.0) / 10.0)).astype(np.float32), hidden

    def _background(self, rng: np.random.Generator) -> NDArray[np.float32]:
        on, rate = self.augment, self.features.sample_rate
        wave = self._crop(rng, self._samples)
        if on.background_mix and rng.random() < 0.3:
            other = self._second_background(rng)
            wave += np.float32(_ratio(wave, other, rng.uniform(-10.0, 3.0))) * other
        if on.background_filter and rng.random() < 0.4:
            wave = aug.filter_wave(wave, rate, rng, aug.BACKGROUND_FILTER_DB, limit=0.2)
        if on.distractors and rng.random() < (0.3 if self.others is None else 0.55):
            for _ in range(rng.integers(1, 4)):
                piece = aug.fade(self._distractor(rng, len(wave) // 2), rate)
                start = int(rng.integers(0, len(wave) - len(piece) + 1))
                under = wave[start : start + len(piece)]
                under += np.float32(_ratio(under, piece, rng.uniform(*aug.DISTRACTOR_DB))) * piece
        return wave

    def _second_background(self, rng: np.random.Generator) -> NDArray[np.float32]:
        """Another background, or distractors one after the other."""
        if self.others is None or rng.random() < 0.5:
            return self._crop(rng, self._samples)
        parts, missing = [], self._samples
        while missing > 0:
            part = self.others.draw(rng, missing)
            parts.append(_at_level(part))
            missing -= len(part)
        return np.concatenate(parts)

    def _distractor(self, rng: np.random.Generator, longest: int) -> NDArray[np.float32]:
        """A piece of another background; or of ``others``, or made-up knocks, both augmented as events are."""
        rate = self.features.sample_rate
        if self.augment.knocks and rng.random() < 0.4:
            return self._disguise(rng, knocks(rng, rate, min(longest, 2 * rate)))[0][:longest]
        if self.others is None or rng.random() < 0.3:
            return self._crop(rng, min(int(np.exp(rng.uniform(*np.log((0.05, 1.5)))) * rate), longest))
        piece = self.others.draw(rng, min(longest, int(np.exp(rng.uniform(*np.log((0.3, 2.5)))) * rate)))
        return self._disguise(rng, piece)[0][:longest]

    def _crop(self, rng: np.random.Generator, samples: int) -> NDArray[np.float32]:
        """A random part of a random background; a recording that is too short goes round."""
        wave = self.audio.background(self._backgrounds[rng.integers(len(self._backgrounds))])
        if len(wave) < samples:
            wave = np.tile(wave, -(-samples // len(wave)))
        start = int(rng.integers(0, len(wave) - samples + 1))
        return wave[start : start + samples].copy()

    def _event(self, rng: np.random.Generator, label: int) -> tuple[NDArray[np.float32], int]:
        """The (augmented) wave of an event, and how many of its samples the target covers."""
        sources = self.sources.events[self.sources.classes[label]]
        return self._disguise(rng, self.audio.event(sources[rng.choice(len(sources), p=self._weights[label])]))

    def _disguise(self, rng: np.random.Generator, event: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
        """The wave at another speed, filtered, in a room; and its length without the room's tail."""
        on, rate = self.augment, self.features.sample_rate
        if on.speed and rng.random() < 0.7:
            event = aug.change_speed(event, rng)
        if on.event_filter and rng.random() < 0.6:
            event = aug.filter_wave(event, rate, rng, aug.EVENT_FILTER_DB, limit=0.3)
        if on.saturation and rng.random() < 0.25:
            event = saturate(event, rng)
        length = len(event)
        if on.reverb and rng.random() < 0.35:
            event = add_reverb(event, rate, rng)  # the tail sounds on, the event ends where it ended
        return event, length

    def _place(
        self,
        rng: np.random.Generator,
        wave: NDArray[np.float32],
        background: NDArray[np.float32],
        targets: NDArray[np.float32],
    ) -> None:
        label = int(rng.integers(len(self.sources.classes)))
        event, length = self._event(rng, label)
        ebr = draw_ebr(rng, self.ebrs, self.augment.ebr_range)
        if self.augment.cut_events:
            onset = int(rng.integers(-int(0.6 * length), len(wave) - min(length, int(0.1 * len(wave))) + 1))
        else:
            onset = int(rng.integers(0, max(0, len(wave) - length) + 1))
        first, last = max(onset, 0), min(onset + length, len(wave))
        if rms(event[:length]) == 0.0:
            return
        gain = event_gain(event[:length], background[first:last], ebr)
        heard = min(onset + len(event), len(wave))
        wave[first:heard] += np.float32(gain) * event[first - onset : heard - onset]
        hop = self.features.hop
        targets[frame_targets(onset / hop, (onset + length) / hop, self.frames, MARGIN), label] = 1.0


def saturate(wave: Wave, rng: np.random.Generator) -> Wave:
    """Overload: tanh, same peak, the drive log-uniform in aug.DRIVE."""
    peak = np.float32(np.max(np.abs(wave), initial=0.0))
    if peak == 0.0:
        return wave
    drive = np.float32(np.exp(rng.uniform(*np.log(aug.DRIVE))))
    return np.tanh(wave * (drive / peak)) * (peak / np.tanh(drive))


def knocks(rng: np.random.Generator, rate: int, longest: int) -> Wave:
    """Steps, knocks or clatter, (n,) with n <= longest: a series of alike strokes on one made-up body.

    A stroke is a click and the body's decaying resonances; much shorter than a shot, and without its tail.
    """
    time = np.arange(min(longest, int(0.15 * rate))) / rate
    modes = int(rng.integers(2, 8))
    hz = aug.KNOCK_HZ[0] * (aug.KNOCK_HZ[1] / aug.KNOCK_HZ[0]) ** rng.random(modes)
    short, long = aug.KNOCK_DECAY_SECONDS
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
    decay = np.exp(rng.uniform(*np.log(aug.REVERB_SECONDS)))
    length = int(min(decay, 0.4) * rate)
    time = np.arange(length) / rate
    tail = rng.standard_normal(length).astype(np.float32) * np.exp(-6.9 * time / decay)
    tail *= 10.0 ** (rng.uniform(-15.0, 3.0) / 20.0) / np.sqrt(np.sum(np.square(tail)))
    delay = int(rng.uniform(0.001, 0.02) * rate)
    tail[:delay] = 0.0
    tail[0] = 1.0
    size = aug.fast_length(len(wave) + length)
    wet = np.fft.irfft(np.fft.rfft(wave, size) * np.fft.rfft(tail, size), size)
    return wet[: len(wave) + length].astype(np.float32)


def draw_ebr(rng: np.random.Generator, choices: tuple[float, ...], wide: bool) -> float:
    """EBR in dB: one of ``choices``, or with ``wide`` from aug.EBR_DB, one in five from aug.EBR_LOUD_DB."""
    if not wide:
        return float(rng.choice(choices))
    return float(rng.uniform(*(aug.EBR_LOUD_DB if rng.random() < 0.2 else aug.EBR_DB)))


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


def _at_level(wave: NDArray[np.float32]) -> NDArray[np.float32]:
    """The wave at an RMS of 0.1, so that recordings of all levels follow each other."""
    level = rms(wave)
    return wave * np.float32(0.1 / level) if level > 0.0 else wave


def _ratio(reference: NDArray[np.float32], wave: NDArray[np.float32], decibels: float) -> float:
    """Factor that brings ``wave`` ``decibels`` above ``reference``; 0 where ``wave`` is silent."""
    return event_gain(wave, reference, decibels) if rms(wave) > 0.0 else 0.0


def _weights(events: tuple[EventSource, ...], balanced: bool) -> NDArray[np.float64]:
    """Probability of each event: equal, or falling with the square root of its source's number of files."""
    groups = [e.group for e in events]
    weights = np.array([groups.count(g) ** -0.5 if balanced else 1.0 for g in groups])
    return weights / weights.sum()
