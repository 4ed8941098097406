"""What a run finished is not lost: signals to real processes, ``--resume``, full disks, long names."""

from __future__ import annotations

import csv
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import soundfile

import mtfa_fast
from mtfa_fast import detector as detector_module
from mtfa_fast.commands.cli import main
from tests.face import RATE, LoudnessEngine, knock, make_weights

ROOT = Path(mtfa_fast.__file__).parents[1]
NAMES = [f"r{number:02d}" for number in range(12)]
# The engine of tests.face, which waits before every answer, so that there is a time to be interrupted.
SLOW = """
import sys
from functools import partial
from mtfa_fast import detector
from tests.face import LoudnessEngine
detector.make_engine = partial(LoudnessEngine, delay=float(sys.argv.pop(1)))
from mtfa_fast.commands.cli import main
sys.exit(main())
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(detector_module, "make_engine", LoudnessEngine)
    monkeypatch.chdir(tmp_path)
    make_weights().save("w.safetensors")
    Path("in").mkdir()
    for number, name in enumerate(NAMES):
        soundfile.write(f"in/{name}.wav", knock(2.0, 0.1 * number, loudness=0.0 if number % 3 == 1 else 0.8), RATE)
    return tmp_path


def detect(*arguments: str) -> int:
    return main(["detect", *arguments, "--weights", "w.safetensors", "--jobs", "1"])


def start(*arguments: str, delay: float = 0.1, **options: object) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SLOW, str(delay), "detect", *arguments, "--weights", "w.safetensors", "-j", "1"]

    def revive() -> None:
        """A shell's background jobs are started with SIGINT ignored, nohup's with SIGHUP, and Python leaves it so."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, preexec_fn=revive, **options)  # type: ignore[call-overload,no-any-return]


def stop_after(journal: Path, lines: int, process: subprocess.Popen[bytes], number: int) -> tuple[int, str]:
    """Send a signal when the journal has so many lines; exit code and what was said."""
    until = time.monotonic() + 60
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= lines):
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return process.returncode, err.decode()


@pytest.mark.parametrize(
    ("form", "stop"),
    [
        ("csv", signal.SIGINT),
        ("csv", signal.SIGKILL),
        ("json", signal.SIGTERM),
        ("json", signal.SIGKILL),
        ("tsv", signal.SIGHUP),
        ("table", signal.SIGKILL),
    ],
)
def test_an_interrupted_run_keeps_what_is_finished_and_goes_on(folder: Path, form: str, stop: signal.Signals) -> None:
    suffix = {"table": "txt"}.get(form, form)
    assert detect("in", "--format", form, "-o", f"whole.{suffix}") == 0
    target = f"all.{suffix}"
    process = start("in", "--format", form, "-o", target)
    code, err = stop_after(folder / "all.partial.jsonl", 4, process, stop)
    assert code == {signal.SIGINT: 130, signal.SIGKILL: -9}.get(stop, 128 + stop)
    assert not Path(target).exists()
    partial = Path(f"all.partial.{suffix}")
    finished = Path("all.partial.jsonl").read_bytes().count(b"\n") - 1
    assert finished >= 3
    if form == "json":
        assert len(json.loads(partial.read_text())) >= 3
    if form == "csv":
        assert {row["file"] for row in csv.DictReader(partial.open())} >= {"in/r00.wav", "in/r02.wav"}
    if stop != signal.SIGKILL:
        assert "all.partial" in err and "--resume goes on" in err
    assert {p for p in os.listdir() if p.startswith(".")} == set()
    assert detect("in", "--format", form, "-o", target) == 2  # nothing finished is thrown away without a word
    assert detect("in", "--format", form, "-o", target, "--resume") == 0
    assert Path(target).read_bytes() == Path(f"whole.{suffix}").read_bytes()
    assert not partial.exists() and not Path("all.partial.jsonl").exists()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_folder_goes_on(folder: Path, stop: signal.Signals) -> None:
    """Label tracks do not say who wrote them; the journal knows."""
    assert detect("in", "--format", "audacity", "-o", "whole/") == 0
    stop_after(folder / "out" / "run.partial.jsonl", 4, start("in", "--format", "audacity", "-o", "out/"), stop)
    assert len(list(Path("out").glob("*.txt"))) >= 2
    before = {p: p.stat().st_mtime_ns for p in Path("out").glob("*.txt")}
    assert detect("in", "--format", "audacity", "-o", "out/", "--resume") == 0
    assert {p.name: p.read_bytes() for p in Path("out").iterdir()} == {
        p.name: p.read_bytes() for p in Path("whole").iterdir()
    }
    kept = [p for p, time_ in before.items() if p.stat().st_mtime_ns == time_]
    assert len(kept) >= len(before) - 1  # at most the recording at work is done again


def test_a_run_is_gone_on_with_only_as_it_was(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stop_after(folder / "all.partial.jsonl", 4, start("in", "-o", "all.csv"), signal.SIGINT)
    assert detect("in", "-o", "all.csv", "--resume", "-t", "0.5") == 2
    assert "the interrupted run had other decisions" in capsys.readouterr().err
    # A recording that changed meanwhile is heard again, in its place; a torn last line is not believed.
    soundfile.write("in/r00.wav", knock(2.0, 1.5), RATE)
    with open("all.partial.jsonl", "ab") as file:
        file.write(b'{"file": "in/r11.w')
    assert detect("in", "-o", "all.csv", "--resume") == 0
    assert detect("in", "-o", "whole.csv") == 0
    assert Path("all.csv").read_bytes() == Path("whole.csv").read_bytes()


def test_json_that_was_interrupted_on_the_terminal_is_whole(folder: Path) -> None:
    with open("out.json", "wb") as out:
        process = start("in", "--format", "json", stdout=out)
        until = time.monotonic() + 60
        while Path("out.json").stat().st_size < 300 and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert 1 <= len(json.loads(Path("out.json").read_text())) < len(NAMES)


def test_a_long_name_is_no_reason_to_stop(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """240 bytes and more leave room for nothing beside them; 252 and a longer suffix do not fit at all."""
    for length in (240, 251):
        os.link("in/r00.wav", f"in/{'a' * (length - 4)}.wav")
    assert detect("in", "--format", "csv", "-o", "out/") == 0
    assert len(list(Path("out").glob("*.csv"))) == len(NAMES) + 2
    os.link("in/r00.wav", f"in/{'b' * 251}.wav")
    assert detect("in", "--format", "json", "-o", "json/") == 1
    assert "File name too long" in capsys.readouterr().err
    assert len(list(Path("json").glob("*.json"))) == len(NAMES) + 2
    assert detect("in", "-o", "c" * 250 + ".csv") == 0
    assert detect("in", "-o", "é" * 125 + ".json") == 0


def test_a_disk_that_fills_costs_what_does_not_fit(folder: Path) -> None:
    assert detect("in", "-o", "whole.json") == 0
    limit = Path("whole.json").stat().st_size // 2
    code = "import resource, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
    code += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
    command = [sys.executable, "-c", code + SLOW, "0", "detect", "in", "-o", "all.json", "--weights", "w.safetensors"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "File too large" in done.stderr and "--resume goes on" in done.stderr
    assert not Path("all.json").exists()
    kept = json.loads(Path("all.partial.json").read_text())
    assert 1 <= len(kept) < len(NAMES)
    assert detect("in", "-o", "all.json", "--resume") == 0
    assert Path("all.json").read_bytes() == Path("whole.json").read_bytes()


def test_json_is_json_on_every_terminal(folder: Path) -> None:
    os.rename("in/r00.wav", "in/überall.wav")
    for encoding in ("ascii", "latin-1", "utf-8"):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding}
        command = [sys.executable, "-c", SLOW, "0", "detect", "in/überall.wav", "--format", "json"]
        done = subprocess.run([*command, "--weights", "w.safetensors"], capture_output=True, env=environment)
        assert json.loads(done.stdout.decode())[0]["file"] == "in/überall.wav", done.stdout


def test_a_detector_can_be_sent_to_other_processes(folder: Path) -> None:
    from copy import deepcopy

    detector = detector_module.Detector.from_pretrained("w.safetensors")
    for other in (pickle.loads(pickle.dumps(detector)), deepcopy(detector)):
        assert other("in/r00.wav").events == detector("in/r00.wav").events
        assert other.engine is not detector.engine
