"""Isolated events and backgrounds of one split, read from a folder in the shape of DCASE 2017 Task 2.

Two shapes are accepted: the official ``source_data`` (``events/<class>/``, ``bgs/``, ``cv_setup/``, also
found below the data set's root) and the same with ``backgrounds/`` in place of ``bgs/``. A folder without ``cv_setup/``
is one's own: all that lies there, for training (see :mod:`.own_recordings`). Where a
``metadata.csv`` with columns ``file`` and ``group`` or ``source_id`` lies beside them, it tells which files
come from the same source, so that :meth:`SourceSet.cut` and :mod:`.folds` keep them together.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..audio import files as audio
from ..files import is_hidden
from .mixing import CLASSES

SPLITS = {"train": "devtrain", "test": "devtest"}
_BELOW_ROOT = ("", "source_data", "data/source_data", "TUT-rare-sound-events-2017-development/data/source_data")


@dataclass(frozen=True)
class EventSource:
    """One event instance: the part [start, end) seconds of a file."""

    label: str
    path: Path
    start: float
    end: float
    group: str  # the place, the person or the device it comes from
    recording: str = ""  # that it was cut from; empty: not known

    @property
    def name(self) -> str:
        """``<class>/<file>``, as recipes name it."""
        return f"{self.label}/{self.path.name}"

    @property
    def seconds(self) -> float:
        return self.end - self.start


@dataclass(frozen=True)
class BackgroundSource:
    """One background recording. ``marks``: classes that it naturally holds, from bg_screening.csv."""

    path: Path
    name: str  # as the source list names it
    scene: str
    group: str
    marks: frozenset[str] = frozenset()
    recording: str = ""


@dataclass(frozen=True)
class SourceSet:
    """Events by class and backgrounds of one split."""

    events: dict[str, tuple[EventSource, ...]]
    backgrounds: tuple[BackgroundSource, ...]
    folder: Path
    split: str

    @classmethod
    def load(cls, folder: str | os.PathLike[str], split: str, classes: tuple[str, ...] = CLASSES) -> SourceSet:
        """Read the source lists of ``split`` ("train" or "test"; official names are accepted too).

        ValueError naming the folder, list, class or file that is missing or malformed; no audio is read.
        """
        root = find_sources(folder)
        subset = SPLITS.get(split, split)
        if subset not in SPLITS.values():
            raise ValueError(f"split: got {split!r}, allowed: {', '.join((*SPLITS, *SPLITS.values()))}")
        origins = read_origins(root / "metadata.csv")
        event_list, background_list = _lists(root, subset)
        listed = _own_events(root, classes) if event_list is None else _listed(event_list)
        events = {label: _events(listed, label, root, origins, event_list or root / "events") for label in classes}
        backgrounds = _backgrounds(root, background_list, origins)
        return cls(events, backgrounds, root, subset)

    @classmethod
    def join(
        cls, folders: Sequence[str | os.PathLike[str]], split: str, classes: tuple[str, ...] = CLASSES
    ) -> SourceSet:
        """Several folders as one, in their order. A class may be missing from some of them.

        ValueError as of :meth:`load`, and for a folder that is given twice.
        """
        if len(folders) == 1:
            return cls.load(folders[0], split, classes)
        parts: list[SourceSet] = []
        for folder in folders:
            root = find_sources(folder)
            if any(root.samefile(part.folder) for part in parts):
                raise ValueError(f"sources: got {folder} twice, allowed: different folders")
            names = classes_of(root, split)
            parts.append(cls.load(root, split, tuple(label for label in classes if label in names)))
        events = {label: tuple(e for part in parts for e in part.events.get(label, ())) for label in classes}
        missing = [label for label, found in events.items() if not found]
        if missing:
            raise ValueError(f"sources: none of {', '.join(map(str, folders))} lists events of class {missing[0]!r}")
        return cls(events, tuple(b for part in parts for b in part.backgrounds), parts[0].folder, parts[0].split)

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(self.events)

    def cut(self, fraction: float, seed: int) -> tuple[SourceSet, SourceSet]:
        """(rest, held out): about ``fraction`` of each class's files and of the backgrounds, whole groups only."""
        if not 0.0 < fraction < 1.0:
            raise ValueError(f"fraction: got {fraction}, allowed: 0 < fraction < 1")
        rng = np.random.default_rng(seed)
        kept, held = {}, {}
        for label, sources in self.events.items():
            chosen = _choose_groups([s.group for s in sources], fraction, rng, f"events of {label}")
            kept[label] = tuple(s for s in sources if s.group not in chosen)
            held[label] = tuple(s for s in sources if s.group in chosen)
        chosen = _choose_groups([b.group for b in self.backgrounds], fraction, rng, "backgrounds")
        rest = tuple(b for b in self.backgrounds if b.group not in chosen)
        out = tuple(b for b in self.backgrounds if b.group in chosen)
        return SourceSet(kept, rest, self.folder, self.split), SourceSet(held, out, self.folder, self.split)


def find_sources(folder: str | os.PathLike[str]) -> Path:
    """The folder holding ``events/`` and ``cv_setup/`` or backgrounds: ``folder`` or the official place below it."""
    for below in _BELOW_ROOT:
        root = Path(folder) / below
        if (root / "events").is_dir() and any((root / name).is_dir() for name in ("cv_setup", "backgrounds", "bgs")):
            return root
    raise ValueError(
        f"{folder}: no source folder, allowed: a folder holding events/ and cv_setup/ or backgrounds/, or a data set's "
        "root"
    )


def classes_of(folder: str | os.PathLike[str], split: str) -> tuple[str, ...]:
    """The classes that a source folder lists for a split, none where it lists no event. ValueError for a bad list."""
    root = find_sources(folder)
    listed = _lists(root, SPLITS.get(split, split))[0]
    if listed is None:
        return tuple(sorted(p.name for p in (root / "events").iterdir() if p.is_dir() and not is_hidden(Path(p.name))))
    return tuple(map(str, _listed(listed))) if listed.is_file() else ()


def _lists(root: Path, subset: str) -> tuple[Path | None, Path | None]:
    """Files that list events and backgrounds; None: all are taken, for training."""
    lists = root / "cv_setup"
    if lists.is_dir():
        return lists / f"events_{subset}.yaml", lists / f"bgs_{subset}.yaml"
    if subset != SPLITS["train"]:
        raise ValueError(f"split: got {subset!r}, allowed: train, in {root}, which has no cv_setup/")
    return None, None


def _own_events(root: Path, classes: Sequence[str]) -> dict[str, Any]:
    from .own_recordings import sounding

    return {
        label: [
            {"audio_filename": str(path.relative_to(root / "events" / label)), "segment": sounding(path)}
            for path in audio.sound_files(root / "events" / label)
        ]
        for label in classes
    }


@dataclass
class SourceAudio:
    """Reads sources as mono float32 at one rate; keeps what was read while it fits ``cache_bytes``."""

    sample_rate: int = 44_100
    cache_bytes: int = 2 << 30
    _kept: dict[Path, NDArray[np.float32]] = field(default_factory=dict, repr=False)

    def event(self, source: EventSource) -> NDArray[np.float32]:
        """The event's segment, (n,): file[int(start * rate) : int(end * rate)]."""
        wave = self.whole(source.path)
        event = wave[int(source.start * self.sample_rate) : int(source.end * self.sample_rate)]
        if event.size == 0:
            raise ValueError(
                f"{source.path}: segment {source.start} to {source.end} s holds no samples of the file's "
                f"{len(wave) / self.sample_rate:.3f} s"
            )
        return event

    def background(self, source: BackgroundSource) -> NDArray[np.float32]:
        """The whole recording, (n,)."""
        return self.whole(source.path)

    def whole(self, path: Path) -> NDArray[np.float32]:
        """The whole file, (n,)."""
        kept = self._kept.get(path)
        if kept is not None:
            return kept
        wave = audio.read(path, self.sample_rate)
        if wave.nbytes + sum(w.nbytes for w in tuple(self._kept.values())) <= self.cache_bytes:
            self._kept[path] = wave
        return wave


def _read_yaml(path: Path) -> Any:
    import yaml

    try:
        return yaml.load(path.read_text("utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read as a source list ({error})") from None


def _listed(path: Path) -> dict[str, Any]:
    """An event list: class -> its entries."""
    listed = _read_yaml(path)
    if not isinstance(listed, dict):
        raise ValueError(f"{path}: got {type(listed).__name__}, allowed: a mapping of class to events")
    return listed


def _events(
    listed: dict[str, Any], label: str, root: Path, origins: dict[str, Origin], where: Path
) -> tuple[EventSource, ...]:
    entries = listed.get(label)
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{where}: no events of class {label!r}, listed are {', '.join(map(str, listed)) or 'none'}")
    sources = []
    for number, entry in enumerate(entries):
        try:
            path = root / "events" / label / str(entry["audio_filename"])
            start, end = (float(x) for x in entry["segment"])
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"{where}: {label}[{number}]: got {entry!r}, allowed: audio_filename and segment"
            ) from None
        if not 0.0 <= start < end:
            raise ValueError(f"{where}: {label}[{number}]: segment: got [{start}, {end}], allowed: 0 <= start < end")
        _require_file(path, where)
        name = path.relative_to(root).as_posix()
        origin = origins.get(name, Origin(name))
        sources.append(EventSource(label, path, start, end, *origin))
    return tuple(sources)


def _backgrounds(root: Path, where: Path | None, origins: dict[str, Origin]) -> tuple[BackgroundSource, ...]:
    folder = root / "bgs" if (root / "bgs").is_dir() else root / "backgrounds"
    if where is None:
        where = folder
        paths = [path.relative_to(folder) for path in audio.sound_files(folder)]
        entries: Any = [{"filepath": str(path), "classname": path.parent.name} for path in paths]
    else:
        entries = _read_yaml(where)
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{where}: no backgrounds")
    marks = read_screening(folder / "bg_screening.csv") or read_screening(root / "bg_screening.csv")
    sources = []
    for number, entry in enumerate(entries):
        try:
            listed, scene = str(entry["filepath"]), str(entry["classname"])
        except (KeyError, TypeError):
            raise ValueError(f"{where}: entry {number}: got {entry!r}, allowed: filepath and classname") from None
        bare = listed.removeprefix("audio/")  # the official lists carry it, the folder may not
        path = folder / listed if (folder / listed).is_file() else folder / bare
        _require_file(path, where)
        name = path.relative_to(root).as_posix()
        origin = origins.get(name, Origin(name))
        sources.append(
            BackgroundSource(path, listed, scene, origin.group, marks.get(bare, frozenset()), origin.recording)
        )
    return tuple(sources)


def _require_file(path: Path, where: Path) -> None:
    if not path.is_file():
        raise ValueError(f"{where}: lists {path}, which does not exist")


def read_screening(path: Path) -> dict[str, frozenset[str]]:
    """bg_screening.csv: file name without "audio/" -> classes marked in its row; empty where there is no such file."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {
        row["filename"].removeprefix("audio/"): frozenset(
            key for key, cell in row.items() if key and key != "filename" and isinstance(cell, str) and cell.strip()
        )
        for row in rows
        if row.get("filename")
    }


class Origin(NamedTuple):
    """Where a file comes from; ``recording`` is empty where only the group is known, or nothing."""

    group: str
    recording: str = ""


def read_origins(path: Path) -> dict[str, Origin]:
    """metadata.csv: file path below its folder -> the source that it shares with others, and its recording."""
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row.get("file")]
    known = ((row["file"], row.get("group") or "", row.get("source_id") or "") for row in rows)
    return {file: Origin(group or recording or file, recording or group) for file, group, recording in known}


def _choose_groups(groups: list[str], fraction: float, rng: np.random.Generator, what: str) -> set[str]:
    """Random whole groups holding about ``fraction`` of the files: at least one, never all."""
    names = sorted(set(groups))
    if len(names) < 2:
        raise ValueError(f"{what}: got {len(names)} source, allowed: at least 2 to hold one out")
    target = max(1.0, fraction * len(groups))
    chosen: set[str] = set()
    count = 0
    for name in (names[i] for i in rng.permutation(len(names))):
        size = groups.count(name)
        if len(chosen) < len(names) - 1 and count + size <= 1.25 * target:
            chosen.add(name)
            count += size
        if count >= target:
            break
    return chosen or {min(names, key=lambda n: (groups.count(n), n))}
