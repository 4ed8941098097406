"""Which recordings a command line means: files, folders and patterns, and what was left out and why."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .common import Patience, count


@dataclass(frozen=True)
class Recording:
    """``path`` as it is opened and reported; ``name`` relative to the folder it was found in."""

    path: str
    name: str


@dataclass
class Found:
    """What the arguments led to, and what they did not lead to."""

    recordings: list[Recording] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)  # reason -> how many
    problems: list[str] = field(default_factory=list)  # arguments that led to nothing

    def describe(self) -> str:
        """``"12 recordings; skipped 3: 2 not audio (.txt), 1 folder (...)"``."""
        return described(len(self.recordings), self.skipped)


def described(recordings: int, skipped: Counter[str]) -> str:
    """As :meth:`Found.describe`."""
    text = count(recordings, "recording")
    if skipped:
        reasons = ", ".join(f"{number} {reason}" for reason, number in sorted(skipped.items()))
        text += f"; skipped {skipped.total()}: {reasons}"
    return text


def discover(arguments: Iterable[str], *, recursive: bool = False) -> Found:
    """Recordings of files, folders (``recursive``: and the folders below) and glob patterns, in order, each once."""
    from ..files import RealPaths

    found, seen, real = Found(), set[str](), RealPaths()
    told = Patience("looking for recordings")
    for argument in arguments:
        candidates = _candidates(argument, recursive, found)
        added = repeated = 0
        for recording in candidates:
            told(len(found.recordings))
            identity = real(recording.path)
            if identity in seen:
                repeated += 1
                continue
            seen.add(identity)
            found.recordings.append(recording)
            added += 1
        if repeated:
            found.skipped["named twice"] += repeated
        elif not added:
            found.problems.append(_problem(argument))
    return found


def _candidates(argument: str, recursive: bool, found: Found) -> Iterator[Recording]:
    if os.path.isdir(argument):
        below = len(os.path.join(argument, ""))  # every path begins with it
        for path in _walk(argument, recursive, found):
            if _is_audio(path, found):
                yield Recording(path, path[below:])
    elif argument == "-" or os.path.lexists(argument):
        yield Recording(argument, os.path.basename(argument))
    elif glob.has_magic(argument):
        # "*.dat" says what is wanted, "*" does not.
        any_suffix = bool(Path(argument).suffix) and not glob.has_magic(Path(argument).suffix)
        for path in sorted(glob.glob(argument, recursive=True)):
            if os.path.isdir(path):
                found.skipped["folder(s) matched by a pattern"] += 1
            elif any_suffix or _is_audio(path, found):
                yield Recording(path, os.path.basename(path))


def _walk(folder: str, recursive: bool, found: Found) -> Iterator[str]:
    """Files of a folder in order of name; an unreadable folder is a problem, not the end."""

    from ..audio.folders import walk

    def unreadable(error: OSError) -> None:
        found.problems.append(f"{error.filename}: {error.strerror}")

    def passed_over(reason: str) -> None:
        found.skipped[reason] += 1

    yield from walk(folder, recursive=recursive, unreadable=unreadable, passed_over=passed_over)


def _is_audio(path: str, found: Found) -> bool:
    from ..audio.folders import no_recording

    reason = no_recording(os.path.basename(path))
    if not reason and os.path.exists(path) and not os.path.isfile(path):
        reason = "pipes and devices"
    if reason:
        found.skipped[reason] += 1
    return not reason


def _problem(argument: str) -> str:
    if os.path.isdir(argument):
        return f"{argument}: no audio files in this folder"
    return (
        f"{argument}: no such file or folder" if not glob.has_magic(argument) else f"{argument}: matches no audio file"
    )
