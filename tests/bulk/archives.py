"""What an archive's datasets hold, and what one process makes of the same recordings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mtfa_fast import Detector
from mtfa_fast.events import parquet

Rows = list[dict[str, Any]]


def dataset(folder: Path) -> Rows:
    """As anybody reads it."""
    import pyarrow.dataset as ds

    return ds.dataset(folder, format="parquet").to_table().to_pylist()  # type: ignore[no-any-return]


def events_of(destination: Path) -> Rows:
    return sorted(dataset(destination / "events"), key=_key)


def files_of(destination: Path) -> dict[str, dict[str, Any]]:
    rows = dataset(destination / "files")
    assert len({row["file"] for row in rows}) == len(rows), "a recording twice"
    return {row["file"]: row for row in rows}


def heard_by_one(weights: Path, files: list[Path], threshold: float | None = None) -> tuple[Rows, dict[str, float]]:
    """Events and durations by one detector in this process."""
    import pyarrow as pa

    results = [r.with_(threshold=threshold) for r in Detector.from_pretrained(weights)([str(f) for f in files])]
    table = pa.table(parquet.columns((r.source, r.events, r.start) for r in results), parquet.schema())
    return sorted(table.to_pylist(), key=_key), {r.source: r.duration for r in results}


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["file"], row["onset"], row["label"]
