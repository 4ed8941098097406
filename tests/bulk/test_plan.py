"""The table of work, and what a destination refuses."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path

import pytest

from mtfa_fast.bulk import listing, plan, storage
from mtfa_fast.bulk.archive import Archive, part

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")


def made(path: Path) -> Archive:
    return Archive(storage.folder("destination", path))


def table(sizes: dict[str, int]) -> object:
    rows = [{"file": name, "size": size, "changed": 0} for name, size in sizes.items()]
    return pa.Table.from_pylist(rows, listing.schema())


def names(archive: Archive, tasks: list[plan.Task]) -> dict[int, list[str]]:
    return {task.partition: plan.rows_of(archive, task)["file"].to_pylist() for task in tasks}


def test_partitions_are_cut_by_number_and_by_bytes_and_stay_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "PARTITION_BYTES", 100)
    monkeypatch.setattr(plan, "_TABLE_PARTITIONS", 2)
    archive = made(tmp_path)
    tasks = plan.plan(archive, table({"e": 1, "a": 60, "b": 40, "c": 1, "d": 500, "f": 1, "g": 1, "h": 1}), 3)
    want = {0: ["a", "b"], 1: ["c"], 2: ["d"], 3: ["e", "f", "g"], 4: ["h"]}
    assert names(archive, tasks) == want
    assert [(t.files, t.size) for t in tasks] == [(2, 100), (1, 1), (1, 500), (3, 3), (1, 1)]
    # Another listing adds to it and moves nothing, with another size of partitions, too.
    later = plan.plan(archive, table({"a": 60, "aa": 1, "ab": 1, "b": 41, "e": 1}), 1)
    assert sorted(later[:5], key=lambda t: t.partition) == tasks
    assert names(archive, later) == want | {5: ["aa"], 6: ["ab"]}


@pytest.mark.parametrize("content", ["", "{}", '{"format": "mtfa-fast bulk 0", "settings": {}}', "[1]"])
def test_a_destination_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "_run.json").write_text(content)
    with pytest.raises(ValueError, match="of no run of this version"):
        made(tmp_path).begin({})


def test_a_destination_is_gone_on_with_only_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "theirs.txt").touch()
    with pytest.raises(ValueError, match="holds files of no run that mtfa-fast knows; allowed: an empty folder"):
        made(tmp_path).begin({})
    with pytest.raises(ValueError, match="got the file"):
        made(tmp_path / "theirs.txt").begin({})
    made(tmp_path / "out").begin({"weights": "1", "precision": "auto", "decisions": [{"a": (1, 2)}]})
    made(tmp_path / "out").begin({"weights": "1", "precision": "auto", "decisions": [{"a": (1, 2)}]})
    (tmp_path / "out" / "files").mkdir()
    (tmp_path / "out" / "files" / part(7)).touch()
    with pytest.raises(ValueError, match=r"was made with other source, weights; allowed: the same, or another place"):
        made(tmp_path / "out").begin({"weights": "2", "precision": "auto", "decisions": [{"a": [1, 2]}], "source": ""})
    assert json.loads((tmp_path / "out" / "_run.json").read_text())["settings"]["weights"] == "1"
    assert sorted(os.listdir(tmp_path / "out")) == ["_run.json", "files"]
    (tmp_path / "out" / "files" / part(7)).unlink()
    made(tmp_path / "out").begin({"weights": "2"})  # nothing was finished
    assert json.loads((tmp_path / "out" / "_run.json").read_text())["settings"] == {"weights": "2"}


def test_one_run_at_a_time(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(ValueError, match="another run is writing to"), made(tmp_path).alone():
        pass
    os.close(descriptor)
    with made(tmp_path).alone():
        pass


def test_listing_says_what_it_leaves_out(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    for name in ("a.wav", "b.FLAC", "c.txt", ".d.wav", ".git/e.wav", "deep/deeper/f.mp3"):
        (tmp_path / name).write_bytes(b"12345")
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "nowhere.wav").symlink_to("gone")
    (tmp_path / "deep" / "up").symlink_to("..")
    with open(os.fsencode(tmp_path) + b"/\xff.wav", "wb"):
        pass
    found = listing.recordings(storage.folder("source", tmp_path))
    rows = {os.path.relpath(row["file"], tmp_path): row["size"] for row in found.table.to_pylist()}
    assert rows == {"a.wav": 5, "b.FLAC": 5, "deep/deeper/f.mp3": 5, "nowhere.wav": 0}
    assert found.skipped == {
        "not audio (.txt)": 1,
        "hidden": 1,
        "pipes and devices": 1,
        "folder(s) linked twice": 1,
    }
    assert found.problems == [f"{tmp_path}/\\udcff.wav: its name is not UTF-8, and no table can hold it"]
    one = listing.recordings(storage.folder("source", tmp_path / "c.txt")).table.to_pylist()
    assert [(row["file"], row["size"]) for row in one] == [(str(tmp_path / "c.txt"), 5)]
    with pytest.raises(ValueError, match="source: no such file or folder"):
        listing.recordings(storage.folder("source", tmp_path / "none"))


@pytest.mark.parametrize("name", ["", "what://a/b"])
def test_places_that_nobody_can_open(name: str) -> None:
    with pytest.raises(ValueError, match="destination: got "):
        storage.folder("destination", name)
