"""Events as Parquet, for archives: one row an event, the same columns in every file. Needs pyarrow (``[parquet]``).

======== ===================== =========================================================================
column   type                  meaning
======== ===================== =========================================================================
file     string                the recording, as it was named
onset    float64               seconds from its start
offset   float64
label    string
score    float32               as :class:`Event` has it
time     timestamp[us]         of the onset, as the recorder's clock showed it; null where none is known
utc      timestamp[us, UTC]    the same moment, where the clock's zone is known, else null
======== ===================== =========================================================================
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import IO, Any, TypeAlias

from ..extras import needs
from ..files import encoded, write_beside
from .result import Event

ROWS = 1 << 16  # of a row group: what is in memory at a time, whatever the archive holds
MADE_BY = b"mtfa-fast events"
COLUMNS = ("file", "onset", "offset", "label", "score", "time", "utc")

# A recording's name, events and, where it is known, when it began: of a Result its source, events and start.
Found: TypeAlias = tuple[str, Sequence[Event], "datetime | None"]


def require_pyarrow() -> None:
    """ImportError that says how to get it, where it is not installed."""
    with needs("pyarrow", "format parquet needs"):
        import pyarrow  # noqa: F401


def schema() -> Any:
    """The columns, a ``pyarrow.Schema``; its metadata says who wrote it."""
    import pyarrow as pa

    text, number, time = pa.string(), pa.float64(), pa.timestamp("us")
    kinds = (text, number, number, text, pa.float32(), time, pa.timestamp("us", "UTC"))
    return pa.schema(list(zip(COLUMNS, kinds, strict=True)), metadata={b"made by": MADE_BY})


def columns(recordings: Iterable[Found]) -> dict[str, list[Any]]:
    """The rows of some recordings, column by column: plain values, for :func:`schema` or whoever else takes them."""
    found: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for name, events, start in recordings:
        for event in events:
            time = start and start + timedelta(seconds=event.onset)
            row = (encoded(name).decode(), event.onset, event.offset, event.label, event.score)
            clocks = (time and time.replace(tzinfo=None), time if time and time.tzinfo else None)
            for column, value in zip(COLUMNS, row + clocks, strict=True):
                found[column].append(value)
    return found


def write(recordings: Iterable[Found], path: str | os.PathLike[str]) -> None:
    """Write the events of any number of recordings, as they come, to one file: complete or not at all.

    Memory holds one row group. ImportError where pyarrow is not installed, OSError where the file cannot be written.
    """
    require_pyarrow()
    with write_beside(path, "wb") as file:
        _write(recordings, file)


def content(recordings: Iterable[Found]) -> bytes:
    """What :func:`write` writes."""
    require_pyarrow()
    file = io.BytesIO()
    _write(recordings, file)
    return file.getvalue()


def _write(recordings: Iterable[Found], file: IO[bytes]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    waiting = columns([])
    with pq.ParquetWriter(file, schema(), compression="zstd") as writer:
        for recording in recordings:
            for name, values in columns([recording]).items():
                waiting[name] += values
            while len(waiting["file"]) >= ROWS:
                writer.write_table(pa.table({name: values[:ROWS] for name, values in waiting.items()}, schema()))
                waiting = {name: values[ROWS:] for name, values in waiting.items()}
        if waiting["file"]:
            writer.write_table(pa.table(waiting, schema()))
