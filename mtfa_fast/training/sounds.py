"""Every sound that a run mixes, decoded once: 16-bit samples in one row on the training device, and their catalogue."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..data.distractors import Distractors
from ..data.sources import EventSource, SourceAudio, SourceSet
from .plan import Catalogue


@dataclass(frozen=True, eq=False)
class SoundBank:
    """``sounds``: int16 (N,), full scale 2^15, louder ones clipped. ``names``: of the catalogue's sounds."""

    sounds: Tensor
    catalogue: Catalogue
    names: tuple[str, ...] = field(repr=False)
    digest: str
    events: int  # samples of the events, which come first

    @classmethod
    def load(
        cls,
        sources: SourceSet,
        audio: SourceAudio,
        samples: int,
        device: torch.device,
        others: Distractors | None = None,
        *,
        balanced: bool = False,
    ) -> SoundBank:
        """Decode all, in threads. A background shorter than a chunk's ``samples`` goes round.

        Backgrounds marked in the screening for any of the classes are not used: their frames have no target.
        ``balanced``: events of a source with many files are drawn less often. ValueError for backgrounds that are all
        marked, for silent events and distractors, and for files as :func:`.audio.files.blocks` raises.
        """
        backgrounds = [b for b in sources.backgrounds if not b.marks & set(sources.classes)]
        if not backgrounds:
            raise ValueError(f"{sources.folder}: every background of {sources.split} is marked as holding an event")
        events = [e for label in sources.classes for e in sources.events[label]]
        kinds = others.kinds if others else ()
        reads: list[Callable[[], NDArray[np.float32]]] = [
            *(partial(audio.event, e) for e in events),
            *(partial(_long, audio, b.path, samples) for b in backgrounds),
            *(partial(audio.whole, path) for kind in kinds for path in kind),
        ]
        names = [
            *(f"{e.path} from {e.start:g} s" for e in events),
            *(str(b.path) for b in backgrounds),
            *(str(path) for kind in kinds for path in kind),
        ]
        with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:
            waves = list(pool.map(_sixteen_bit, reads))
        for number, (name, wave) in enumerate(zip(names, waves, strict=True)):
            if not len(events) <= number < len(events) + len(backgrounds) and not wave.any():
                raise ValueError(f"{name}: got silence, allowed: a sound")
        first = np.cumsum([0, *map(len, waves)])[:-1]
        length = np.array([len(wave) for wave in waves], np.int64)
        numbers = np.split(
            np.arange(len(waves)),
            np.cumsum([*(len(sources.events[c]) for c in sources.classes), len(backgrounds), *map(len, kinds)])[:-1],
        )
        classes = len(sources.classes)
        weights = tuple(_weights(own, balanced) for own in sources.events.values())
        catalogue = Catalogue(
            first, length, tuple(numbers[:classes]), weights, numbers[classes], tuple(numbers[classes + 1 :])
        )
        row = np.concatenate(waves)
        digest = hashlib.sha256(row.data)
        digest.update(first.tobytes())
        digest.update(" ".join(f"{len(n)}" for n in numbers).encode())
        return cls(
            torch.from_numpy(row).to(device),
            catalogue,
            tuple(names),
            digest.hexdigest(),
            int(length[: len(events)].sum()),
        )

    def waves(self) -> Iterator[tuple[str, NDArray[np.int16]]]:
        """Every sound under its name."""
        row = self.sounds.cpu().numpy()
        for name, first, length in zip(self.names, self.catalogue.first, self.catalogue.length, strict=True):
            yield name, row[first : first + length]


def _long(audio: SourceAudio, path: Path, samples: int) -> NDArray[np.float32]:
    wave = audio.whole(path)
    return wave if len(wave) >= samples else np.tile(wave, -(-samples // len(wave)))


def _sixteen_bit(read: Callable[[], NDArray[np.float32]]) -> NDArray[np.int16]:
    return np.clip(np.rint(read() * np.float32(2**15)), -(2**15), 2**15 - 1).astype(np.int16)


def _weights(events: tuple[EventSource, ...], balanced: bool) -> NDArray[np.float64]:
    """Probability of each event: equal, or falling with the square root of its source's number of files."""
    groups = [e.group for e in events]
    weights = np.array([groups.count(g) ** -0.5 if balanced else 1.0 for g in groups])
    return weights / weights.sum()
