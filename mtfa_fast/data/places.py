"""Folders of recordings without events: which place each is from."""

from __future__ import annotations

import os
from pathlib import Path

from ..audio import files as audio
from .sources import read_origins


def recordings_by_place(folder: str | os.PathLike[str]) -> list[tuple[Path, str]]:
    """(file, place) of every sound file below ``folder``.

    The place is the group that a metadata.csv in the folder, or beside it, gives the file (see :mod:`.sources`), else
    the subfolder that it is in, else its own name. FileNotFoundError for no folder, ValueError for one without sounds.
    """
    root = Path(folder)
    if not root.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    origins = {
        base / name: origin.group
        for base in (root.absolute().parent, root.absolute())
        for name, origin in read_origins(base / "metadata.csv").items()
    }
    found = []
    for path in audio.sound_files(root):
        below = path.relative_to(root).parts
        found.append((path, origins.get(path.absolute()) or (below[0] if len(below) > 1 else path.stem)))
    if not found:
        raise ValueError(f"{folder}: no sound files, allowed: a folder that holds some")
    return found
