"""Frame probabilities of a set of annotated recordings, kept so that decisions can be tried without the network."""

from __future__ import annotations

import json
import math
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..config import Config
from ..events.result import Result
from ..files import write_beside
from .annotations import Annotation

_FORMAT = "mtfa-fast probabilities 1"


@dataclass(frozen=True, eq=False)
class Recording:
    """One recording's frame probabilities float32 (T, K) with what is known of it.

    ``label``: the class whose mixture it is; detections of other classes in it do not count. None: all count.
    ``ebr``: event-to-background ratio in dB, None where it has none. ``place``: of a bare background, which is no
    mixture: it has no events, and counts in false alarms an hour alone. Empty: a mixture.
    """

    name: str
    probabilities: NDArray[np.float32] = field(repr=False)
    duration: float  # seconds
    events: tuple[Annotation, ...] = ()
    label: str | None = None
    ebr: float | None = None
    place: str = ""


@dataclass(frozen=True, eq=False)
class ProbabilitySet:
    """Recordings through one network. ``config`` names the columns and says how they were decided.

    ValueError naming the recording whose probabilities are not finite numbers from 0 to 1, one a class, or whose
    label or events are of no class of the config.
    """

    config: Config
    recordings: tuple[Recording, ...]

    def __post_init__(self) -> None:
        names = self.config.class_names
        seen: set[str] = set()
        for recording in self.recordings:
            given = recording.probabilities
            if given.ndim != 2 or given.shape[1] != len(names) or given.dtype != np.float32:
                what = f"{given.dtype} {given.shape}"
                raise ValueError(f"{recording.name}: got {what}, allowed: float32 (frames, {len(names)})")
            if not ((given >= 0) & (given <= 1)).all():
                raise ValueError(f"{recording.name}: probabilities: allowed: 0 <= probability <= 1, no NaN")
            for label in (*(e.label for e in recording.events), recording.label):
                if label is not None and label not in names:
                    raise ValueError(f"{recording.name}: label: got {label!r}, allowed: {', '.join(names)}")
            if recording.place and (recording.events or recording.label):
                raise ValueError(f"{recording.name}: place: got one with events or a class, allowed: neither")
            if recording.name in seen:
                raise ValueError(f"recordings: two are called {recording.name!r}, allowed: different names")
            seen.add(recording.name)

    def of_class(self, label: str) -> tuple[Recording, ...]:
        """Recordings in which detections of ``label`` count."""
        return tuple(r for r in self.mixtures if r.label in (None, label))

    @property
    def mixtures(self) -> tuple[Recording, ...]:
        return tuple(r for r in self.recordings if not r.place)

    @property
    def backgrounds(self) -> tuple[Recording, ...]:
        return tuple(r for r in self.recordings if r.place)

    def results(self, config: Config | None = None) -> Iterator[Result]:
        """Every recording decided by ``config``'s thresholds and filters (default: the set's own)."""
        for r in self.recordings:
            yield Result(r.probabilities, config or self.config, r.name, r.duration)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one .npz file, complete or not at all."""
        events = [(i, e) for i, r in enumerate(self.recordings) for e in r.events]
        columns: dict[str, Any] = {
            "format": _FORMAT,
            "config": json.dumps(self.config.to_dict()),
            "names": _texts([r.name for r in self.recordings]),
            "labels": _texts([r.label or "" for r in self.recordings]),
            "places": _texts([r.place for r in self.recordings]),
            "durations": np.array([r.duration for r in self.recordings], dtype=np.float64),
            "ebrs": np.array([math.nan if r.ebr is None else r.ebr for r in self.recordings], dtype=np.float64),
            "frames": np.array([len(r.probabilities) for r in self.recordings], dtype=np.int64),
            "probabilities": np.concatenate(
                [np.empty((0, len(self.config.classes)), np.float32), *(r.probabilities for r in self.recordings)]
            ),
            "event_recordings": np.array([i for i, _ in events], dtype=np.int64),
            "event_labels": _texts([e.label for _, e in events]),
            "event_times": np.array([(e.onset, e.offset) for _, e in events], dtype=np.float64).reshape(-1, 2),
        }
        with write_beside(path, "wb") as file:
            np.savez(file, **columns)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> ProbabilitySet:
        """Inverse of :meth:`save`. ValueError naming a file that is no such set; FileNotFoundError for none."""
        path = Path(path)
        try:
            with np.load(path, allow_pickle=False) as file:
                if not isinstance(file, np.lib.npyio.NpzFile) or str(file["format"]) != _FORMAT:
                    raise ValueError("its format is another")
                data = {name: file[name] for name in file.files}
            frames = data["frames"]
            if frames.sum() != len(data["probabilities"]):
                raise ValueError("its frames are not complete")
            parts = np.split(data["probabilities"], np.cumsum(frames)[:-1]) if len(frames) else []
            events: list[list[Annotation]] = [[] for _ in parts]
            for i, label, (onset, offset) in zip(
                data["event_recordings"].tolist(),
                data["event_labels"].tolist(),
                data["event_times"].tolist(),
                strict=True,
            ):
                events[i].append(Annotation(label, onset, offset))
            recordings = tuple(
                Recording(name, part, duration, tuple(spans), label or None, None if math.isnan(ebr) else ebr, place)
                for name, part, duration, spans, label, ebr, place in zip(
                    data["names"].tolist(),
                    parts,
                    data["durations"].tolist(),
                    events,
                    data["labels"].tolist(),
                    data["ebrs"].tolist(),
                    data["places"].tolist() if "places" in data else [""] * len(parts),  # not in older files
                    strict=True,
                )
            )
            return cls(Config.from_dict(json.loads(str(data["config"]))), recordings)
        except (ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path}: not a file of frame probabilities ({error})") from None


def _texts(values: Sequence[str]) -> NDArray[np.str_]:
    return np.array(values, dtype=np.str_)
