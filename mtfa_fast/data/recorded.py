"""Training chunks cut from finished mixtures, as the paper did: 256 frames, shift 128."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..audio import files as audio
from ..config import FeatureConfig
from .batches import MARGIN, Batch, frame_targets
from .layout import Mixture


@dataclass
class RecordedChunks:
    """Chunks of ``frames`` every ``shift`` frames of each mixture; the last one ends with the recording.

    An epoch is a permutation of all chunks by (seed, number of the epoch); steps and processes take their
    share in turn. A recording that is shorter than a chunk is followed by silence.
    """

    mixtures: Sequence[Mixture]
    classes: tuple[str, ...]
    features: FeatureConfig
    batch_size: int = 16
    frames: int = 256
    shift: int = 128
    seed: int = 0
    processes: int = 1
    _places: list[tuple[int, int]] = field(init=False, repr=False)
    _order: tuple[int, NDArray[np.int64]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.mixtures:
            raise ValueError("mixtures: got none, allowed: at least one")
        self._places = [
            (number, start)
            for number, mixture in enumerate(self.mixtures)
            for start in chunk_starts(self._frame_count(mixture.path), self.frames, self.shift)
        ]
        self._order = (-1, np.empty(0, np.int64))

    def __len__(self) -> int:
        """Chunks in an epoch."""
        return len(self._places)

    def draw(self, step: int, rank: int = 0) -> Batch:
        """The chunks of one step on one process, read."""
        first = (step * self.processes + rank) * self.batch_size
        chunks = [self._chunk(*self._places[self._drawn(first + i)]) for i in range(self.batch_size)]
        return Batch(*(np.stack(parts) for parts in zip(*chunks, strict=True)))

    def batch(self, drawn: Batch) -> Batch:
        """They are the batch."""
        return drawn

    def _drawn(self, position: int) -> int:
        epoch, index = divmod(position, len(self._places))
        if self._order[0] != epoch:
            order = np.random.default_rng([self.seed, epoch]).permutation(len(self._places))
            self._order = (epoch, order)
        return int(self._order[1][index])

    def _chunk(self, number: int, start: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        mixture, hop, rate = self.mixtures[number], self.features.hop, self.features.sample_rate
        samples = (self.frames + 2 * MARGIN - 1) * hop
        wave = np.zeros(samples, np.float32)
        begin = (start - MARGIN) * hop  # before the recording's first sample there is silence, as in its own STFT
        part = audio.read_part(mixture.path, rate, max(0, begin), begin + samples)
        lead = max(0, -begin)
        wave[lead : lead + len(part)] = part
        targets = np.zeros((self.frames, len(self.classes)), np.float32)
        for label, onset, offset in mixture.events:
            if label in self.classes:
                frames = frame_targets(onset * rate / hop, offset * rate / hop, self.frames, start)
                targets[frames, self.classes.index(label)] = 1.0
        return wave, targets

    def _frame_count(self, path: Path) -> int:
        return self.features.frame_count(round(audio.duration(path) * self.features.sample_rate))


def chunk_starts(total: int, frames: int, shift: int) -> list[int]:
    """First frames of the chunks that cover ``total`` frames."""
    last = max(0, total - frames)
    return [*range(0, last, shift), last]


def cut_mixtures(mixtures: Sequence[Mixture], fraction: float, seed: int) -> tuple[list[Mixture], list[Mixture]]:
    """(rest, held out): about ``fraction`` of the files with events and of those without."""
    rng = np.random.default_rng(seed)
    kept: list[Mixture] = []
    held: list[Mixture] = []
    for busy in (True, False):
        group = [m for m in mixtures if bool(m.events) is busy]
        order = rng.permutation(len(group))
        count = round(fraction * len(group))
        held += [group[i] for i in sorted(order[:count])]
        kept += [group[i] for i in sorted(order[count:])]
    if not kept or not held:
        raise ValueError(f"mixtures: got {len(mixtures)}, allowed: enough to hold {fraction:.0%} of them out")
    return kept, held
