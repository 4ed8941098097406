"""Events as Parquet: what is written is read back by pyarrow, a row group at a time; without pyarrow it says so."""

from __future__ import annotations

import dataclasses
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from mtfa_fast.events import parquet
from mtfa_fast.events.result import Result
from tests.events.test_result import EXPECTED, make

pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
NAIVE = datetime(2024, 1, 31, 5, 45)
AWARE = NAIVE.replace(tzinfo=timezone(timedelta(hours=-3, minutes=-30)))


def of(result: Result) -> parquet.Found:
    return result.source, result.events, result.start


def test_what_is_written_is_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    starts = {"a.wav": None, "b.wav": NAIVE, "c\udce9.wav": AWARE}
    results = [dataclasses.replace(make(name), start=start) for name, start in starts.items()]
    monkeypatch.setattr(parquet, "ROWS", 4)
    parquet.write((of(r) for r in [*results, make("silent").with_(threshold=1.0)]), tmp_path / "all.parquet")
    file = pq.ParquetFile(tmp_path / "all.parquet")
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [4, 4, 1]
    assert file.schema_arrow.equals(parquet.schema()) and file.schema_arrow.metadata[b"made by"] == parquet.MADE_BY
    rows = file.read().to_pylist()
    assert [(r["label"], r["onset"], r["offset"], r["score"]) for r in rows] == 3 * [
        dataclasses.astuple(e) for e in EXPECTED
    ]
    assert [r["file"] for r in rows] == 3 * ["a.wav"] + 3 * ["b.wav"] + 3 * ["c\\udce9.wav"]
    onset = timedelta(seconds=EXPECTED[1].onset)
    assert [r["time"] for r in rows[1::3]] == [None, NAIVE + onset, NAIVE + onset]
    assert [r["utc"] for r in rows[1::3]] == [None, None, AWARE + onset]


def test_an_empty_archive_and_an_interrupted_one(tmp_path: Path) -> None:
    parquet.write([], tmp_path / "none.parquet")
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0

    def interrupted():  # type: ignore[no-untyped-def]
        yield of(make())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        parquet.write(interrupted(), tmp_path / "all.parquet")
    assert [p.name for p in tmp_path.iterdir()] == ["none.parquet"]


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"format parquet needs pyarrow, .* pip install 'mtfa-fast\[parquet\]'"):
        parquet.write([of(make())], tmp_path / "all.parquet")
    assert not list(tmp_path.iterdir())
