"""Events of known probabilities, decided again, and every way to write them."""

from __future__ import annotations

import csv
import dataclasses
import json
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

from mtfa_fast.config import ClassConfig, Config
from mtfa_fast.events.result import Event, Result
from mtfa_fast.events.writers import FORMATS, Writer, write
from mtfa_fast.files import write_beside

CONFIG = Config(classes=(ClassConfig("gunshot", 0.4, 3), ClassConfig("baby cry", 0.2, 1)))


def make(source: str = "street.wav") -> Result:
    p = np.zeros((101, 2), np.float32)  # 2 s, a frame every 20 ms
    p[10:20, 0] = 0.5
    p[15, 0] = 0.75  # the score
    p[30, 0] = 0.9  # alone: the filter removes it
    p[5:8, 1] = 0.25
    p[95:, 1] = 0.3  # to the end: 101 frames x 20 ms is beyond the 2 s
    return Result(p, CONFIG, source, 2.0)


EXPECTED = [
    Event("baby cry", 0.1, 0.16, 0.25),
    Event("gunshot", 0.2, 0.4, 0.75),
    Event("baby cry", 1.9, 2.0, np.float32(0.3).item()),
]


def test_events() -> None:
    result = make()
    assert list(result) == EXPECTED
    assert len(result) == 3


def test_other_thresholds_and_filters_without_running_again() -> None:
    result = make()
    again = result.with_(threshold={"gunshot": 0.6}, filter_frames={"gunshot": 1})
    assert [e for e in again if e.label == "gunshot"] == [
        Event("gunshot", 0.3, 0.32, 0.75),
        Event("gunshot", 0.6, 0.62, np.float32(0.9).item()),
    ]
    assert [e for e in again if e.label != "gunshot"] == [e for e in EXPECTED if e.label != "gunshot"]
    assert list(result) == EXPECTED
    assert again.probabilities is result.probabilities
    assert list(again.with_(threshold=1, filter_frames=3)) == []
    assert list(again.with_(minimum_score={"gunshot": 0.75})) == list(again)  # at least
    assert [e.score for e in again.with_(minimum_score=0.76)] == [np.float32(0.9).item()]
    assert list(result.with_()) == EXPECTED


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 1.2}, "threshold of gunshot: got 1.2, allowed: 0 <= threshold <= 1"),
        ({"threshold": {"baby cry": -0.1}}, "threshold of baby cry: got -0.1"),
        ({"threshold": {"dog": 0.5}}, "threshold: got class dog, allowed: gunshot, baby cry"),
        ({"filter_frames": 4}, "filter_frames of gunshot: got 4, allowed: an odd number"),
        ({"minimum_score": 1.5}, "minimum_score of gunshot: got 1.5, allowed: 0 <= minimum_score <= 1"),
        ({"threshold": "0.5"}, "threshold of gunshot: got '0.5'"),
    ],
)
def test_wrong_decisions(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make().with_(**change)


def test_a_run_without_a_number_scores_zero() -> None:
    p = np.array([[0.9], [np.nan], [0.9]], np.float32)
    result = Result(p, Config(classes=(ClassConfig("x", 0.5, 3),)), "a", 1.0)
    assert [(e.onset, e.offset, e.score) for e in result] == [(0.02, 0.04, 0.0)]


def test_wrong_shape() -> None:
    with pytest.raises(ValueError, match=r"probabilities: got shape \(101, 3\)"):
        Result(np.zeros((101, 3), np.float32), CONFIG, "a", 1.0)


def test_tsv_and_audacity(tmp_path: Path) -> None:
    path = tmp_path / "out"
    write([make("a.wav"), make("tab\tname.wav")], path, "tsv")
    lines = path.read_text().splitlines()
    assert lines[:3] == [
        "a.wav\t0.100\t0.160\tbaby cry",
        "a.wav\t0.200\t0.400\tgunshot",
        "a.wav\t1.900\t2.000\tbaby cry",
    ]
    assert [len(line.split("\t")) for line in lines] == [4] * 6
    write(make(), path, "audacity")
    assert path.read_text().splitlines()[1] == "0.200000\t0.400000\tgunshot"
    with pytest.raises(ValueError, match="format: got audacity for several"):
        write([make(), make()], path, "audacity")
    assert len(path.read_text().splitlines()) == 3  # as before the failure
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_csv_and_json_read_back(tmp_path: Path) -> None:
    results = [make('a, "b".wav'), make("ö.wav")]
    write(results, tmp_path / "a.csv", "csv")
    with open(tmp_path / "a.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["file"] for r in rows] == ['a, "b".wav'] * 3 + ["ö.wav"] * 3
    assert rows[1] == {"file": 'a, "b".wav', "onset": "0.200", "offset": "0.400", "label": "gunshot", "score": "0.7500"}
    write(results, tmp_path / "a.json", "json")
    data = json.loads((tmp_path / "a.json").read_text("utf-8"))
    assert [d["file"] for d in data] == ['a, "b".wav', "ö.wav"]
    assert [Event(**e) for e in data[1]["events"]] == EXPECTED
    assert data[0]["duration"] == 2.0


def test_one_known_clock_gives_a_list_its_column(tmp_path: Path) -> None:
    known = dataclasses.replace(make("b.wav"), start=datetime(2024, 1, 31, 5, 45, tzinfo=timezone.utc))
    write([make("a.wav"), known], tmp_path / "a.csv", "csv")
    with open(tmp_path / "a.csv", encoding="utf-8", newline="") as file:
        times = [row["time"] for row in csv.DictReader(file)]
    assert times[:4] == ["", "", "", "2024-01-31T05:45:00.100+00:00"]
    write((r for r in [make("a.wav"), known]), tmp_path / "b.csv", "csv")
    assert "time" not in (tmp_path / "b.csv").read_text()


@pytest.mark.parametrize("form", FORMATS)
def test_no_events_and_no_results(tmp_path: Path, form: str) -> None:
    silent = make().with_(threshold=1.0)
    write(silent, tmp_path / "a", form)  # type: ignore[arg-type]
    write([], tmp_path / "b", form)  # type: ignore[arg-type]
    if form == "json":
        assert json.loads((tmp_path / "a").read_text()) == [{"file": "street.wav", "duration": 2.0, "events": []}]
        assert json.loads((tmp_path / "b").read_text()) == []
    else:
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with pytest.raises(ValueError, match="format: got 'xml', allowed: table, tsv"):
        Writer(open(tmp_path / "a", "w"), "xml")  # type: ignore[arg-type] # noqa: SIM115


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def interrupted():  # type: ignore[no-untyped-def]
        yield make()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write(interrupted(), path, "json")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]
    link = tmp_path / "link"
    link.symlink_to(path)
    with write_beside(link) as file:
        file.write("new")
    assert path.read_text() == "new" and link.is_symlink()
