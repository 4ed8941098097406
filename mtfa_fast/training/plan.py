"""What goes into a training chunk, drawn before a sample is touched. Torch-free: :mod:`.render` makes it sound.

Every random choice is made here, so that a plan is small, is drawn in a thread of its own, and says exactly what the
chunk will be: it depends on its key and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from ..audio.features import mel_centres
from ..config import FeatureConfig
from ..data import augment as aug
from ..data.augment import AugmentConfig
from ..data.batches import MARGIN, frame_targets
from ..data.mixing import ANTI_CLIPPING, EBRS

NOISE_SAMPLES = 1 << 22  # of white noise, of which every plan takes parts


Key = tuple[int, int, int]  # step, rank, number: what a chunk is drawn from, with the seed


@dataclass(frozen=True)
class Catalogue:
    """The sounds of a bank by number: their ``first`` sample in it and their ``length``, int64 (S,)."""

    first: NDArray[np.int64]
    length: NDArray[np.int64]
    events: tuple[NDArray[np.int64], ...]  # a class
    weights: tuple[NDArray[np.float64], ...]  # of the events: the probability of each
    backgrounds: NDArray[np.int64]  # none shorter than a chunk
    kinds: tuple[NDArray[np.int64], ...] = ()  # of distractors


@dataclass(frozen=True)
class Curve:
    """A random microphone: gain in dB at the knots of ``data.augment``, and a low-pass where ``corner`` is not 0."""

    knots: NDArray[np.float64]
    corner: float = 0.0  # Hz
    steepness: float = 0.0  # of 80 dB, an octave


@dataclass(frozen=True)
class Room:
    """A direct sound and decaying noise: seconds to fall by 60 dB, level, samples before it and until its end."""

    decay: float
    decibels: float
    delay: int
    samples: int
    noise: int  # first sample of its white noise, as below


@dataclass(frozen=True)
class Knocks:
    """Strokes on one made-up body of some modes: where each begins, how strongly it excites each, and its click."""

    hz: NDArray[np.float64]
    decay: NDArray[np.float64]  # seconds to 1/e
    click: float  # seconds to 1/e
    places: NDArray[np.int64]
    levels: NDArray[np.float64]  # (strokes, modes)
    clicks: NDArray[np.float64]  # (strokes,), level of the noise
    samples: int  # of a stroke
    noise: int


@dataclass(frozen=True)
class Piece:
    """A sound that is laid into a chunk: ``taken`` samples from ``first`` of the bank on, or ``knocks``; ``speed``
    times as fast, through a microphone, overloaded, in a room."""

    chunk: int
    first: int
    taken: int
    length: int  # without the room's tail: what a target covers
    heard: int  # with it
    onset: int = 0  # sample of the chunk; negative: begins before it
    decibels: float = 0.0  # above what lies under it
    label: int = -1  # class, or -1: a distractor
    knocks: Knocks | None = None
    speed: float = 1.0
    curve: Curve | None = None
    drive: float = 0.0
    room: Room | None = None


@dataclass
class Plan:
    """A batch to be. Lists of B entries, and of the pieces of all chunks in the order in which they are laid."""

    keys: list[Key]
    backgrounds: list[int] = field(default_factory=list)  # first sample in the bank
    seconds: dict[int, tuple[float, list[tuple[int, int]]]] = field(default_factory=dict)  # dB, (first, samples)
    curves: dict[int, Curve] = field(default_factory=dict)  # of the backgrounds
    distractors: list[Piece] = field(default_factory=list)
    events: list[Piece] = field(default_factory=list)
    levels: list[float] = field(default_factory=list)
    noises: dict[int, tuple[float, int]] = field(default_factory=dict)  # amplitude, first sample of the noise
    targets: list[NDArray[np.float32]] = field(default_factory=list)
    log_gain: list[NDArray[np.float32]] = field(default_factory=list)
    hidden: list[NDArray[np.bool_]] = field(default_factory=list)


@dataclass(frozen=True)
class Planner:
    """Mixtures of a catalogue: a background with, at ``presence``, an event of a uniformly drawn class."""

    catalogue: Catalogue
    features: FeatureConfig
    frames: int = 256
    seed: int = 0
    presence: float = 0.75
    ebrs: tuple[float, ...] = EBRS
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    @property
    def samples(self) -> int:
        """Of a chunk's wave."""
        return chunk_samples(self.frames, self.features)

    def plan(self, keys: Sequence[Key]) -> Plan:
        """The chunks of these keys."""
        plan = Plan(list(keys))
        hz = mel_centres(self.features)
        for chunk, key in enumerate(keys):
            self._chunk(np.random.default_rng([self.seed, *key]), chunk, plan, hz)
        return plan

    def _chunk(self, rng: np.random.Generator, chunk: int, plan: Plan, hz: NDArray[np.float64]) -> None:
        on, bands = self.augment, self.features.mel_bands
        self._background(rng, chunk, plan)
        targets = np.zeros((self.frames, len(self.catalogue.events)), np.float32)
        count = int(rng.random() < self.presence)
        if count and on.several_events:
            count += int(rng.choice(len(aug.MORE_EVENTS), p=aug.MORE_EVENTS))
        for _ in range(count):
            plan.events.append(self._event(rng, chunk, targets))
        plan.targets.append(targets)
        level = ANTI_CLIPPING
        if on.gain:
            level *= 10.0 ** (rng.uniform(*aug.GAIN_DB) / 20.0)
        plan.levels.append(level)
        if on.noise and rng.random() < 0.5:
            amplitude = 10.0 ** (rng.uniform(*aug.NOISE_DB) / 20.0)
            plan.noises[chunk] = (amplitude, _noise(rng, self.samples))
        decibels = np.zeros(bands)
        if on.chunk_filter and rng.random() < 0.6:
            decibels += aug.spectral_curve(rng, hz, aug.CHUNK_FILTER_DB)
        if on.chunk_filter and rng.random() < 0.3:
            decibels += aug.band_limit(rng, hz)
        plan.log_gain.append((decibels * (np.log(10.0) / 10.0)).astype(np.float32))
        masked = on.masking and rng.random() < 0.5
        plan.hidden.append(hide(rng, self.frames, bands) if masked else np.zeros((self.frames, bands), bool))

    def _background(self, rng: np.random.Generator, chunk: int, plan: Plan) -> None:
        on, samples = self.augment, self.samples
        plan.backgrounds.append(self._crop(rng, samples))
        if on.background_mix and rng.random() < 0.3:
            other = self._second_background(rng)
            plan.seconds[chunk] = (rng.uniform(-10.0, 3.0), other)
        if on.background_filter and rng.random() < 0.4:
            plan.curves[chunk] = _curve(rng, aug.BACKGROUND_FILTER_DB, limit=0.2)
        if on.distractors and rng.random() < (0.55 if self.catalogue.kinds else 0.3):
            for _ in range(rng.integers(1, 4)):
                piece = self._distractor(rng, chunk, samples // 2)
                onset = int(rng.integers(0, samples - piece.heard + 1))
                plan.distractors.append(replace(piece, onset=onset, decibels=rng.uniform(*aug.DISTRACTOR_DB)))

    def _second_background(self, rng: np.random.Generator) -> list[tuple[int, int]]:
        """Another background, or distractors one after the other."""
        if not self.catalogue.kinds or rng.random() < 0.5:
            return [(self._crop(rng, self.samples), self.samples)]
        parts, missing = [], self.samples
        while missing > 0:
            parts.append(self._other(rng, missing))
            missing -= parts[-1][1]
        return parts

    def _distractor(self, rng: np.random.Generator, chunk: int, longest: int) -> Piece:
        """A piece of another background; or a distractor, or made-up knocks, both augmented as events are."""
        rate = self.features.sample_rate
        if self.augment.knocks and rng.random() < 0.4:
            made, samples = draw_knocks(rng, rate, min(longest, 2 * rate))
            piece = self._disguised(rng, Piece(chunk, -1, samples, samples, samples, knocks=made))
        elif not self.catalogue.kinds or rng.random() < 0.3:
            samples = max(1, min(int(np.exp(rng.uniform(*np.log((0.05, 1.5)))) * rate), longest))
            return Piece(chunk, self._crop(rng, samples), samples, samples, samples)
        else:
            first, samples = self._other(
                rng, max(1, min(longest, int(np.exp(rng.uniform(*np.log((0.3, 2.5)))) * rate)))
            )
            piece = self._disguised(rng, Piece(chunk, first, samples, samples, samples))
        return replace(piece, heard=min(piece.heard, longest))

    def _other(self, rng: np.random.Generator, longest: int) -> tuple[int, int]:
        """(first sample, samples) of a random distractor, or of a random part of it."""
        kind = self.catalogue.kinds[rng.integers(len(self.catalogue.kinds))]
        sound = kind[rng.integers(len(kind))]
        length = int(self.catalogue.length[sound])
        start = int(rng.integers(0, max(0, length - longest) + 1))
        return int(self.catalogue.first[sound]) + start, min(length, longest)

    def _crop(self, rng: np.random.Generator, samples: int) -> int:
        """First sample of a random part of a random background."""
        sound = self.catalogue.backgrounds[rng.integers(len(self.catalogue.backgrounds))]
        start = int(rng.integers(0, int(self.catalogue.length[sound]) - samples + 1))
        return int(self.catalogue.first[sound]) + start

    def _event(self, rng: np.random.Generator, chunk: int, targets: NDArray[np.float32]) -> Piece:
        """An event, and its frames in ``targets``."""
        label = int(rng.integers(len(self.catalogue.events)))
        sound = rng.choice(self.catalogue.events[label], p=self.catalogue.weights[label])
        samples = int(self.catalogue.length[sound])
        piece = self._disguised(rng, Piece(chunk, int(self.catalogue.first[sound]), samples, samples, samples))
        ebr, length = draw_ebr(rng, self.ebrs, self.augment.ebr_range), piece.length
        if self.augment.cut_events:
            latest = self.samples - min(length, int(0.1 * self.samples))
            onset = int(rng.integers(-int(0.6 * length), latest + 1))
        else:
            onset = int(rng.integers(0, max(0, self.samples - length) + 1))
        hop = self.features.hop
        targets[frame_targets(onset / hop, (onset + length) / hop, self.frames, MARGIN), label] = 1.0
        return replace(piece, onset=onset, decibels=ebr, label=label)

    def _disguised(self, rng: np.random.Generator, piece: Piece) -> Piece:
        """At another speed, through another microphone, overloaded, in a room."""
        on, rate = self.augment, self.features.sample_rate
        speed = 1.0
        if on.speed and rng.random() < 0.7:
            speed = float(np.exp(rng.uniform(*np.log(aug.SPEED))))
        length = max(1, round(piece.taken / speed))
        curve = _curve(rng, aug.EVENT_FILTER_DB, limit=0.3) if on.event_filter and rng.random() < 0.6 else None
        drive = 0.0
        if on.saturation and rng.random() < 0.25:
            drive = float(np.exp(rng.uniform(*np.log(aug.DRIVE))))
        room, heard = None, length
        if on.reverb and rng.random() < 0.35:
            decay = float(np.exp(rng.uniform(*np.log(aug.REVERB_SECONDS))))
            decibels, delay = rng.uniform(-15.0, 3.0), int(rng.uniform(0.001, 0.02) * rate)
            samples = max(1, int(min(decay, 0.4) * rate))
            room = Room(decay, decibels, delay, samples, _noise(rng, samples))
            heard += room.samples  # the tail sounds on, the event ends where it ended
        return replace(piece, speed=speed, length=length, heard=heard, curve=curve, drive=drive, room=room)


def chunk_samples(frames: int, features: FeatureConfig) -> int:
    """Of the wave whose log-mel has a chunk's frames and a margin on both sides."""
    return (frames + 2 * MARGIN - 1) * features.hop


def draw_knocks(rng: np.random.Generator, rate: int, longest: int) -> tuple[Knocks, int]:
    """Steps, knocks or clatter of at most ``longest`` samples: a series of alike strokes; and its samples.

    A stroke is a click and the body's decaying resonances; much shorter than a shot, and without its tail.
    """
    samples = min(longest, int(0.15 * rate))
    modes = int(rng.integers(2, 8))
    hz = aug.KNOCK_HZ[0] * (aug.KNOCK_HZ[1] / aug.KNOCK_HZ[0]) ** rng.random(modes)
    short, long = aug.KNOCK_DECAY_SECONDS
    decay = short * (long / short) ** rng.random(modes)
    click = float(np.exp(rng.uniform(*np.log((0.0005, 0.008)))))
    spacing = np.exp(rng.uniform(*np.log((0.06, 0.7)))) * rate
    count = min(int(rng.integers(1, 9)), 1 + int((longest - samples) / (1.5 * spacing)))
    gaps = spacing * rng.uniform(0.7, 1.3, count)
    places = (np.cumsum(gaps) - gaps).astype(np.int64)
    strength = 10.0 ** (rng.uniform(-9.0, 0.0, count) / 20.0)
    levels = strength[:, None] * rng.normal(0.0, 1.0, (count, modes)) / modes
    clicks = strength * rng.uniform(0.1, 1.0, count)
    noise = _noise(rng, count * samples)
    return Knocks(hz, decay, click, places, levels, clicks, samples, noise), min(longest, int(gaps.sum()) + samples)


def _noise(rng: np.random.Generator, samples: int) -> int:
    return int(rng.integers(0, NOISE_SAMPLES - samples + 1))


def draw_ebr(rng: np.random.Generator, choices: tuple[float, ...], wide: bool) -> float:
    """EBR in dB: one of ``choices``, or with ``wide`` from EBR_DB, one in five from EBR_LOUD_DB."""
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


def _curve(rng: np.random.Generator, deviation_db: float, limit: float) -> Curve:
    """With probability ``limit`` a band limit too."""
    knots = rng.normal(0.0, deviation_db, aug.KNOTS)
    if rng.random() >= limit:
        return Curve(knots)
    return Curve(knots, float(np.exp(rng.uniform(*np.log(aug.BAND_LIMIT_HZ)))), rng.uniform(2.0, 6.0))
