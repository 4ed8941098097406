"""Real Ray, embedded: workers and drivers that are killed or stopped lose nothing and double nothing."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import soundfile

import mtfa_fast
from tests.bulk.archives import events_of, files_of, heard_by_one
from tests.face import RATE, knock, make_weights

if importlib.util.find_spec("ray") is None or importlib.util.find_spec("pyarrow") is None:
    pytest.skip("Ray Data is not installed", allow_module_level=True)

ROOT = Path(mtfa_fast.__file__).parents[1]
PATIENCE = 600  # seconds; 30 on a quiet machine
MARK = "MTFA_TEST_RUN"  # in the environment of the driver and of all that it starts
# The command, with workers that take their time, and one that dies of a recording whose name says so.
DRIVER = """
import os, signal, sys, time
from pathlib import Path
from mtfa_fast.bulk import run
from mtfa_fast.commands.cli import main

flag, delay = Path(sys.argv.pop(1)), float(sys.argv.pop(1))

class Mortal(run.Worker):
    def work(self, task):
        time.sleep(delay)
        return super().work(task)

    def _open(self, name):
        if "deadly" in name and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._open(name)

run.Worker = Mortal
sys.exit(main())
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "in" / "below").mkdir(parents=True)
    for number in range(20):
        name = {3: "deadly", 9: "below/r09"}.get(number, f"r{number:02d}")
        wave = knock(2.0, 0.1 * (number % 12), loudness=0.0 if number % 3 == 1 else 0.8)
        soundfile.write(tmp_path / "in" / f"{name}.wav", wave, RATE)
    (tmp_path / "in" / "r20.wav").write_text("not audio")
    (tmp_path / "in" / "notes.txt").touch()
    make_weights().save(tmp_path / "w.safetensors")
    yield tmp_path
    for process in of_this_run(tmp_path):
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Where Ray has its sockets: a short path, and empty unless a driver was killed."""
    with tempfile.TemporaryDirectory(prefix="mr-", dir="/tmp", ignore_cleanup_errors=True) as path:
        yield Path(path)


def start(folder: Path, scratch: Path, delay: float, workers: int = 1) -> subprocess.Popen[str]:
    arguments = ["bulk", "in", "out", "--weights", "w.safetensors", "--partition", "2", "-t", "0.01"]
    arguments += ["--workers", str(workers)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), MARK: str(folder), "RAY_TMPDIR": str(scratch)}
    environment.pop("RAY_ADDRESS", None)

    def revive() -> None:
        """A shell's background jobs are started with SIGINT ignored."""
        signal.signal(signal.SIGINT, signal.default_int_handler)

    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(folder / "died"), str(delay), *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=revive,
    )


def of_this_run(folder: Path) -> list[int]:
    """Processes that a driver of ours started, itself included."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if f"{MARK}={folder}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def parts(folder: Path) -> int:
    return len(list((folder / "out" / "files").glob("part-*.parquet")))


def stop_at(folder: Path, process: subprocess.Popen[str], wanted: int, number: signal.Signals) -> tuple[int, str, str]:
    """Send a signal when so many partitions are finished; exit code, stdout and stderr."""
    until = time.monotonic() + PATIENCE
    while parts(folder) < wanted:
        assert process.poll() is None and time.monotonic() < until, process.communicate()
        time.sleep(0.02)
    process.send_signal(number)
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


def test_killed_workers_and_drivers_lose_nothing_and_double_nothing(folder: Path, scratch: Path) -> None:
    code, _, _ = stop_at(folder, start(folder, scratch, 0.4, workers=2), 4, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert (folder / "died").exists(), "a worker died before"
    until = time.monotonic() + PATIENCE
    while of_this_run(folder) and time.monotonic() < until:  # Ray's processes end with their driver
        time.sleep(0.1)
    assert of_this_run(folder) == []
    # Only now: a worker may finish a partition after its driver's death.
    finished = {p.name: p.stat().st_mtime_ns for p in (folder / "out" / "files").iterdir()}
    left = set(os.listdir(scratch))

    code, out, err = stop_at(folder, start(folder, scratch, 0.4), len(finished) + 2, signal.SIGTERM)
    assert code == 128 + signal.SIGTERM and "the same command goes on" in err and "Traceback" not in err, err
    assert out == "" and set(os.listdir(scratch)) == left and not list((folder / "out" / "_work").glob("begun-*"))
    assert 6 <= parts(folder) < 11

    process = start(folder, scratch, 0.0)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1 and out == "" and "Traceback" not in err, err
    assert "found 21 recordings; skipped 1: 1 not audio (.txt); finished before:" in err
    assert f"error: {folder}/in/r20.wav: cannot be decoded" in err and "1 failed" in err
    assert set(os.listdir(scratch)) == left and os.listdir(folder / "out" / "_work") == []

    good = sorted((folder / "in").rglob("[dr]*.wav"))[:-1]
    events, durations = heard_by_one(folder / "w.safetensors", good, 0.01)
    assert len(events) > 10 and events_of(folder / "out") == events
    files = files_of(folder / "out")
    assert {name: row["duration"] for name, row in files.items() if row["error"] is None} == durations
    assert files.keys() - durations.keys() == {str(folder / "in" / "r20.wav")}
    kept = {p.name: p.stat().st_mtime_ns for p in (folder / "out" / "files").iterdir() if p.name in finished}
    assert kept == finished, "what was finished is not done again"
