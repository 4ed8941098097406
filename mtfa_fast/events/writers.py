"""Results to text: one table for any number of recordings, written as they come, or one file each.

=========== ==============================================================================
format      rows
=========== ==============================================================================
``table``   aligned columns for people
``tsv``     file, onset, offset, label: the event list of sed_eval and DCASE, without a header
``csv``     file, onset, offset, label, score, with a header
``json``    a list of recordings: file, duration, events with full precision
``audacity`` a label track: onset, offset, label; of one recording
=========== ==============================================================================
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable
from typing import IO, Any, Literal, get_args

from ..files import write_beside
from .result import Result

Format = Literal["table", "tsv", "csv", "json", "audacity"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[Format, str] = {"table": ".txt", "tsv": ".tsv", "csv": ".csv", "json": ".json", "audacity": ".txt"}
_ONE_LINE = str.maketrans("\t\r\n", "   ")  # a tab or line break in a file name would break the columns


class Writer:
    """Write results to an open text file, each as soon as it is there.

    ``name_width``: width of the table's first column. Raises ValueError for an unknown format, and for a
    second recording in a label track. Use as a context manager, or call :meth:`close` at the end.
    """

    def __init__(self, file: IO[str], form: Format, *, name_width: int = 0) -> None:
        if form not in FORMATS:
            raise ValueError(f"format: got {form!r}, allowed: {', '.join(FORMATS)}")
        self._file, self._form, self._count = file, form, 0
        self._width = max(name_width, len("file"))
        rows: dict[Format, Callable[[Result], None]] = {
            "table": self._table,
            "tsv": self._tsv,
            "csv": self._csv,
            "json": self._json,
            "audacity": self._audacity,
        }
        self._add = rows[form]
        if form == "table":
            file.write(f"{'file':<{self._width}}  {'onset':>9}  {'offset':>9}  {'score':>5}  label\n")
        elif form == "csv":
            csv.writer(file, lineterminator="\n").writerow(["file", "onset", "offset", "label", "score"])

    def add(self, result: Result) -> None:
        self._add(result)
        self._count += 1

    def close(self) -> None:
        """Write what ends the table; the file stays open."""
        if self._form == "json":
            self._file.write("\n]\n" if self._count else "[]\n")

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()

    def _table(self, result: Result) -> None:
        name = result.source.translate(_ONE_LINE)
        for e in result.events:
            self._file.write(f"{name:<{self._width}}  {e.onset:9.3f}  {e.offset:9.3f}  {e.score:5.3f}  {e.label}\n")

    def _tsv(self, result: Result) -> None:
        name = result.source.translate(_ONE_LINE)
        self._file.writelines(f"{name}\t{e.onset:.3f}\t{e.offset:.3f}\t{e.label}\n" for e in result.events)

    def _csv(self, result: Result) -> None:
        rows = ([result.source, f"{e.onset:.3f}", f"{e.offset:.3f}", e.label, f"{e.score:.4f}"] for e in result.events)
        csv.writer(self._file, lineterminator="\n").writerows(rows)

    def _json(self, result: Result) -> None:
        self._file.write(("[\n" if self._count == 0 else ",\n") + json.dumps(to_dict(result), ensure_ascii=False))

    def _audacity(self, result: Result) -> None:
        if self._count:
            raise ValueError("format: got audacity for several recordings, allowed: one label track for each recording")
        self._file.writelines(f"{e.onset:.6f}\t{e.offset:.6f}\t{e.label}\n" for e in result.events)


def to_dict(result: Result) -> dict[str, Any]:
    """What the JSON format holds of one recording."""
    events = [{"label": e.label, "onset": e.onset, "offset": e.offset, "score": e.score} for e in result.events]
    return {"file": result.source, "duration": result.duration, "events": events}


def write(results: Result | Iterable[Result], path: str | os.PathLike[str], form: Format) -> None:
    """Write one recording's result, or several in one table, to a file: complete or not at all."""
    with write_beside(path) as file, Writer(file, form) as writer:
        for result in [results] if isinstance(results, Result) else results:
            writer.add(result)
