"""Where a run's results go: the terminal, one file, or a folder with one file for each recording."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractContextManager
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any

from ..audio.clock import from_name, start_of
from ..events.parquet import require_pyarrow
from ..events.result import Result
from ..events.scores import write_scores
from ..events.writers import FORMATS, OF_ONE, SUFFIXES, TIMED, Format
from ..files import RealPaths, is_device
from .common import Patience, UsageError, count, say
from .discover import Recording
from .outputs import require_writable
from .places import FolderPlace, OneFile, Place, StreamPlace

_BY_SUFFIX: dict[str, Format] = {".tsv": "tsv", ".csv": "csv", ".json": "json", ".parquet": "parquet"}


class Sink(AbstractContextManager["Sink"]):
    """Takes results as they come and keeps what is finished, whatever ends the run (docs/interrupted.md).

    ``inputs``: what the command reads beside the recordings. ``times``: whether times of day are known; None: as the
    recordings tell. ``scores``: a folder for the frames' probabilities. Raises UsageError where recordings, format and
    output do not fit together, or the output may not be written, and ImportError where the format needs what is not
    installed, before anything is done.
    """

    def __init__(
        self,
        recordings: list[Recording],
        output: str | None,
        form: Format | None,
        *,
        inputs: Iterable[str] = (),
        overwrite: bool = False,
        resume: bool = False,
        times: bool | None = None,
        scores: str | None = None,
    ) -> None:
        folder = Path(output) if output and (os.path.isdir(output) or output.endswith(os.sep)) else None
        file = output if output and folder is None else None
        form = form or _default_format(folder, file)
        if form in OF_ONE and folder is None and len(recordings) > 1:
            raise UsageError(
                f"--format: got {form} for several recordings in one place, allowed: --output FOLDER/, one table each"
            )
        if form == "parquet":
            require_pyarrow()
            if folder is None and (file is None or is_device(file)):
                raise UsageError("--format: got parquet, which is no text, allowed: with --output, a file or a folder")
        if file and not (parent := Path(file).parent).is_dir():
            raise UsageError(f"--output: folder {str(parent)!r} does not exist")
        self._recordings, self._overwrite, self._resume = recordings, overwrite, resume
        self._inputs = [*(r.path for r in recordings), *inputs]
        width = max((len(r.path) for r in recordings), default=0)
        self._place: Place
        if times is None and folder is None and form in (*TIMED, "raven"):
            times = any_clock([r.path for r in recordings])
        if folder:
            self._place = FolderPlace(folder, _targets(recordings, folder, form), form)
        elif file and not is_device(file):
            self._place = OneFile(Path(file), [r.path for r in recordings], form, width, bool(times))
        else:
            self._place = StreamPlace(file, form, width, bool(times))
        self._scores = _targets(recordings, Path(scores), "tsv") if scores else {}
        real = RealPaths()
        written = {real(target) for _, target in self._place.outputs()} if scores else set()
        for target in self._scores.values():
            if real(target) in written:
                raise UsageError(f"--scores: {target} would be events, too, allowed: another folder than --output's")
        if resume and overwrite:
            raise UsageError("--resume: got --overwrite, too, allowed: one of them")
        if resume and self._place.journal is None:
            raise UsageError("--resume: got no --output that could be gone on with, allowed: with a file or folder")
        if not resume and not overwrite and self._place.journal and self._place.journal.exists():
            raise UsageError(
                f"--output: an interrupted run left {self._place.partial}; "
                "allowed: --resume to go on, --overwrite to begin anew"
            )
        if not resume:
            self._require_writable(set())
        self._failed = self._added = 0

    def begin(self, settings: dict[str, Any]) -> list[Recording]:
        """The recordings that are still to be done. ``settings``: what must be equal for a run to be gone on with."""
        finished = self._place.begin(settings, self._resume)
        finished = {path for path in finished if path not in self._scores or self._scores[path].is_file()}
        if self._resume:
            self._require_writable(finished)
            if finished:
                say(f"resumed: {count(len(finished), 'recording')} of {len(self._recordings)} finished before")
        return [r for r in self._recordings if r.path not in finished]

    def add(self, recording: Recording, result: Result) -> None:
        """OSError where it could not be written. Of a file or folder, what was written before is kept."""
        try:
            if self._scores:
                target = self._scores[recording.path]
                target.parent.mkdir(parents=True, exist_ok=True)
                write_scores(result, target)
            self._place.add(recording.path, result)
        except OSError:
            self._failed += 1
            raise
        self._added += 1

    @property
    def goes_on(self) -> bool:
        """Whether there is a sense in further results after one that could not be written."""
        return self._place.journal is not None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        whole = kind is None and not self._failed
        try:
            self._place.close(whole=whole, error=kind)
        except OSError as problem:
            if kind is None:
                raise
            say(f"error: {problem}")
        if not whole and self._place.journal and self._place.journal.exists():
            say(f"what is finished is kept in {self._place.partial}; the same command with --resume goes on")

    def _require_writable(self, finished: set[str]) -> None:
        targets = [target for path, target in self._place.outputs() if path not in finished]
        require_writable("--output", *targets, inputs=self._inputs, overwrite=self._overwrite)
        # Written before the recording is noted as finished: a run that is gone on with may find one of its own.
        require_writable(
            "--scores", *self._scores.values(), inputs=self._inputs, overwrite=self._overwrite or self._resume
        )


def any_clock(paths: list[str]) -> bool:
    """Whether it is known of any recording when it began: by their names, which costs little, then by their headers."""
    if any(from_name(path) and os.path.isfile(path) for path in paths):
        return True
    told = Patience("looking for times of day in headers")
    for done, path in enumerate(paths):
        told(done)
        if start_of(path):
            return True
    return False


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
    short = {r.path: folder / (os.path.splitext(r.name)[0] + suffix) for r in recordings}
    uses = Counter(short.values())
    taken: dict[Path, str] = {}
    for path, name in ((r.path, r.name) for r in recordings):
        # street.wav beside street.flac: both keep the whole name.
        target = short[path] if uses[short[path]] == 1 else folder / (name + suffix)
        if target in taken:
            raise UsageError(f"--output: {taken[target]} and {path} would both be written to {target}")
        taken[target] = path
    return {path: target for target, path in taken.items()}
