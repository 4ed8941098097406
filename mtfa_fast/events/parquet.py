"""Events as Parquet, for archives: one row an event, the same columns in every file. Needs pyarrow (``[parquet]``).

======== ===================== =========================================================================
column   type                  meaning
======== ===================== =========================================================================
file     string                the recording, as it was named
onset    float64               seconds from its start
offset   float64
label    string
score    float32               the event's highest probability
time     timestamp[us]         of the onset, as the recorder's clock showed it; null where none is known
utc      timestamp[us, UTC]    the same moment, where the clock's zone is known, else null
======== ===================== =========================================================================
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from ..extras import needs
from ..files import write_beside
from .result import Event, Result
from .writers import encoded

ROWS = 1 << 16  # of a row group: what is in memory at a time, whatever the archive holds
MADE_BY = b"mtfa-fast events"


def require_pyarrow() -> None:
    """ImportError that says how to get it, where it is not installed."""
    with needs("pyarrow", "format parquet needs"):
        import pyarrow  # noqa: F401


def schema() -> Any:
    """The columns, a ``pyarrow.Schema``; its metadata says who wrote it."""
    import pyarrow as pa

    columns = [
        ("file", pa.string()),
        ("onset", pa.float64()),
        ("offset", pa.float64()),
        ("label", pa.string()),
        ("score", pa.float32()),
        ("time", pa.timestamp("us")),
        ("utc", pa.timestamp("us", "UTC")),
    ]
    return pa.schema(columns, metadata={b"made by": MADE_BY})


def columns(results: Iterable[Result]) -> dict[str, list[Any]]:
    """The rows of some recordings, column by column: plain values that also Ray and pandas take."""
    found: dict[str, list[Any]] = {name: [] for name in ("file", "onset", "offset", "label", "score", "time", "utc")}
    for result in results:
        for event in result.events:
            _append(found, result, event)
    return found


def _append(found: dict[str, list[Any]], result: Result, event: Event) -> None:
    time = result.time_of(event.onset)
    found["file"].append(encoded(result.source).decode())
    found["onset"].append(event.onset)
    found["offset"].append(event.offset)
    found["label"].append(event.label)
    found["score"].append(event.score)
    found["time"].append(time and time.replace(tzinfo=None))
    found["utc"].append(time if time and time.tzinfo else None)


def write(results: Iterable[Result], path: str | os.PathLike[str]) -> None:
    """Write the events of any number of recordings, as they come, to one file: complete or not at all.

    Memory holds one row group. ImportError where pyarrow is not installed, OSError where the file cannot be written.
    """
    require_pyarrow()
    import pyarrow as pa
    import pyarrow.parquet as pq

    with write_beside(path, "wb") as file, pq.ParquetWriter(file, schema(), compression="zstd") as writer:
        waiting = columns([])
        for result in results:
            for name, values in columns([result]).items():
                waiting[name] += values
            while len(waiting["file"]) >= ROWS:
                writer.write_table(pa.table({k: v[:ROWS] for k, v in waiting.items()}, schema()), row_group_size=ROWS)
                waiting = {k: v[ROWS:] for k, v in waiting.items()}
        if waiting["file"]:
            writer.write_table(pa.table(waiting, schema()), row_group_size=ROWS)
