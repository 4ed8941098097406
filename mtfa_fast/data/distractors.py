"""Recordings that hold none of the classes (voices, animals, music, drums): hard negatives for training chunks."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..audio import files as audio
from .sources import Origin, read_origins


@dataclass(frozen=True)
class Distractors:
    """Files by kind. Kinds are drawn equally often, however many files each has."""

    kinds: tuple[tuple[Path, ...], ...]
    sample_rate: int = 44_100
    origins: dict[Path, Origin] = field(default_factory=dict, repr=False)  # of the files that a metadata.csv names

    @classmethod
    def load(cls, folder: str | os.PathLike[str], sample_rate: int = 44_100) -> Distractors:
        """Every sound file below ``folder``; each of its subfolders is a kind, files beside them are one more.

        A metadata.csv in ``folder`` or beside it tells where they come from (see :mod:`.sources`).

        ValueError where there is none. No audio is read.
        """
        root = Path(folder)
        kinds: dict[str, list[Path]] = {}
        for path in audio.sound_files(root):
            below = path.relative_to(root)
            kinds.setdefault(below.parts[0] if len(below.parts) > 1 else "", []).append(path)
        if not kinds:
            raise ValueError(f"distractors: {folder}: no sound files, allowed: a folder that holds some")
        origins = {
            base / name: origin
            for base in (root.parent, root)
            for name, origin in read_origins(base / "metadata.csv").items()
        }
        return cls(tuple(tuple(paths) for paths in kinds.values()), sample_rate, origins)

    def only(self, chosen: Callable[[Path], bool]) -> Distractors | None:
        """Those files; kinds without any are gone, and None without any at all."""
        kinds = tuple(kept for kind in self.kinds if (kept := tuple(filter(chosen, kind))))
        return dataclasses.replace(self, kinds=kinds) if kinds else None

    def draw(self, rng: np.random.Generator, longest: int) -> NDArray[np.float32]:
        """A random recording, or a random part of it of ``longest`` samples: mono float32 (n,), 1 <= n <= longest.

        Of a file, that part alone is decoded where its format can be searched. Raises as :func:`.audio.blocks`.
        """
        kind = self.kinds[rng.integers(len(self.kinds))]
        path = kind[rng.integers(len(kind))]
        rate = audio.stated_rate(path)
        most = -(-longest * rate // self.sample_rate)
        stated = round(audio.stated_duration(path) * rate)  # in some formats an estimate, or 0
        start = int(rng.integers(0, max(0, stated - most) + 1))
        part = audio.read_part(path, rate, start, start + most)
        if not len(part):
            part = audio.read_part(path, rate, 0, most)
        return audio.to_mono_resampled(part, rate, self.sample_rate)[:longest]
