"""One file with everything that a run mixes: events, backgrounds and distractors, in Opus, with their origins.

A safetensors file: its tensor ``sounds`` holds the encoded sounds one after the other, its metadata the lists. Opus
keeps the level of each band where it spends few bits, which is what a log-mel sees.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..audio import files as audio
from ..files import write_beside
from .distractors import Distractors
from .sources import BackgroundSource, EventSource, Origin, SourceAudio, SourceSet

_FORMAT = "mtfa-fast pack 1"
_RATES = (8_000, 12_000, 16_000, 24_000, 48_000)  # that Opus knows
EVENT_COMPRESSION = 0.8  # of libsndfile, 0 to 1: about 63 kbit/s of a mono sound


@dataclass(frozen=True)
class Pack:
    """A packed file. ``entries``: what :func:`write_pack` wrote of each sound, with its place in the file."""

    path: Path
    split: str
    entries: tuple[dict[str, Any], ...]
    data: NDArray[np.uint8] = field(repr=False, compare=False)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Pack:
        """ValueError naming a file that is no such pack, or not a complete one; FileNotFoundError for none."""
        from safetensors import SafetensorError, safe_open

        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file")
        try:
            with safe_open(path, framework="numpy") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != _FORMAT:
                    raise ValueError("its format is another")
                return cls(path, metadata["split"], tuple(json.loads(metadata["entries"])), file.get_tensor("sounds"))
        except (SafetensorError, ValueError, KeyError) as error:
            raise ValueError(f"{path}: not a complete file of packed sources ({error})") from None

    def sources(self, classes: tuple[str, ...]) -> SourceSet:
        """Events of ``classes`` and backgrounds. ValueError for a class that the pack lacks."""
        events = {
            label: tuple(
                EventSource(label, self._path(e), 0.0, e["seconds"], e["group"], e["recording"])
                for e in self.entries
                if e["part"] == "event" and e["kind"] == label
            )
            for label in classes
        }
        if missing := [label for label, found in events.items() if not found]:
            there = sorted({e["kind"] for e in self.entries if e["part"] == "event"})
            raise ValueError(f"{self.path}: no events of class {missing[0]!r}, there are {', '.join(there)}")
        backgrounds = tuple(
            BackgroundSource(self._path(e), e["name"], e["kind"], e["group"], frozenset(e["marks"]), e["recording"])
            for e in self.entries
            if e["part"] == "background"
        )
        return SourceSet(events, backgrounds, self.path, self.split)

    def distractors(self, sample_rate: int = 44_100) -> Distractors | None:
        """None where it holds none."""
        kinds: dict[str, list[Path]] = {}
        origins = {}
        for e in self.entries:
            if e["part"] == "distractor":
                kinds.setdefault(e["kind"], []).append(self._path(e))
                origins[self._path(e)] = Origin(e["group"], e["recording"])
        return Distractors(tuple(map(tuple, kinds.values())), sample_rate, origins) if kinds else None

    def audio(self, sample_rate: int) -> SourceAudio:
        """Reads what the lists name."""
        return _PackedAudio(sample_rate, cache_bytes=0, places={self._path(e): e for e in self.entries}, data=self.data)

    def _path(self, entry: dict[str, Any]) -> Path:
        """As if the pack were a folder."""
        return self.path / entry["part"] / entry["file"]


@dataclass
class _PackedAudio(SourceAudio):
    places: dict[Path, dict[str, Any]] = field(default_factory=dict, repr=False)
    data: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8), repr=False)

    def whole(self, path: Path) -> NDArray[np.float32]:
        import soundfile

        entry = self.places[path]
        begin, end = entry["bytes"]
        try:
            wave, rate = soundfile.read(io.BytesIO(self.data[begin:end].tobytes()), dtype="float32")
        except (RuntimeError, OSError) as error:
            raise ValueError(f"{path}: cannot be decoded ({error})") from None
        wave = audio.to_mono_resampled(wave, rate, self.sample_rate)
        return wave[: round(entry["seconds"] * self.sample_rate)]


def write_pack(
    path: str | os.PathLike[str],
    sources: SourceSet,
    others: Distractors | None = None,
    *,
    compression: float = 0.87,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Write one file of a source set and distractors; its size in bytes. Of events, their segments alone.

    ``compression``: of backgrounds and distractors, 0 to 1 as libsndfile has it; 0.87 is about 36 kbit/s. Raises as
    :func:`.audio.files.blocks` for files that cannot be read, OSError where the disk fails.
    """
    if not 0.0 <= compression <= 1.0:
        raise ValueError(f"compression: got {compression}, allowed: 0 to 1")
    reader = SourceAudio(_RATES[-1], cache_bytes=0)
    jobs: list[tuple[dict[str, Any], Callable[[int], NDArray[np.float32]], int, float]] = []
    known: dict[str, Any]
    for own in sources.events.values():
        for e in own:
            known = {"part": "event", "kind": e.label, "group": e.group, "recording": e.recording}
            jobs.append((known, lambda _, e=e: reader.event(e), _RATES[-1], EVENT_COMPRESSION))  # type: ignore[misc]
    for b in sources.backgrounds:
        known = {"part": "background", "kind": b.scene, "group": b.group, "recording": b.recording}
        more = {"name": b.name, "marks": sorted(b.marks)}
        jobs.append((known | more, _whole(b.path), _rate_for(b.path), compression))
    for number, paths in enumerate(others.kinds if others else ()):
        assert others
        for p in paths:
            origin = others.origins.get(p, Origin(str(p)))
            known = {
                "part": "distractor",
                "kind": f"{number} {p.parent.name}",
                "group": origin.group,
                "recording": origin.recording,
            }
            jobs.append((known, _whole(p), _rate_for(p), compression))
    entries, blobs, done = [], [], 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        encoded = pool.map(lambda job: _encoded(job[1](job[2]), job[2], job[3]), jobs)
        for number, (job, (blob, seconds)) in enumerate(zip(jobs, encoded, strict=True)):
            place = {"file": f"{job[0]['kind']}/{number}", "bytes": [done, done + len(blob)]}
            entries.append(job[0] | place | {"seconds": seconds})
            blobs.append(blob)
            done += len(blob)
            if progress:
                progress(number + 1, len(jobs))
    from safetensors.numpy import save

    metadata = {"format": _FORMAT, "split": sources.split, "entries": json.dumps(entries)}
    content = save({"sounds": np.frombuffer(b"".join(blobs), np.uint8)}, metadata)
    with write_beside(path, "wb") as file:
        file.write(content)
    return len(content)


def _whole(path: Path) -> Callable[[int], NDArray[np.float32]]:
    return lambda rate: audio.read(path, rate)


def _rate_for(path: Path) -> int:
    """The lowest that keeps what the file's own rate does, the highest otherwise."""
    own = audio.stated_rate(path)
    return next((rate for rate in _RATES if rate >= own), _RATES[-1])


def _encoded(wave: NDArray[np.float32], rate: int, compression: float) -> tuple[bytes, float]:
    """(Opus in Ogg, seconds)."""
    import soundfile

    data = io.BytesIO()
    # Opus overshoots, and a decoder may clip.
    soundfile.write(data, wave, rate, format="OGG", subtype="OPUS", compression_level=compression)
    return data.getvalue(), len(wave) / rate
