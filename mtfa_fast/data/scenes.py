"""Harder scenes than the official recipe's: what recordings from elsewhere do to a detector, for choosing weights on.

Backgrounds lie over each other and come through other microphones, other sounds begin suddenly, and events are not
quite those of the collection. Level and place of the event are the recipe's, and so is the mixing.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from . import augment
from .distractors import Distractors
from .mixing import event_gain, rms
from .recipes import Draw
from .sources import SourceAudio, SourceSet

BACKGROUND_FILTERED = 0.5  # probabilities
SECOND_BACKGROUND = 0.4
DISTRACTED = 0.5
EVENT_SPEED = 0.5
EVENT_FILTERED = 0.4
SECOND_BACKGROUND_DB = (-8.0, 0.0)  # to what lies under it
DISTRACTORS = (1, 3)  # in a scene that has any
DISTRACTOR_DB = (-6.0, 9.0)
DISTRACTOR_SECONDS = 4.0  # at most, of a recording of its own
PIECE_SECONDS = (0.05, 1.5)  # of a background, for want of such recordings
FILTER_DB, BAND_LIMITED = 4.0, 0.1

Wave = NDArray[np.float32]


class HardScenes:
    """Changes background and event of a drawn mixture, by ``seed``, class and number of the mixture alone.

    Second backgrounds, and without ``distractors`` the sudden sounds, are backgrounds of ``sources`` that are not
    marked as holding one of its classes.
    """

    def __init__(
        self, sources: SourceSet, audio: SourceAudio, seed: int, distractors: Distractors | None = None
    ) -> None:
        self._others = [b for b in sources.backgrounds if not b.marks & set(sources.classes)]
        self._audio, self._seed, self._distractors = audio, seed, distractors

    def change(self, what: Draw, background: Wave, event: Wave | None) -> tuple[Wave, Wave | None, list[str]]:
        """(n,) and (m,) -> background (n,), event (about m,), and what was done, for the recipe."""
        rng = np.random.default_rng([self._seed, what.number, *what.label.encode()])
        rate, done = self._audio.sample_rate, list[str]()
        scene = self._turned(rng, background, "background", done)
        if self._others and rng.random() < SECOND_BACKGROUND:
            other = self._others[rng.integers(len(self._others))]
            level = rng.uniform(*SECOND_BACKGROUND_DB)
            done.append(f"{other.name} at {level:.2f} dB")
            # a recording that is too short goes round
            wave = self._turned(rng, np.resize(self._audio.background(other), len(scene)), other.name, done)
            _add(scene, wave, 0, level)
        if (self._others or self._distractors) and rng.random() < DISTRACTED:
            for _ in range(rng.integers(DISTRACTORS[0], DISTRACTORS[1] + 1)):
                piece = augment.fade(self._distractor(rng), rate)[: len(scene)]
                start, level = int(rng.integers(0, len(scene) - len(piece) + 1)), rng.uniform(*DISTRACTOR_DB)
                _add(scene, piece, start, level)
                done.append(f"distractor {zlib.crc32(piece.tobytes()):08x} at {start / rate:.3f} s, {level:.2f} dB")
        if event is not None:
            event = self._event(rng, event, len(scene) - int(what.onset * rate), done)
        return scene, event, done

    def _turned(self, rng: np.random.Generator, wave: Wave, name: str, done: list[str]) -> Wave:
        """The recording begun elsewhere, perhaps through another microphone."""
        first = int(rng.integers(len(wave)))
        done.append(f"{name} from {first / self._audio.sample_rate:.3f} s on")
        wave = np.roll(wave, -first)
        if rng.random() < BACKGROUND_FILTERED:
            wave = self._filtered(rng, wave)
            done.append(f"{name} filtered")
        return wave

    def _event(self, rng: np.random.Generator, event: Wave, room: int, done: list[str]) -> Wave:
        if rng.random() < EVENT_SPEED:
            changed = augment.change_speed(event, rng)
            if len(changed) <= room:  # else it would not end within the mixture
                done.append(f"event of {len(event)} samples in {len(changed)}")
                event = changed
        if rng.random() < EVENT_FILTERED:
            event = self._filtered(rng, event)
            done.append("event filtered")
        return event

    def _filtered(self, rng: np.random.Generator, wave: Wave) -> Wave:
        return augment.filter_wave(wave, self._audio.sample_rate, rng, FILTER_DB, BAND_LIMITED)

    def _distractor(self, rng: np.random.Generator) -> Wave:
        rate = self._audio.sample_rate
        if self._distractors:
            return self._distractors.draw(rng, int(DISTRACTOR_SECONDS * rate))
        wave = self._audio.background(self._others[rng.integers(len(self._others))])
        length = min(int(np.exp(rng.uniform(*np.log(PIECE_SECONDS))) * rate), len(wave))
        start = int(rng.integers(0, len(wave) - length + 1))
        return wave[start : start + length]


def _add(scene: Wave, wave: Wave, start: int, decibels: float) -> None:
    """``wave`` from ``start`` on, ``decibels`` above the scene there; a silent one changes nothing."""
    under = scene[start : start + len(wave)]
    if rms(wave) > 0.0:
        under += np.float32(event_gain(wave, under, decibels)) * wave
