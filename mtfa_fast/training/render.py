"""A plan made sound on the training device: mixing and augmentation as torch operations in float32.

Sounds of one length of FFT go through it together. What is left to each piece alone is reading it at its speed and
adding it where it belongs: a few launches each on a GPU.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.augment import KNOT_HZ, KNOTS, fast_length
from .plan import NOISE_SAMPLES, Curve, Knocks, Piece, Plan, Room

FADE_SECONDS = 0.01
_FULL_SCALE = 2.0**-15
_FIRST_KNOT, _LAST_KNOT = np.log2(KNOT_HZ)
DOUBLED_SCALE = 2.0**-14
ROLL_OFF = (0.66, 0.94)  # of half the rate, at other speeds
_COARSE = 4096  # bins between which a curve is straight: it is smooth, and log and exp of every bin would cost more
_TOGETHER = 1 << 20  # samples of a group: on a CPU its spectra stay in the cache


class Renderer:
    """Makes waves of plans from a bank's ``sounds``, int16 (N,), at ``rate`` Hz, the first ``doubled`` of which are
    often read at other speeds. Plans decide everything: white noise, too, is a part of one long row that is the same in
    every run."""

    def __init__(self, sounds: Tensor, samples: int, rate: int, doubled: int = 0) -> None:
        self.sounds, self.samples, self.rate, self.device = sounds, samples, rate, sounds.device
        self.doubled = _doubled(sounds[:doubled])
        noise = torch.randn(NOISE_SAMPLES, generator=torch.Generator().manual_seed(0))
        self.noise = noise.to(self.device)

    def waves(self, plan: Plan) -> Tensor:
        """The chunks of a plan, float32 (B, samples)."""
        samples = self.samples
        wave = torch.empty(len(plan.keys), samples, device=self.device)
        for row, first in zip(wave, plan.backgrounds, strict=True):
            row.copy_(self.sounds[first : first + samples])
        wave *= _FULL_SCALE
        for chunk, (decibels, parts) in plan.seconds.items():
            others = [self._sound(*part) for part in parts]
            _lay(wave[chunk], torch.cat([_at_level(x) for x in others]) if len(parts) > 1 else others[0], decibels)
        if plan.curves:
            rows, size = list(plan.curves), fast_length(samples + self.rate // 50)
            spectrum = torch.fft.rfft(wave[rows], size)
            spectrum *= gains(list(plan.curves.values()), size // 2 + 1, self.rate, self.device)
            wave[rows] = torch.fft.irfft(spectrum, size)[:, :samples]
        pieces = self.disguised([*plan.distractors, *plan.events])
        for piece, sound in zip(plan.distractors, pieces, strict=False):
            fade(sound, self.rate)
            _lay(wave[piece.chunk, piece.onset : piece.onset + len(sound)], sound, piece.decibels)
        events = list(zip(plan.events, pieces[len(plan.distractors) :], strict=True))
        # All gains first: an event's level is that of the background under it, not of other events.
        for piece, sound, gain in [(p, s, _event_gain(p, s, wave[p.chunk])) for p, s in events]:
            first, last = max(piece.onset, 0), min(piece.onset + piece.heard, samples)
            wave[piece.chunk, first:last].addcmul_(sound[first - piece.onset : last - piece.onset], gain)
        wave *= torch.tensor(plan.levels, device=self.device)[:, None]
        for chunk, (amplitude, first) in plan.noises.items():
            wave[chunk].add_(self.noise[first : first + samples], alpha=amplitude)
        return wave.div_(wave.abs().amax(1, keepdim=True).clamp_min_(1.0))

    def disguised(self, pieces: Sequence[Piece]) -> list[Tensor]:
        """Each piece's sound (``heard``,): at its speed, through its microphone, overloaded, in its room."""
        found = self._dry(pieces)
        for size, group in _groups(pieces, lambda p: fast_length(p.length + self.rate // 50) if p.curve else 0):
            # That much room for what a filter of zero phase spreads, before the sound and after it.
            rows = torch.fft.rfft(_rows([found[i] for i in group], size))
            rows *= gains([c for i in group if (c := pieces[i].curve)], rows.shape[1], self.rate, self.device)
            for row, i in zip(torch.fft.irfft(rows, size), group, strict=True):
                found[i] = row[: pieces[i].length]
        for i, piece in enumerate(pieces):
            if piece.drive:
                found[i] = saturate(found[i], piece.drive)
        for size, group in _groups(pieces, lambda p: fast_length(p.length + p.room.samples) if p.room else 0):
            tails = torch.fft.rfft(self.rooms([room for i in group if (room := pieces[i].room)]), size)
            wet = torch.fft.irfft(torch.fft.rfft(_rows([found[i] for i in group], size)).mul_(tails), size)
            for row, i in zip(wet, group, strict=True):
                found[i] = row
        return [sound[: piece.heard] for sound, piece in zip(found, pieces, strict=True)]

    def _dry(self, pieces: Sequence[Piece]) -> list[Tensor]:
        """The pieces at their speeds, (``length``,) each."""
        ready = len(self.doubled) // 2
        found: list[Tensor] = []
        for p in pieces:
            if p.knocks:
                found.append(self.strokes(p.knocks, p.taken))
            elif p.speed == 1.0 or p.first >= ready:
                found.append(self._sound(p.first, p.taken))
            else:
                wave = self.doubled[2 * p.first : 2 * (p.first + p.taken)] * DOUBLED_SCALE
                found.append(read_at(wave, 2.0 * p.speed, p.length))
        others = [i for i, p in enumerate(pieces) if p.speed != 1.0 and (p.knocks or p.first >= ready)]
        for size, group in _groups([pieces[i] for i in others], lambda p: fast_length(p.taken)):
            places = [others[k] for k in group]
            for i, row in zip(places, twice(_rows([found[i] for i in places], size)), strict=True):
                found[i] = read_at(row, 2.0 * pieces[i].speed, pieces[i].length)
        return found

    def strokes(self, knocks: Knocks, samples: int) -> Tensor:
        """A series of strokes, (``samples``,): each the body's decaying modes and a click of decaying noise."""
        n = knocks.samples
        hz, decay, levels, clicks = (
            torch.tensor(x, dtype=torch.float32).to(self.device)
            for x in (knocks.hz, knocks.decay, knocks.levels, knocks.clicks)
        )
        time = torch.arange(n, device=self.device) / self.rate
        modes = torch.sin(time * (2.0 * torch.pi * hz[:, None])).mul_(torch.exp(-time / decay[:, None]))
        noise = self.noise[knocks.noise : knocks.noise + len(levels) * n].view(len(levels), n)
        waves = torch.addmm(noise * torch.exp(-time / knocks.click) * clicks[:, None], levels, modes)
        series = waves.new_zeros(samples)
        for place, stroke in zip(knocks.places.tolist(), waves, strict=True):
            part = series[place : place + n]
            part += stroke[: len(part)]
        return series

    def rooms(self, rooms: Sequence[Room]) -> Tensor:
        """Impulse responses (R, the longest): the direct sound, a pause, noise of a level that decays."""
        tails = torch.zeros(len(rooms), max(room.samples for room in rooms), device=self.device)
        place = torch.arange(tails.shape[1], device=self.device)
        for tail, room in zip(tails, rooms, strict=True):
            n = room.samples
            tail[:n] = self.noise[room.noise : room.noise + n]
            tail[:n] *= torch.exp(place[:n] * (-6.9 / (room.decay * self.rate)))
            tail *= 10.0 ** (room.decibels / 20.0) / torch.dot(tail, tail).sqrt()
            tail[: room.delay] = 0.0
            tail[0] = 1.0
        return tails

    def _sound(self, first: int, samples: int) -> Tensor:
        return self.sounds[first : first + samples] * _FULL_SCALE


def gains(curves: Sequence[Curve], bins: int, rate: int, device: torch.device) -> Tensor:
    """Factors of the amplitude (R, ``bins``) of spectra from 0 to half the rate: the curves, straight in dB over
    octaves."""
    hz = np.linspace(0.0, rate / 2.0, _COARSE + 1)
    octave = np.log2(np.maximum(hz, 1.0))
    knots = np.linspace(_FIRST_KNOT, _LAST_KNOT, KNOTS)
    decibels = np.stack([np.interp(octave, knots, c.knots) for c in curves])
    for row, curve in zip(decibels, curves, strict=True):
        if curve.corner:
            row -= 80.0 * np.clip((octave - np.log2(curve.corner)) * curve.steepness, 0.0, 1.0)
    factors = torch.from_numpy((10.0 ** (decibels / 20.0)).astype(np.float32)).to(device)
    return F.interpolate(factors[:, None], bins, mode="linear", align_corners=True)[:, 0]


def twice(waves: Tensor) -> Tensor:
    """Waves (R, n) at twice the rate, (R, 2 n), made ready for :func:`read_at`; n good for an FFT."""
    n = waves.shape[1]
    place = torch.arange(n // 2 + 1, device=waves.device) / (n // 2)  # 1: half the rate
    # A straight line between samples passes sinc(f / rate)^2 of a tone: here undone before it is done. The highest
    # tones go, softly as in a resampler of low quality, since at a higher speed they would lie beyond half the rate.
    roll_off = 0.5 + 0.5 * torch.cos(torch.pi * ((place - ROLL_OFF[0]) / (ROLL_OFF[1] - ROLL_OFF[0])).clamp_(0.0, 1.0))
    factors = 2.0 * roll_off / torch.sinc(place / 4.0).square()
    return torch.fft.irfft(torch.fft.rfft(waves).mul_(factors), 2 * n)


def read_at(wave: Tensor, step: float, samples: int) -> Tensor:
    """``samples`` values of a wave (n,) at the places 0, step, 2 * step ..., on straight lines between its samples."""
    last = min(len(wave), round(step * (samples - 1)) + 1)
    return F.interpolate(wave[None, None, :last], samples, mode="linear", align_corners=True)[0, 0]


def _doubled(sounds: Tensor) -> Tensor:
    """A row of sounds, int16 (n,), by :func:`twice`: int16 (2 n,) of DOUBLED_SCALE."""
    part, edge = _TOGETHER, _TOGETHER // 64  # what the ends of a part spill is cut off
    padded = F.pad(sounds, (edge, part + edge))
    parts = []
    for start in range(0, len(sounds), part):
        wave = twice(padded[None, start : start + part + 2 * edge] * _FULL_SCALE)[0, 2 * edge : 2 * (edge + part)]
        parts.append((wave / DOUBLED_SCALE).round_().clamp_(-(2**15), 2**15 - 1).short())
    return torch.cat([*parts, sounds[:0]])[: 2 * len(sounds)]


def saturate(wave: Tensor, drive: float) -> Tensor:
    """Overload: tanh, same peak (n,); silence stays silent."""
    peak = torch.linalg.vector_norm(wave, torch.inf).clamp_min(torch.finfo(wave.dtype).tiny)
    return torch.tanh(wave * (drive / peak)) * (peak / float(np.tanh(drive)))


def fade(wave: Tensor, rate: int) -> None:
    """Linear fades at both ends, in place, so that a cut piece brings no click."""
    n = min(int(FADE_SECONDS * rate), len(wave) // 2)
    if n:
        ramp = torch.linspace(0.0, 1.0, n, device=wave.device)
        wave[:n] *= ramp
        wave[len(wave) - n :] *= ramp.flip(0)


def _ratio(reference: Tensor, wave: Tensor, decibels: float) -> Tensor:
    """Factor that brings ``wave``'s RMS ``decibels`` above ``reference``'s; 0 where ``wave`` is silent."""
    level = torch.dot(wave, wave)
    wanted = torch.dot(reference, reference) * (10.0 ** (decibels / 10.0) * len(wave) / len(reference))
    return torch.where(level > 0.0, wanted / level, 0.0).sqrt_()


def _lay(under: Tensor, wave: Tensor, decibels: float) -> None:
    under.addcmul_(wave, _ratio(under, wave, decibels))


def _at_level(wave: Tensor) -> Tensor:
    """At an RMS of 0.1, so that recordings of all levels follow each other; silence stays silent."""
    level = torch.dot(wave, wave) / len(wave)
    return wave * torch.where(level > 0.0, 0.01 / level, 1.0).sqrt_()


def _event_gain(piece: Piece, sound: Tensor, background: Tensor) -> Tensor:
    under = background[max(piece.onset, 0) : min(piece.onset + piece.length, len(background))]
    return _ratio(under, sound[: piece.length], piece.decibels)


def _rows(waves: Sequence[Tensor], size: int) -> Tensor:
    """The waves, each (n,) with n <= size, above each other and followed by zeros."""
    rows = waves[0].new_empty(len(waves), size)
    for row, wave in zip(rows, waves, strict=True):
        row[: len(wave)] = wave
        row[len(wave) :] = 0.0
    return rows


def _groups(pieces: Sequence[Piece], size: Callable[[Piece], int]) -> Iterator[tuple[int, list[int]]]:
    """(size, places of the pieces of that size), so many that they stay in the cache; none of size 0."""
    places = defaultdict[int, list[int]](list)
    for i, piece in enumerate(pieces):
        if n := size(piece):
            places[n].append(i)
    for n, same in places.items():
        most = max(1, _TOGETHER // n)
        for start in range(0, len(same), most):
            yield n, same[start : start + most]
