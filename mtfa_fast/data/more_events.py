"""Events beside those of the source lists: a folder of trimmed recordings, one subfolder a class."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from ..audio import files as audio
from .sources import EventSource, SourceSet


def add_events(sources: SourceSet, folder: str | os.PathLike[str]) -> SourceSet:
    """``sources`` with every sound file of ``folder/<class>/`` as one more event, from its first sample to its last.

    Files of one subfolder of a class are one source, such as the variants of a shot; any other file is its own.
    ValueError where ``folder`` holds nothing for any class; raises as :func:`.audio.blocks` for a file that cannot
    be opened. No audio is decoded.
    """
    root = Path(folder)
    found = {label: _events(label, root) for label in sources.classes}
    if not any(found.values()):
        allowed = ", ".join(sources.classes)
        raise ValueError(f"more_events: {folder}: no sound files, allowed: a folder with some below one of {allowed}")
    return dataclasses.replace(sources, events={label: own + found[label] for label, own in sources.events.items()})


def _events(label: str, root: Path) -> tuple[EventSource, ...]:
    folder = root / label
    return tuple(
        EventSource(label, path, 0.0, audio.duration(path), f"{folder}/{path.relative_to(folder).parts[0]}")
        for path in audio.sound_files(folder)
    )
