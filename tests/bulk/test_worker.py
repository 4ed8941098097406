"""What a worker makes of a partition, whatever happened before; Ray is not needed for it."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from mtfa_fast.bulk import listing, plan, storage, watch
from mtfa_fast.bulk.archive import WORK, Archive
from mtfa_fast.bulk.worker import Report, Worker
from mtfa_fast.events.result import decide
from mtfa_fast.weights import Weights
from tests.bulk.archives import dataset, events_of, files_of, heard_by_one
from tests.face import RATE, knock, make_weights

pytest.importorskip("pyarrow", reason="pyarrow is not installed")
OPTIONS = {"threads": 1, "precision": "fp32"}


class Died(BaseException):
    """As SIGKILL: nobody catches it."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    (folder / "below").mkdir(parents=True)
    for number, name in enumerate(["a", "20240131_054500", "below/c", "d", "e"]):
        soundfile.write(folder / f"{name}.wav", knock(2.0, 0.3 * number), RATE)
    (folder / "bad.wav").write_text("not audio")
    (folder / ".hidden.wav").write_text("not ours")
    return folder


@pytest.fixture
def weights() -> Weights:
    made = make_weights()
    return dataclasses.replace(made, config=decide(made.config, threshold=0.01))


def run(source: Any, destination: Any, weights: Weights, kind: type[Worker] = Worker, most: int = 2) -> list[Report]:
    """All that there is to do, by one worker."""
    here = source if isinstance(source, storage.Folder) else storage.folder("source", source)
    there = destination if isinstance(destination, storage.Folder) else storage.folder("destination", destination)
    archive = Archive(there)
    archive.begin({"source": here.name})
    tasks = plan.plan(archive, listing.recordings(here).table, most)
    worker = kind(archive, here, weights, 2, OPTIONS)
    return [worker.work(task) for task in tasks]


def same_as_one(source: Path, destination: Path, weights: Weights) -> bool:
    weights.save(source.parent / "w.safetensors")
    good = sorted(p for p in source.rglob("*.wav") if p.name not in ("bad.wav", ".hidden.wav"))
    events, durations = heard_by_one(source.parent / "w.safetensors", good)
    files = files_of(destination)
    assert {name for name, row in files.items() if row["error"]} == {str(source / "bad.wav")}
    assert {name: row["duration"] for name, row in files.items() if not row["error"]} == durations
    assert {name: row["events"] for name, row in files.items() if row["events"]} == {
        name: sum(row["file"] == name for row in events) for name in {row["file"] for row in events}
    }
    return len(events) > 3 and events_of(destination) == events


def test_the_dataset_is_what_one_process_makes(source: Path, tmp_path: Path, weights: Weights) -> None:
    out = tmp_path / "out"
    reports = run(source, out, weights)
    assert [(r.files, r.failed) for r in reports] == [(2, 0), (2, 1), (2, 0)]
    assert same_as_one(source, out, weights)
    clocks = {row["time"] for row in dataset(out / "events") if "2024" in row["file"]}
    assert clocks and {time.date() for time in clocks} == {datetime(2024, 1, 31).date()}
    assert {row["engine"] for row in dataset(out / "files")} == {reports and _engine(weights)}
    # Nothing is left to do but what could not be read.
    assert [(r.files, r.failed) for r in run(source, out, weights)] == [(1, 1)]
    assert same_as_one(source, out, weights)


def _engine(weights: Weights) -> str:
    from mtfa_fast import Detector

    facts = Detector(weights, **OPTIONS).explain()  # type: ignore[arg-type]
    return f"{facts['isa']} fp32"


def test_what_is_new_or_changed_or_was_bad_is_heard_and_nothing_else(
    source: Path, tmp_path: Path, weights: Weights
) -> None:
    out = tmp_path / "out"
    run(source, out, weights)
    before = {row["file"]: row for row in dataset(out / "files")}
    soundfile.write(source / "a.wav", knock(3.0, 1.5), RATE)
    soundfile.write(source / "bad.wav", knock(2.0, 0.7), RATE)
    soundfile.write(source / "new.wav", knock(2.0, 0.9), RATE)
    (source / "e.wav").unlink()  # what was heard of it stays
    heard = run(source, out, weights)
    assert sum(r.files for r in heard) == 3 and sum(r.failed for r in heard) == 0
    files = files_of(out)
    assert files.keys() == before.keys() | {str(source / "new.wav")}
    assert {name for name in before if files[name] != before[name]} == {
        str(source / name) for name in ("a.wav", "bad.wav")
    }
    assert files[str(source / "a.wav")]["duration"] == 3.0
    soundfile.write(source / "e.wav", knock(2.0, 1.2), RATE)  # as it was
    weights.save(tmp_path / "w.safetensors")
    assert events_of(out) == heard_by_one(tmp_path / "w.safetensors", sorted(source.rglob("[!.]*.wav")))[0]


@pytest.mark.parametrize("step", ["before", "between", "after"])
def test_who_dies_while_he_writes_is_done_again(
    source: Path, tmp_path: Path, weights: Weights, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Before the events are there, between them and the recordings, before the note goes."""
    out, write = tmp_path / "out", storage.Folder.write
    where = {"before": "events", "between": "files"}

    def dies(self: storage.Folder, content: bytes, *parts: str) -> None:
        if parts[0] == where.get(step) and parts[1] == "part-00000001.parquet":
            raise Died
        write(self, content, *parts)

    with monkeypatch.context() as patch:
        if step == "after":
            patch.setattr(watch.Watch, "close", lambda self: (_ for _ in ()).throw(Died))
        patch.setattr(storage.Folder, "write", dies)
        with pytest.raises(Died):
            run(source, out, weights)
    assert list((out / WORK).glob("begun-*"))
    soundfile.write(source / "0.wav", knock(2.0, 0.1), RATE)  # does not move what was planned before it
    reports = run(source, out, weights)
    assert reports[0].careful or step == "after"
    assert same_as_one(source, out, weights)


def test_a_recording_that_kills_is_found(source: Path, tmp_path: Path, weights: Weights) -> None:
    out = tmp_path / "out"
    deaths = []

    class Mortal(Worker):
        def _open(self, name: str) -> Any:
            if name.endswith("c.wav"):
                deaths.append(name)
                raise Died
            return super()._open(name)

    for _ in range(3):
        with pytest.raises(Died):
            run(source, out, weights, Mortal)
    reports = run(source, out, weights, Mortal)
    assert len(deaths) == 3 and any(r.careful for r in reports)
    files = files_of(out)
    assert len(files) == 6 and "died, 3 of them" in files[str(source / "below/c.wav")]["error"]
    assert {name for name, row in files.items() if row["error"]} == {
        str(source / "bad.wav"),
        str(source / "below/c.wav"),
    }
    assert not list((out / WORK).glob("begun-*"))
    run(source, out, weights)  # with a decoder that was mended
    assert same_as_one(source, out, weights)


def test_events_of_work_that_nobody_knows_are_removed(source: Path, tmp_path: Path, weights: Weights) -> None:
    """The table of work was deleted by hand; a part without one would stand there twice."""
    out = tmp_path / "out"
    run(source, out, weights)
    (out / "files" / "part-00000002.parquet").unlink()
    (out / "events" / ".mtfa-1234.part").touch()
    for path in (out / WORK).iterdir():
        path.unlink()
    os.rename(out / "events" / "part-00000002.parquet", out / "events" / "part-00000077.parquet")
    run(source, out, weights)
    assert same_as_one(source, out, weights)
    assert sorted(os.listdir(out / "events")) == sorted(os.listdir(out / "files"))


@pytest.fixture(params=["memory", "local by fsspec"])
def elsewhere(request: pytest.FixtureRequest, source: Path) -> Iterator[Callable[[str], storage.Folder]]:
    """The same recordings on a file system that is not local."""
    fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
    if request.param == "memory":
        system = fsspec.filesystem("memory")
        system.put(str(source), "/archive/in", recursive=True)
        yield lambda name: storage.folder("x", f"memory://archive/{name}")
        system.rm("/archive", recursive=True)
    else:
        system = fsspec.filesystem("file")
        yield lambda name: storage.folder("x", str(source.parent / name), system)


def test_other_file_systems(
    elsewhere: Callable[[str], storage.Folder], source: Path, tmp_path: Path, weights: Weights
) -> None:
    assert not elsewhere("in").local
    reports = run(elsewhere("in"), elsewhere("out"), weights)
    assert sum(r.files for r in reports) == 6 and sum(r.failed for r in reports) == 1
    there = elsewhere("out")
    for room in ("events", "files"):
        for name in there.names(room):
            (tmp_path / "copy" / room).mkdir(parents=True, exist_ok=True)
            (tmp_path / "copy" / room / name).write_bytes(there.read(room, name) or b"")
    run(source, tmp_path / "one", weights)
    prefix = elsewhere("in").name

    def bare(rows: list[dict[str, Any]], root: str) -> list[dict[str, Any]]:
        rows = [{k: v for k, v in row.items() if k != "changed"} for row in rows]
        return [row | {"file": row["file"].removeprefix(root)} for row in rows]

    for room in ("events", "files"):
        have, want = dataset(tmp_path / "copy" / room), dataset(tmp_path / "one" / room)
        assert bare(have, prefix) == bare(want, str(source)) and have
    assert [r.files for r in run(elsewhere("in"), elsewhere("out"), weights)] == [1]
    assert there.names("_work") and not [n for n in there.names("events") if n.startswith(".")]


def test_warnings_stand_beside_their_recording(tmp_path: Path, weights: Weights) -> None:
    (tmp_path / "in").mkdir()
    time = np.arange(2 * RATE) / RATE
    tone = (0.5 * np.sin(2 * np.pi * 440 * time)).astype(np.float32)
    soundfile.write(tmp_path / "in" / "cancels.wav", np.stack([tone, -tone], 1), RATE)
    soundfile.write(tmp_path / "in" / "fine.wav", tone, RATE)
    run(tmp_path / "in", tmp_path / "out", weights)
    said = {Path(name).stem: row["warning"] for name, row in files_of(tmp_path / "out").items()}
    assert said["fine"] is None and "channel" in said["cancels"] and "cancels.wav" not in said["cancels"]


def test_a_file_that_is_gone_when_its_turn_comes(source: Path, tmp_path: Path, weights: Weights) -> None:
    class Late(Worker):
        def work(self, task: plan.Task) -> Report:
            (source / "d.wav").unlink(missing_ok=True)
            return super().work(task)

    run(source, tmp_path / "out", weights, Late)
    assert files_of(tmp_path / "out")[str(source / "d.wav")]["error"] == "No such file or directory"
