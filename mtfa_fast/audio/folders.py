"""Recordings in folders: which names are audio, which files are passed over, linked folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath

from ..files import is_hidden

# For choosing inside a folder; a file that is named is opened whatever it is called. The second line is PyAV's.
_SUFFIXES = """
    .wav .wave .bwf .flac .ogg .oga .opus .mp3 .mp2 .aif .aiff .aifc .au .snd .caf .w64 .rf64 .sph .voc
    .m4a .aac .mp4 .mov .wma .webm .amr .ape .wv .mka .mkv
"""
SUFFIXES = frozenset(_SUFFIXES.split())


def no_recording(name: str) -> str:
    """Why a search passes over a file of that name; empty for a recording's."""
    suffix = os.path.splitext(name)[1].lower()
    if is_hidden(PurePath(name)):
        return "hidden"
    return "" if suffix in SUFFIXES else f"not audio ({suffix or 'no suffix'})"


def walk(
    folder: str | os.PathLike[str],
    *,
    recursive: bool = True,
    unreadable: Callable[[OSError], None] | None = None,
    passed_over: Callable[[str], None] | None = None,
) -> Iterator[str]:
    """Every file of a folder, and of those below it, in order of name; hidden folders are passed over.

    Linked folders are followed, each real folder is entered once. ``unreadable`` is called for a folder that cannot be
    listed, ``passed_over`` with a reason for each that is not entered.
    """
    entered = {os.path.realpath(folder)}
    for parent, folders, files in os.walk(folder, onerror=unreadable, followlinks=True):
        kept = list[str]()
        for name in sorted(folders):
            real = os.path.realpath(os.path.join(parent, name))
            if is_hidden(PurePath(name)):
                continue
            if not recursive:
                reason = "folder(s) (--recursive searches them)"
            elif real in entered:
                reason = "folder(s) linked twice"
            else:
                entered.add(real)
                kept.append(name)
                continue
            if passed_over:
                passed_over(reason)
        folders[:] = kept
        yield from (os.path.join(parent, name) for name in sorted(files))


def sound_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Every file below ``folder`` whose suffix is among SUFFIXES, in order of path, without hidden ones."""
    paths = (Path(path) for path in walk(folder))
    return sorted(p for p in paths if p.suffix.lower() in SUFFIXES and not is_hidden(PurePath(p.name)) and p.is_file())
