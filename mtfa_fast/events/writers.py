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

import codecs
import csv
import io
import json
import os
from collections.abc import Iterable
from typing import IO, Any, Literal, NamedTuple, get_args

from ..files import write_beside
from .result import Result

Format = Literal["table", "tsv", "csv", "json", "audacity"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[Format, str] = {"table": ".txt", "tsv": ".tsv", "csv": ".csv", "json": ".json", "audacity": ".txt"}
_ONE_LINE = str.maketrans("\t\r\n", "   ")  # a tab or line break in a file name would break the columns


class Layout(NamedTuple):
    """What stands around the recordings of a table: before the first, between two, after the last; alone if none."""

    opening: str = ""
    between: str = ""
    closing: str = ""
    nothing: str = ""


def layout(form: Format, name_width: int = 0) -> Layout:
    """``name_width``: of the first column of a ``table``. ValueError for an unknown format."""
    if form not in FORMATS:
        raise ValueError(f"format: got {form!r}, allowed: {', '.join(FORMATS)}")
    if form == "json":
        return Layout("[\n", ",\n", "\n]\n", "[]\n")
    header = ""
    if form == "table":
        header = f"{'file':<{_width(name_width)}}  {'onset':>9}  {'offset':>9}  {'score':>5}  label\n"
    elif form == "csv":
        header = _csv_rows([["file", "onset", "offset", "label", "score"]])
    return Layout(header, nothing=header)


def rows(result: Result, form: Format, name_width: int = 0, *, ascii_only: bool = False) -> str:
    """One recording in a table; ``ascii_only``: JSON for an output that is not UTF-8, where it must be escaped."""
    if form == "json":
        return json.dumps(to_dict(result), ensure_ascii=ascii_only)
    events, name = result.events, result.source.translate(_ONE_LINE)
    if form == "csv":
        return _csv_rows(
            [result.source, f"{e.onset:.3f}", f"{e.offset:.3f}", e.label, f"{e.score:.4f}"] for e in events
        )
    if form == "tsv":
        return "".join(f"{name}\t{e.onset:.3f}\t{e.offset:.3f}\t{e.label}\n" for e in events)
    if form == "audacity":
        return "".join(f"{e.onset:.6f}\t{e.offset:.6f}\t{e.label}\n" for e in events)
    width = _width(name_width)
    return "".join(f"{name:<{width}}  {e.onset:9.3f}  {e.offset:9.3f}  {e.score:5.3f}  {e.label}\n" for e in events)


def encoded(text: str) -> bytes:
    """As every file of ours is written: a name that is not UTF-8 is only a name."""
    return text.encode("utf-8", "backslashreplace")


class Writer:
    """Write results to an open text file, each as soon as it is there.

    ``name_width``: width of the table's first column. Raises ValueError for an unknown format, and for a
    second recording in a label track. Use as a context manager, or call :meth:`close` at the end: what is
    interrupted is closed, too, and can be read.
    """

    def __init__(self, file: IO[str], form: Format, *, name_width: int = 0) -> None:
        self._layout = layout(form, name_width)
        self._file, self._form, self._width, self._count = file, form, name_width, 0
        encoding = getattr(file, "encoding", None) or "utf-8"
        self._ascii = codecs.lookup(encoding).name != "utf-8"
        if form != "json":
            file.write(self._layout.opening)

    def add(self, result: Result) -> None:
        if self._form == "audacity" and self._count:
            raise ValueError("format: got audacity for several recordings, allowed: one label track for each recording")
        lead = self._layout.between if self._count else self._layout.opening if self._form == "json" else ""
        self._file.write(lead + rows(result, self._form, self._width, ascii_only=self._ascii))
        self._count += 1

    def close(self) -> None:
        """Write what ends the table; the file stays open."""
        if self._form == "json":
            self._file.write(self._layout.closing if self._count else self._layout.nothing)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None or not issubclass(kind, OSError):
            self.close()


def _width(name_width: int) -> int:
    return max(name_width, len("file"))


def _csv_rows(fields: Iterable[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(fields)
    return text.getvalue()


def to_dict(result: Result) -> dict[str, Any]:
    """What the JSON format holds of one recording."""
    events = [{"label": e.label, "onset": e.onset, "offset": e.offset, "score": e.score} for e in result.events]
    return {"file": result.source, "duration": result.duration, "events": events}


def write(results: Result | Iterable[Result], path: str | os.PathLike[str], form: Format) -> None:
    """Write one recording's result, or several in one table, to a file: complete or not at all."""
    with write_beside(path) as file, Writer(file, form) as writer:
        for result in [results] if isinstance(results, Result) else results:
            writer.add(result)
