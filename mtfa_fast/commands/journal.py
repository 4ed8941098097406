"""Which recordings of a run are finished: one line of JSON each, appended; the first line says what the run is.

A line is a write of some hundred bytes and no fsync, so that a journal of 100,000 recordings costs nothing beside
their decoding. What a killed process left of a last line is cut off; that recording is done again.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from .common import UsageError

_FORMAT = "mtfa-fast journal 1"


class Journal:
    """An open journal; no other process has it open. UsageError while one has."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise UsageError(f"--output: another process is writing there ({path} is in use)") from None
        self._end = 0  # of the last whole line

    def begin(self, settings: dict[str, Any]) -> None:
        """Start anew."""
        os.ftruncate(self._file, 0)
        self._end = 0
        self.add({"format": _FORMAT, "settings": settings})

    @classmethod
    def resumed(cls, path: Path, settings: dict[str, Any]) -> tuple[Journal, dict[str, dict[str, Any]]]:
        """An interrupted run's journal, and what it says of each file. UsageError as :meth:`_read`."""
        journal = cls(path)
        try:
            return journal, journal._read(settings)
        except BaseException:
            journal.close(remove=False)
            raise

    def _read(self, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """What is noted of each file, the last note of each. UsageError for the journal of another run."""
        lines = []
        with open(self.path, "rb") as file:
            for line in file:
                try:
                    note = json.loads(line) if line.endswith(b"\n") else None
                except ValueError:
                    note = None
                if not isinstance(note, dict):
                    break
                self._end += len(line)
                lines.append(note)
        if not lines or lines[0].get("format") != _FORMAT:
            raise UsageError(f"--resume: {self.path} is no journal of this version; allowed: --overwrite to begin anew")
        before, now = lines[0]["settings"], json.loads(json.dumps(settings))
        changed = [name for name in now.keys() | before.keys() if now.get(name) != before.get(name)]
        if changed:
            raise UsageError(
                f"--resume: the interrupted run had other {', '.join(sorted(changed))} ({self.path}); "
                "allowed: the same command, or --overwrite to begin anew"
            )
        return {str(note["file"]): note for note in lines[1:] if "file" in note}

    def add(self, note: dict[str, Any]) -> None:
        """Append a line, whole or not at all."""
        line = json.dumps(note).encode() + b"\n"
        try:
            write_at(self._file, line, self._end)
        except BaseException:
            os.ftruncate(self._file, self._end)
            raise
        self._end += len(line)

    def close(self, *, remove: bool) -> None:
        if remove:
            self.path.unlink(missing_ok=True)
        os.close(self._file)


def write_at(descriptor: int, data: bytes, position: int) -> None:
    """All of ``data``, with which the file then ends. OSError where it does not fit."""
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, position)
        position, view = position + written, view[written:]
    os.ftruncate(descriptor, position)


def state_of(path: str) -> list[int]:
    """Tells a recording from a later one of the same name: size and time of change. Empty where there is none."""
    try:
        facts = os.stat(path)
    except OSError:
        return []
    return [facts.st_size, facts.st_mtime_ns]
