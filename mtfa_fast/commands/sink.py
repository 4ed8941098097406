"""Where a run's results go: the terminal, one file, or a folder with one file for each recording."""

from __future__ import annotations

import os
import sys
from collections import Counter
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path, PurePath
from types import TracebackType
from typing import IO

from ..events.result import Result
from ..events.writers import FORMATS, SUFFIXES, Format, Writer, write
from ..files import write_beside
from .common import UsageError
from .discover import Recording

_BY_SUFFIX: dict[str, Format] = {".tsv": "tsv", ".csv": "csv", ".json": "json"}


class Sink(AbstractContextManager["Sink"]):
    """Takes results as they come. A file appears when all are there, and only if the block succeeds.

    Raises UsageError where recordings, format and output do not fit together, before anything is done.
    """

    def __init__(self, recordings: list[Recording], output: str | None, form: Format | None) -> None:
        self._folder = Path(output) if output and (os.path.isdir(output) or output.endswith(os.sep)) else None
        self._file = output if output and self._folder is None else None
        self._form = form or _default_format(self._folder, self._file)
        if self._form == "audacity" and self._folder is None and len(recordings) > 1:
            raise UsageError(
                "--format: got audacity for several recordings in one place, allowed: --output FOLDER/, one track each"
            )
        if self._file and not (parent := Path(self._file).parent).is_dir():
            raise UsageError(f"--output: folder {str(parent)!r} does not exist")
        self._targets = _targets(recordings, self._folder, self._form) if self._folder else {}
        self._width = max((len(r.path) for r in recordings), default=0)
        self._stack = ExitStack()
        self._open: tuple[IO[str], Writer] | None = None

    def add(self, recording: Recording, result: Result) -> None:
        if self._folder:
            target = self._targets[recording.path]
            target.parent.mkdir(parents=True, exist_ok=True)
            write(result, target, self._form)
            return
        if self._open is None:  # not earlier: a run without a single result writes nothing
            # sys.stdout as it is now, because a progress bar may stand between.
            file = self._stack.enter_context(write_beside(self._file)) if self._file else sys.stdout
            writer = self._stack.enter_context(Writer(file, self._form, name_width=self._width))
            self._open = file, writer
        file, writer = self._open
        writer.add(result)
        file.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, trace)


def _default_format(folder: Path | None, file: str | None) -> Format:
    if folder:
        return "csv"
    if not file:
        return "table"
    form = _BY_SUFFIX.get(PurePath(file).suffix.lower())
    if form is None:
        raise UsageError(f"--format: not given, and --output {file!r} does not tell it; allowed: {', '.join(FORMATS)}")
    return form


def _targets(recordings: list[Recording], folder: Path, form: Format) -> dict[str, Path]:
    """The file of each recording: its name with the format's suffix, below the folder as it was found below its own."""
    suffix = SUFFIXES[form]
    short = {r.path: folder / PurePath(r.name).with_suffix(suffix) for r in recordings}
    uses = Counter(short.values())
    taken: dict[Path, str] = {}
    for path, name in ((r.path, r.name) for r in recordings):
        # street.wav beside street.flac: both keep the whole name.
        target = short[path] if uses[short[path]] == 1 else folder / (name + suffix)
        if target in taken:
            raise UsageError(f"--output: {taken[target]} and {path} would both be written to {target}")
        taken[target] = path
    return {path: target for target, path in taken.items()}
