"""Times of day in every format with a place for them, Raven's tables, score files, Parquet; nothing without them."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import os
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mtfa_fast import Detector
from mtfa_fast import detector as detector_module
from mtfa_fast.commands.cli import main
from mtfa_fast.data.annotations import read_annotations
from tests.face import HOP, RATE, LoudnessEngine, knock, make_weights

NAMED = "20240131_235959.wav"  # its knock is in the next month
ONSETS = ["2024-02-01T00:00:00.000", "2024-02-01T00:00:00.000"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Works in a folder with ``in``: one recording whose name says when it began, and one that nobody knows of."""
    monkeypatch.setattr(detector_module, "make_engine", LoudnessEngine)
    make_weights().save(tmp_path / "w.safetensors")
    (tmp_path / "in").mkdir()
    for name in (NAMED, "a.wav"):
        soundfile.write(tmp_path / "in" / name, knock(2.0, 1.0), RATE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def detect(*arguments: str) -> int:
    return main(["detect", *arguments, "--weights", "w.safetensors"])


def rows_of(path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(Path(path).read_text())))


def test_a_result_knows_its_clock(folder: Path) -> None:
    detector = Detector.from_pretrained("w.safetensors")
    known, unknown = detector([f"in/{NAMED}", "in/a.wav"])
    assert known.start == datetime(2024, 1, 31, 23, 59, 59) and known.time_of(1.25) == datetime(
        2024, 2, 1, 0, 0, 0, 250_000
    )
    assert unknown.start is None and unknown.time_of(1.25) is None
    assert known.with_(threshold=0.1).start == known.start


def test_one_table_of_both(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert detect("in", "-o", "all.csv") == 0
    rows = rows_of("all.csv")
    assert list(rows[0]) == ["file", "onset", "offset", "label", "score", "time"]
    assert [r["time"] for r in rows] == [*ONSETS, "", ""]
    found = read_annotations("all.csv")  # our own reader passes the column over, empty or not
    assert [len(found[f"in/{name}"]) for name in (NAMED, "a.wav")] == [2, 2]
    assert detect("in", "-o", "all.csv") == 0  # and the file is known as ours
    assert detect("in", "-o", "all.json") == 0
    known, unknown = json.loads(Path("all.json").read_text())
    assert list(known) == ["file", "duration", "start", "events"] and known["start"] == "2024-01-31T23:59:59"
    assert [e["time"] for e in known["events"]] == ONSETS
    assert list(unknown) == ["file", "duration", "events"] and list(unknown["events"][0])[-1] == "score"
    assert read_annotations("all.json").keys() == found.keys()
    capsys.readouterr()
    assert detect("in") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["file", "onset", "offset", "score", "time", "label"]
    assert [line[4] for line in lines[1:]] == [*ONSETS, "loud", "audible"]
    assert detect("in", "--format", "table", "-o", "all.txt") == 0
    assert detect("in", "--format", "table", "-o", "all.txt") == 0


@pytest.mark.parametrize("form", ["table", "tsv", "csv", "json", "audacity", "raven"])
def test_without_a_clock_nothing_changes(folder: Path, form: str) -> None:
    """Neither where none is known nor where none is wanted."""
    os.rename(f"in/{NAMED}", "in/b.wav")
    assert detect("in/a.wav", "--format", form, "-o", "without") == 0
    os.rename("in/a.wav", f"in/{NAMED}")
    os.symlink(NAMED, "in/a.wav")
    assert detect(f"in/{NAMED}", "--format", form, "-o", "none", "--start", "none") == 0
    written = Path("without").read_bytes()
    if form in ("csv", "json", "tsv"):
        assert Path("none").read_bytes().replace(NAMED.encode(), b"a.wav") == written
    assert b"time" not in written.replace(b" Time (s)", b"").lower() and b"2024" not in written
    assert b"2024-" not in Path("none").read_bytes()


def test_start_comes_before_the_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert detect(f"in/{NAMED}", "--start", "2026-05-01T06:00:00+02:00", "-o", "all.csv") == 0
    assert [r["time"] for r in rows_of("all.csv")] == 2 * ["2026-05-01T06:00:01.000+02:00"]
    for wrong in (["in", "--start", "2026-05-01T06:00"], ["in/a.wav", "--start", "yesterday"]):
        capsys.readouterr()
        assert detect(*wrong, "-o", "none.csv") == 2
        assert "start: got " in capsys.readouterr().err and not Path("none.csv").exists()
    assert detect("in", "--start", "none", "-o", "all.csv") == 0
    assert "time" not in Path("all.csv").read_text()


def test_raven(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert detect("in", "--format", "raven", "-o", "all.txt") == 2
    assert "--format: got raven for several recordings" in capsys.readouterr().err
    assert detect("in", "--format", "raven", "-o", "out/") == 0
    assert sorted(os.listdir("out")) == ["20240131_235959.selections.txt", "a.selections.txt"]
    table = list(csv.DictReader(io.StringIO(Path("out/20240131_235959.selections.txt").read_text()), delimiter="\t"))
    assert table[0] == {
        "Selection": "1",
        "View": "Spectrogram 1",
        "Channel": "1",
        "Begin Time (s)": "1.000000",
        "End Time (s)": "1.200000",
        "Low Freq (Hz)": "0.0",
        "High Freq (Hz)": "4000.0",
        "Label": "loud",
        "Score": "0.8000",
        "Begin File": NAMED,
        "Begin Path": f"in/{NAMED}",
        "Begin Date Time": "2024/02/01 00:00:00.000",
    }
    assert [r["Selection"] for r in table] == ["1", "2"]
    assert "Begin Date Time" not in Path("out/a.selections.txt").read_text()
    assert detect("in", "--format", "raven", "-o", "out/") == 2  # somebody may have corrected them


def test_scores_are_the_probabilities(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert detect("in", "-o", "all.csv", "--scores", "scores") == 0
    assert sorted(os.listdir("scores")) == ["20240131_235959.tsv", "a.tsv"]
    lines = Path("scores/a.tsv").read_text().splitlines()
    probabilities = np.abs(np.append(soundfile.read("in/a.wav", dtype="float32")[0], np.float32(0))[::HOP])
    assert lines[0].split("\t") == ["onset", "offset", "loud", "audible"] and len(lines) == 1 + len(probabilities)
    assert [np.float32(line.split("\t")[3]) for line in lines[1:]] == probabilities.tolist()  # to the last bit
    assert detect("in", "-o", "all.csv", "--scores", "scores") == 2
    assert "--scores: 'scores/" in capsys.readouterr().err
    assert detect("in", "-o", "out/", "--format", "tsv", "--scores", "out") == 2
    assert "would be events, too" in capsys.readouterr().err and not Path("out").exists()


def test_scores_are_read_by_sed_scores_eval(folder: Path) -> None:
    evaluation = pytest.importorskip(
        "sed_scores_eval", reason="no sed_scores_eval (pip install sed_scores_eval, which compiles; .ci/run does)"
    )
    assert detect("in", "-o", "all.csv", "--scores", "scores") == 0
    scores = evaluation.io.read_sed_scores("scores")
    assert list(scores) == ["20240131_235959", "a"] and scores["a"].shape == (101, 4)
    truth = {name: [(1.0, 1.2, "loud"), (0.2, 0.4, "audible")] for name in scores}
    f, precision, recall, *_ = evaluation.collar_based.fscore(
        scores, truth, threshold={"loud": 0.5, "audible": 0.5}, onset_collar=0.2, offset_collar=0.2
    )
    assert (f["loud"], precision["loud"], recall["loud"], f["audible"]) == (1.0, 1.0, 1.0, 0.0)


def test_parquet_holds_what_json_does_and_is_gone_on_with(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    assert detect("in", "-o", "whole.parquet") == 0
    assert detect("in", "-o", "whole.parquet") == 0  # known as ours
    assert sorted(os.listdir()) == ["in", "w.safetensors", "whole.parquet"]
    rows = pq.read_table("whole.parquet").to_pylist()
    assert [(r["file"], r["label"], r["onset"]) for r in rows] == [
        (f"in/{name}", label, 1.0) for name in (NAMED, "a.wav") for label in ("loud", "audible")
    ]
    assert [r["time"] for r in rows] == 2 * [datetime(2024, 2, 1)] + 2 * [None] and {r["utc"] for r in rows} == {None}
    assert detect("in/a.wav", "--start", "2026-05-01T06:00:00+02:00", "-o", "one/", "--format", "parquet") == 0
    one = pq.read_table("one/a.parquet").to_pylist()
    assert {r["utc"] for r in one} == {datetime(2026, 5, 1, 4, 0, 1, tzinfo=timezone.utc)}
    good = Path("in/a.wav").read_bytes()
    Path("in/a.wav").write_bytes(b"words")
    capsys.readouterr()
    assert detect("in", "-o", "all.parquet") == 1
    assert pq.read_table("all.parquet").num_rows == 2
    assert detect("in") == 1 and detect("in", "--format", "parquet") == 2
    assert "--format: got parquet, which is no text" in capsys.readouterr().err
    Path("in/a.wav").write_bytes(good)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mtfa_fast.commands.places.OneFile._finish", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            detect("in", "-o", "again.parquet")
    assert json.loads(Path("again.partial.json").read_text())[0]["start"] == "2024-01-31T23:59:59"
    assert detect("in", "-o", "again.parquet", "--resume") == 0
    assert Path("again.parquet").read_bytes() == Path("whole.parquet").read_bytes()
    assert not list(folder.glob("again.partial*"))


def test_listen_counts_from_a_start(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def times(*arguments: str) -> list[str]:
        capsys.readouterr()
        assert main(["listen", *arguments, "--weights", "w.safetensors", "--look-ahead", "8", "--chunk", "8"]) == 0
        return [json.loads(line)["time"] for line in capsys.readouterr().out.splitlines()]

    assert times(f"in/{NAMED}") == ONSETS
    assert times(f"in/{NAMED}", "--start", "2026-05-01T06:00:00Z") == 2 * ["2026-05-01T06:00:01.000+00:00"]
    [now, _] = times("in/a.wav")
    assert abs((datetime.fromisoformat(now) - datetime.now(timezone.utc)).total_seconds()) < 600
    [again, _] = times(f"in/{NAMED}", "--start", "none")
    assert again[:13] == now[:13]


def test_json_keeps_a_start_to_the_microsecond(folder: Path) -> None:
    from mtfa_fast.events.writers import to_dict

    [result] = Detector.from_pretrained("w.safetensors")(["in/a.wav"])
    start = datetime(2024, 1, 31, 5, 45, 0, 125_001, timezone.utc)
    held = to_dict(dataclasses.replace(result, start=start))
    assert datetime.fromisoformat(held["start"]) == start and held["events"][0]["time"].endswith("01.125+00:00")
