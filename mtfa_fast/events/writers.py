"""Results to text: one table for any number of recordings, written as they come, or one file each.

============ ==============================================================================
format       rows
============ ==============================================================================
``table``    aligned columns for people
``tsv``      file, onset, offset, label: the event list of sed_eval and DCASE, without a header
``csv``      file, onset, offset, label, score, with a header
``json``     a list of recordings: file, duration, events with full precision
``audacity`` a label track: onset, offset, label; of one recording
``raven``    a selection table of Raven; of one recording
``parquet``  :mod:`.parquet`, which is no text
============ ==============================================================================

Where a recording's clock is known, ``table`` and ``csv`` have a column ``time`` more, the onset's time of day, ``json``
has ``start`` and ``time``, ``raven`` its Begin Date Time. ``tsv`` has no place: sed_eval refuses a fifth field of it.
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import os
from collections.abc import Iterable
from datetime import datetime
from pathlib import PurePath
from typing import IO, Any, Literal, NamedTuple, get_args

from ..files import write_beside
from . import parquet
from .result import Result

Format = Literal["table", "tsv", "csv", "json", "audacity", "raven", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)
SUFFIXES: dict[Format, str] = {
    "table": ".txt",
    "tsv": ".tsv",
    "csv": ".csv",
    "json": ".json",
    "audacity": ".txt",
    "raven": ".selections.txt",
    "parquet": ".parquet",
}
OF_ONE: tuple[Format, ...] = ("audacity", "raven")  # their rows do not name a recording, or count within one
TIMED: tuple[Format, ...] = ("table", "csv")  # whose columns depend on whether any clock is known
_RAVEN = (
    *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)", "Low Freq (Hz)", "High Freq (Hz)"),
    *("Label", "Score", "Begin File", "Begin Path"),
)
_ONE_LINE = str.maketrans("\t\r\n", "   ")  # a tab or line break in a file name would break the columns


class Layout(NamedTuple):
    """What stands around the recordings of a table: before the first, between two, after the last; alone if none."""

    opening: str = ""
    between: str = ""
    closing: str = ""
    nothing: str = ""


def layout(form: Format, name_width: int = 0, *, times: bool = False) -> Layout:
    """``name_width``: of the first column of a ``table``; ``times``: with the column for them, of ``TIMED`` formats
    and ``raven``. ValueError for an unknown format, and for ``parquet``, which is no text."""
    if form not in FORMATS or form == "parquet":
        raise ValueError(f"format: got {form!r}, allowed: {', '.join(f for f in FORMATS if f != 'parquet')}")
    if form == "json":
        return Layout("[\n", ",\n", "\n]\n", "[]\n")
    header = ""
    if form == "table":
        time = f"  {'time':<29}" if times else ""
        header = f"{'file':<{_width(name_width)}}  {'onset':>9}  {'offset':>9}  {'score':>5}{time}  label\n"
    elif form == "csv":
        header = _csv_rows([["file", "onset", "offset", "label", "score", *(["time"] if times else [])]])
    elif form == "raven":
        header = "\t".join([*_RAVEN, *(["Begin Date Time"] if times else [])]) + "\n"
    return Layout(header, nothing=header)


def rows(result: Result, form: Format, name_width: int = 0, *, times: bool = False, ascii_only: bool = False) -> str:
    """One recording in a table, with ``times`` as its :func:`layout`.

    ``ascii_only``: JSON for an output that is not UTF-8, where it must be escaped.
    """
    if form == "json":
        return json.dumps(to_dict(result), ensure_ascii=ascii_only)
    events, name = result.events, result.source.translate(_ONE_LINE)
    if form == "csv":
        return _csv_rows(
            [result.source, f"{e.onset:.3f}", f"{e.offset:.3f}", e.label, f"{e.score:.4f}"]
            + ([stamp(result.time_of(e.onset))] if times else [])
            for e in events
        )
    if form == "tsv":
        return "".join(f"{name}\t{e.onset:.3f}\t{e.offset:.3f}\t{e.label}\n" for e in events)
    if form == "audacity":
        return "".join(f"{e.onset:.6f}\t{e.offset:.6f}\t{e.label}\n" for e in events)
    if form == "raven":
        return _raven_rows(result, name, times)
    width, lines = _width(name_width), []
    for e in events:
        time = f"  {stamp(result.time_of(e.onset)):<29}" if times else ""
        lines.append(f"{name:<{width}}  {e.onset:9.3f}  {e.offset:9.3f}  {e.score:5.3f}{time}  {e.label}\n")
    return "".join(lines)


def stamp(time: datetime | None) -> str:
    """``2026-05-01T06:00:01.240+02:00``, without a zone where none is known; empty for None."""
    return "" if time is None else time.isoformat(timespec="milliseconds")


def _raven_rows(result: Result, name: str, times: bool) -> str:
    """A detector says when, not at which pitch: the whole band that the network hears."""
    top, lines = result.config.features.sample_rate / 2, []
    for number, e in enumerate(result.events, 1):
        cells = [str(number), "Spectrogram 1", "1", f"{e.onset:.6f}", f"{e.offset:.6f}", "0.0", f"{top:.1f}"]
        cells += [e.label, f"{e.score:.4f}", PurePath(name).name, name]
        if times and (time := result.time_of(e.onset)):
            cells.append(time.strftime("%Y/%m/%d %H:%M:%S.") + f"{time.microsecond // 1000:03d}")
        lines.append("\t".join(cells) + "\n")
    return "".join(lines)


class Writer:
    """Write results to an open text file, each as soon as it is there.

    ``name_width``: width of the table's first column. ``times``: whether there is a column for times of day, where it
    is one for all recordings; by default if the first recording's clock is known. Raises ValueError for an unknown
    format, for ``parquet``, and for a second recording in a format of one. Use as a context manager, or call
    :meth:`close` at the end: what is interrupted is closed, too, and can be read.
    """

    def __init__(self, file: IO[str], form: Format, *, name_width: int = 0, times: bool | None = None) -> None:
        layout(form)  # is there one?
        self._file, self._form, self._width, self._times, self._count = file, form, name_width, times, 0
        encoding = getattr(file, "encoding", None) or "utf-8"
        self._ascii = codecs.lookup(encoding).name != "utf-8"

    def add(self, result: Result) -> None:
        if self._form in OF_ONE and self._count:
            raise ValueError(f"format: got {self._form} for several recordings, allowed: one table for each recording")
        if self._times is None:
            self._times = result.start is not None
        around = layout(self._form, self._width, times=self._times)
        lead = around.between if self._count else around.opening
        self._file.write(lead + rows(result, self._form, self._width, times=self._times, ascii_only=self._ascii))
        self._count += 1

    def close(self) -> None:
        """Write what ends the table; the file stays open."""
        around = layout(self._form, self._width, times=bool(self._times))
        self._file.write(around.closing if self._count else around.nothing)

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
    start = {} if result.start is None else {"start": result.start.isoformat()}
    events = [
        {"label": e.label, "onset": e.onset, "offset": e.offset, "score": e.score}
        | ({"time": stamp(result.time_of(e.onset))} if start else {})
        for e in result.events
    ]
    return {"file": result.source, "duration": result.duration, **start, "events": events}


def write(results: Result | Iterable[Result], path: str | os.PathLike[str], form: Format) -> None:
    """Write one recording's result, or several in one table, to a file: complete or not at all.

    Of a list, one known clock gives all of a table a column for times; of an iterator the first recording's.
    """
    results = [results] if isinstance(results, Result) else results
    if form == "parquet":
        parquet.write(((r.source, r.events, r.start) for r in results), path)
        return
    times = any(r.start for r in results) if isinstance(results, (list, tuple)) else None
    with write_beside(path) as file, Writer(file, form, times=times) as writer:
        for result in results:
            writer.add(result)
