"""The three kinds of places of :mod:`.sink`, and how each keeps what is finished when a run is interrupted.

One file, ``all.csv``: results are appended to ``all.partial.csv``, which is whole after each recording, and
``all.partial.jsonl`` notes where each lies in it. At the end ``all.csv`` is put together of them, in the order of the
recordings, and both are removed. Parquet cannot be appended to: there the partial file is JSON, ``all.partial.json``.
A folder: each file is written whole, ``run.partial.jsonl`` notes its digest.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from typing import IO, Any, Protocol

from ..events import parquet
from ..events.result import Event, Result
from ..events.writers import Format, Writer, layout, rows
from ..files import beside, encoded, file_digest, remove_temporaries, write_beside
from .journal import Journal, state_of, write_at

MARK = "partial"


class Place(Protocol):
    """``journal``: of an interrupted run, None where there can be none; ``partial``: what a person finds then."""

    @property
    def journal(self) -> Path | None: ...

    @property
    def partial(self) -> Path | None: ...

    def outputs(self) -> Iterable[tuple[str | None, Path]]:
        """(recording, file) that will be written; recording None: of all."""

    def begin(self, settings: dict[str, Any], resume: bool) -> set[str]:
        """Recordings that are finished."""

    def add(self, path: str, result: Result) -> None: ...

    def close(self, *, whole: bool, error: type[BaseException] | None) -> None: ...


class StreamPlace:
    """The terminal, a pipe or a device: what is written is gone."""

    journal = partial = None

    def __init__(self, path: str | None, form: Format, width: int, times: bool) -> None:
        self._path, self._form, self._width, self._times = path, form, width, times
        self._stack = ExitStack()
        self._open: tuple[IO[str], Writer] | None = None

    def outputs(self) -> Iterable[tuple[str | None, Path]]:
        return []

    def begin(self, settings: dict[str, Any], resume: bool) -> set[str]:
        return set()

    def add(self, path: str, result: Result) -> None:
        if self._open is None:  # not earlier: a run without a single result writes nothing
            # sys.stdout as it is now, because a progress bar may stand between.
            file = self._stack.enter_context(write_beside(self._path)) if self._path else sys.stdout
            writer = Writer(file, self._form, name_width=self._width, times=self._times)
            self._open = file, self._stack.enter_context(writer)
        file, writer = self._open
        writer.add(result)
        file.flush()

    def close(self, *, whole: bool, error: type[BaseException] | None) -> None:
        self._stack.__exit__(error, None, None)


class OneFile:
    """One table of all recordings."""

    def __init__(self, target: Path, recordings: list[str], form: Format, width: int, times: bool) -> None:
        self._given, self._recordings, self._width, self._times = target, recordings, width, times
        self._target = Path(os.path.realpath(target))  # a link keeps pointing at what it pointed at
        self._to_parquet = form == "parquet"
        self._form: Format = "json" if self._to_parquet else form  # of the partial file
        self.partial = beside(self._target, MARK, ".json" if self._to_parquet else None)
        self.journal = beside(self._target, MARK, ".jsonl")
        around = layout(self._form, width, times=times)
        self._opening, self._between, self._closing = map(encoded, (around.opening, around.between, around.closing))
        self._settings: dict[str, Any] = {}
        self._parts: dict[str, tuple[int, int]] = {}  # recording -> where it lies in the partial file
        self._end = len(self._opening)  # of the last recording there
        self._notes: Journal | None = None
        self._file = -1

    def outputs(self) -> Iterable[tuple[str | None, Path]]:
        return [(None, self._given), *([] if self.journal.exists() else [(None, self.partial)])]

    def begin(self, settings: dict[str, Any], resume: bool) -> set[str]:
        self._settings = settings | {"width of the table": self._width if self._form == "table" else 0}
        self._settings |= {"times": True} if self._times else {}
        if not resume or not self.journal.exists():
            return set()
        self._notes, noted = Journal.resumed(self.journal, self._settings)
        self._file = os.open(self.partial, os.O_RDWR | os.O_CREAT, 0o666)
        size = os.fstat(self._file).st_size
        if size < len(self._opening):
            write_at(self._file, self._opening, 0)
        for path, note in noted.items():
            start, end = note["part"]
            if end <= size:
                self._end = max(self._end, end)
                if note["state"] == state_of(path):  # the recording is still the same
                    self._parts[path] = start, end
        write_at(self._file, self._closing if self._end > len(self._opening) else b"", self._end)
        return set(self._parts)

    def add(self, path: str, result: Result) -> None:
        if self._notes is None:  # not earlier: a run without a single result writes nothing
            self._create()
        assert self._notes is not None
        lead = self._between if self._end > len(self._opening) else b""
        body = encoded(rows(result, self._form, self._width, times=self._times))
        start = self._end + len(lead)
        try:
            write_at(self._file, lead + body + self._closing, self._end)
            self._notes.add({"file": path, "state": state_of(path), "part": [start, start + len(body)]})
        except BaseException:
            with suppress(OSError):
                write_at(self._file, self._closing if lead else b"", self._end)
            raise
        self._end = start + len(body)
        self._parts[path] = start, self._end

    def close(self, *, whole: bool, error: type[BaseException] | None) -> None:
        if self._notes is None:
            return
        try:
            if whole and self._parts:
                self._finish()
        except BaseException:
            whole = False
            raise
        finally:
            done = whole or not self._parts
            os.close(self._file)
            if done:
                self.partial.unlink(missing_ok=True)
            self._notes.close(remove=done)

    def _create(self) -> None:
        notes = Journal(self.journal)
        try:
            notes.begin(self._settings)
            self._file = os.open(self.partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
            write_at(self._file, self._opening, 0)
        except BaseException:
            notes.close(remove=True)
            self.partial.unlink(missing_ok=True)
            raise
        self._notes = notes

    def _finish(self) -> None:
        if self._to_parquet:
            parquet.write(self._found(), self._target)
            return
        parts = [self._parts[path] for path in self._recordings if path in self._parts]
        ends = [start - len(self._between) for start, _ in parts[1:]]
        if parts[0][0] == len(self._opening) and ends == [end for _, end in parts[:-1]] and parts[-1][1] == self._end:
            os.fsync(self._file)
            os.replace(self.partial, self._target)  # as it is: a full disk has room for that
            return
        with write_beside(self._target, "wb") as out:
            out.write(self._opening)
            for number, (start, end) in enumerate(parts):
                out.write(self._between if number else b"")
                out.write(os.pread(self._file, end - start, start))
            out.write(self._closing)

    def _found(self) -> Iterator[parquet.Found]:
        """What the partial file, which is JSON, holds of each recording."""
        for path in self._recordings:
            if path in self._parts:
                start, end = self._parts[path]
                found = json.loads(os.pread(self._file, end - start, start))
                events = [Event(*(e[name] for name in ("label", "onset", "offset", "score"))) for e in found["events"]]
                began = found.get("start")
                yield found["file"], events, datetime.fromisoformat(began) if began else None


class FolderPlace:
    """A file for each recording."""

    def __init__(self, folder: Path, targets: dict[str, Path], form: Format) -> None:
        self._folder, self._targets, self._form = folder, targets, form
        self.journal = self.partial = folder / f"run.{MARK}.jsonl"
        self._settings: dict[str, Any] = {}
        self._notes: Journal | None = None
        self._written = 0

    def outputs(self) -> Iterable[tuple[str | None, Path]]:
        return list(self._targets.items())

    def begin(self, settings: dict[str, Any], resume: bool) -> set[str]:
        self._settings = settings
        if not resume or not self.journal.exists():
            return set()
        self._notes, noted = Journal.resumed(self.journal, settings)
        for parent in {target.parent for target in self._targets.values()}:
            remove_temporaries(parent)
        finished = {path for path, target in self._targets.items() if path in noted and _is(target, path, noted[path])}
        self._written = len(finished)
        return finished

    def add(self, path: str, result: Result) -> None:
        target = self._targets[path]
        target.parent.mkdir(parents=True, exist_ok=True)
        content = _content(result, self._form)
        if self._notes is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            notes = Journal(self.journal)
            try:
                notes.begin(self._settings)
            except BaseException:
                notes.close(remove=True)
                raise
            self._notes = notes
        # Noted first: a file that was not written then does not have this digest.
        self._notes.add({"file": path, "state": state_of(path), "sha256": hashlib.sha256(content).hexdigest()})
        with write_beside(target, "wb") as file:
            file.write(content)
        self._written += 1

    def close(self, *, whole: bool, error: type[BaseException] | None) -> None:
        if self._notes:
            self._notes.close(remove=whole or not self._written)


def _content(result: Result, form: Format) -> bytes:
    """A file of one recording."""
    if form == "parquet":
        return parquet.content([(result.source, result.events, result.start)])
    times = result.start is not None
    around = layout(form, times=times)
    return encoded(around.opening + rows(result, form, times=times) + around.closing)


def _is(target: Path, recording: str, note: dict[str, Any]) -> bool:
    return target.is_file() and note["state"] == state_of(recording) and note["sha256"] == file_digest(target)
