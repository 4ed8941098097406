"""``mtfa-fast detect`` and ``info``: what is found, where results go, what is said, which exit code."""

from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import mtfa_fast
from mtfa_fast import detector as detector_module
from mtfa_fast.commands import common
from mtfa_fast.commands.cli import main
from mtfa_fast.commands.common import clock
from mtfa_fast.commands.discover import discover
from mtfa_fast.files import RealPaths
from tests.face import RATE, LoudnessEngine, LoudnessStream, knock, make_weights


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Works in a folder with two recordings, other files and a folder with a third; weights beside it."""
    monkeypatch.setattr(detector_module, "make_engine", LoudnessEngine)
    make_weights().save(tmp_path / "w.safetensors")
    day = tmp_path / "day"
    (day / "night").mkdir(parents=True)
    for name, at in (("a.wav", 1.0), ("b.flac", 0.5), ("night/a.wav", 0.24)):
        soundfile.write(day / name, knock(2.0, at), RATE)
    (day / "notes.txt").write_text("words")
    (day / "talk.docx").write_bytes(b"")
    (day / ".hidden.wav").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return day


def detect(*arguments: str) -> int:
    return main(["detect", *arguments, "--weights", "w.safetensors"])


def test_table_on_the_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert detect("day/a.wav") == 0
    out, err = capsys.readouterr()
    assert [line.split() for line in out.splitlines()] == [
        ["file", "onset", "offset", "score", "label"],
        ["day/a.wav", "1.000", "1.200", "0.800", "loud"],
        ["day/a.wav", "1.000", "1.200", "0.800", "audible"],
    ]
    assert err.startswith("1 recording (2.0 s), 2 events, in ") and err.count("\n") == 1


def test_folders_say_what_they_skip(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert detect("day", "--format", "tsv") == 0
    out, err = capsys.readouterr()
    assert [line.split("\t")[0] for line in out.splitlines()] == ["day/a.wav"] * 2 + ["day/b.flac"] * 2
    assert "found 2 recordings; skipped 4: 1 folder(s) (--recursive searches them), 1 hidden, " in err
    assert "1 not audio (.docx), 1 not audio (.txt)" in err
    assert detect("day", "--recursive", "--format", "tsv") == 0
    assert "day/night/a.wav\t0.240\t0.440\taudible" in capsys.readouterr().out


def test_discover_patterns_and_repetitions(folder: Path) -> None:
    def paths(*arguments: str, recursive: bool = False) -> list[str]:
        return [r.path for r in discover(arguments, recursive=recursive).recordings]

    assert paths("day/*") == ["day/a.wav", "day/b.flac"]
    assert paths("day/*.txt") == ["day/notes.txt"]  # asked for by suffix
    assert paths("**/a.*") == ["day/a.wav", "day/night/a.wav"]
    assert paths("day/b.flac", "day", recursive=True) == ["day/b.flac", "day/a.wav", "day/night/a.wav"]
    found = discover(["day", "day/../day/a.wav", "day/*.mp3", "nothing", "day/night/../none.wav"])
    assert found.skipped["named twice"] == 1
    assert found.problems == [
        "day/*.mp3: matches no audio file",
        "nothing: no such file or folder",
        "day/night/../none.wav: no such file or folder",
    ]
    odd = folder / "a[1].wav"
    odd.write_bytes((folder / "a.wav").read_bytes())
    assert paths("day/a[1].wav") == ["day/a[1].wav"]  # a name before a pattern


def test_one_file_for_all(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(os.listdir())
    assert detect("day", "-r", "-o", "all.csv", "--threshold", "loud=0.9", "-t", "0.5") == 0
    with open("all.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["file"], r["label"]) for r in rows] == [
        (f"day/{name}", "audible") for name in ("a.wav", "b.flac", "night/a.wav")
    ]
    assert detect("day", "-o", "all.json") == 0
    assert [(d["file"], d["duration"], len(d["events"])) for d in json.loads(Path("all.json").read_text())] == [
        ("day/a.wav", 2.0, 2),
        ("day/b.flac", 2.0, 2),
    ]
    assert set(os.listdir()) - before == {"all.csv", "all.json"}
    assert capsys.readouterr().out == ""


def test_a_name_that_is_not_utf8_is_only_a_name(folder: Path) -> None:
    strange = os.fsdecode(b"day/caf\xe9.wav")
    os.rename("day/a.wav", strange)
    assert detect(strange, "-o", "all.json") == 0
    [answer] = json.loads(Path("all.json").read_text())
    assert answer["file"] == strange and len(answer["events"]) == 2
    environment = {**os.environ, "PYTHONPATH": str(Path(mtfa_fast.__file__).parents[1]), "PYTHONIOENCODING": "utf-8"}
    command = [sys.executable, "-m", "mtfa_fast", "detect", strange, "-t", "0", "--weights", "w.safetensors"]
    done = subprocess.run(command, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert b"day/caf\\udce9.wav" in done.stdout


def test_one_file_each(folder: Path) -> None:
    (folder / "a.flac").write_bytes((folder / "b.flac").read_bytes())
    assert detect("day", "-r", "-o", "out/", "--format", "audacity") == 0
    written = {str(p.relative_to("out")) for p in Path("out").rglob("*") if p.is_file()}
    assert written == {"a.flac.txt", "a.wav.txt", "b.txt", "night/a.txt"}
    assert Path("out/a.wav.txt").read_text().splitlines()[0] == "1.000000\t1.200000\tloud"
    assert detect("day/b.flac", "-o", "out") == 0  # exists now
    assert Path("out/b.csv").read_text().count("\n") == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["day/a.wav", "--threshold", "dog=0.5"], "threshold: got class dog, allowed: loud, audible"),
        (["day/a.wav", "--threshold", "1.5"], "threshold of loud: got 1.5, allowed: 0 <= threshold <= 1"),
        (["day/a.wav", "--threshold", "loud"], "threshold: got 'loud', allowed: a number or CLASS=number"),
        (["day/a.wav", "--threshold", "nan"], "threshold of loud: got nan"),
        (["day/a.wav", "--jobs", "0"], "--jobs: got 0, allowed: an integer >= 1"),
        (["day/a.wav", "--jobs", "many"], "many"),
        (["day/a.wav", "--format", "xml"], "xml"),
        (["day/a.wav", "--nonsense"], "--nonsense"),
        (["day/a.wav", "--weights", "none.safetensors"], "weights: no file, folder or shipped weights called 'none"),
        (["day/a.wav", "--weights", "day/notes.txt"], "day/notes.txt: not a readable safetensors file"),
        (["day/a.wav", "-o", "all.txt"], "--format: not given, and --output 'all.txt' does not tell it"),
        (["day/a.wav", "-o", "no/where.csv"], "--output: folder 'no' does not exist"),
        (["day", "--format", "audacity"], "--format: got audacity for several recordings"),
        (["day/a.wav", "day/night/a.wav", "-o", "out/"], "would both be written to out/a.wav.csv"),
        ([], "FILES"),
    ],
)
def test_wrong_commands_do_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    before = set(os.listdir())
    weights = [] if "--weights" in arguments else ["--weights", "w.safetensors"]
    assert main(["detect", *arguments, *weights]) == 2
    out, err = capsys.readouterr()
    assert message in err and "Traceback" not in err
    assert out == ""
    assert set(os.listdir()) == before


def test_unknown_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detekt"]) == 2
    assert "detekt" in capsys.readouterr().err


def test_an_error_from_the_engine_is_one_files_error(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = LoudnessStream.finish

    def sometimes(self: LoudnessStream) -> np.ndarray:
        if self._blocks[0][round(0.6 * RATE)] > 0:
            raise RuntimeError("out of something")
        return finish(self)

    monkeypatch.setattr(LoudnessStream, "finish", sometimes)
    assert detect("day", "-o", "all.tsv") == 1
    assert "error: day/b.flac: out of something\n" in capsys.readouterr().err
    assert Path("all.tsv").read_text().startswith("day/a.wav\t1.000")


def test_progress_bar_only_on_terminals_and_long_work(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtfa_fast.commands.detect.LONG_SECONDS", 3.0)
    assert detect("day") == 0
    assert "%" not in capsys.readouterr().err
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert detect("day/a.wav") == 0
    assert "%" not in capsys.readouterr().err
    assert detect("day") == 0
    out, err = capsys.readouterr()
    assert "100 %" in err and "%" not in out
    assert len(out.splitlines()) == 5


def test_many_recordings_are_counted_and_no_header_is_read_first(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mtfa_fast.commands.detect.MANY", 2)
    monkeypatch.setattr("mtfa_fast.audio.files.stated_duration", lambda path: 1 / 0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert detect("day", "-o", "all.csv") == 0
    assert "100 %" in capsys.readouterr().err


def test_many_recordings_take_few_handles(folder: Path) -> None:
    for number in range(200):
        os.link(folder / "a.wav", folder / f"r{number:03d}.wav")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 30, before[1]))
    try:
        assert detect("day", "-o", "all.csv", "--scores", "scores") == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    with open("all.csv", newline="") as file:
        assert len(list(csv.DictReader(file))) == 2 * 202


def test_what_takes_long_is_said(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0

    def later() -> float:
        nonlocal now
        now += 1.0
        return now

    monkeypatch.setattr(common.time, "monotonic", later)
    told = common.Patience("looking")
    for done in range(20):
        told(done)
    assert capsys.readouterr().err.splitlines() == [f"looking: {done} so far" for done in (1, 3, 7, 15)]


def test_real_paths_are_the_systems(folder: Path) -> None:
    (folder / "link").symlink_to(folder / "night")
    (folder / "b.wav").symlink_to("night/a.wav")
    (folder / "gone.wav").symlink_to("nowhere")
    real = RealPaths()
    for path in (
        "day/a.wav",
        "day/b.wav",
        "day/gone.wav",
        "day/link/a.wav",
        "day/link/../a.wav",
        "day/link",
        "day/..",
        "day/",
        "none/at/all",
        ".",
        "/",
        str(folder / "a.wav"),
        "day/night/../a.wav",
    ):
        for _ in range(2):
            assert real(path) == os.path.realpath(path), path


def test_info_names_what_would_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_weights().save(tmp_path / "w.safetensors")
    assert main(["info", "--weights", str(tmp_path)]) == 0
    rows = dict(line.split(None, 1) for line in capsys.readouterr().out.splitlines())
    assert rows["mtfa-fast"] == mtfa_fast.__version__
    for name in ("python", "numpy", "torch", "weights", "network", "isa", "precision", "threads"):
        assert rows[name]
    assert "mtfa, 4 channels, 5 GRU units, 8000 Hz" in rows["network"]
    (tmp_path / "w.safetensors").write_bytes(b"damaged")
    assert main(["info", "--weights", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "instruction sets" in out and "w.safetensors: not a readable safetensors file" in out


def test_help_and_broken_pipe_in_a_process_of_their_own(folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(mtfa_fast.__file__).parents[1])}
    code = (
        "import sys; from mtfa_fast.commands.cli import main\n"
        "main(['detect', '--help']); assert 'torch' not in sys.modules"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert shown.returncode == 0, shown.stderr
    assert "--threshold" in shown.stdout and "--jobs" in shown.stdout
    command = [sys.executable, "-m", "mtfa_fast.commands.cli", "detect", "day/a.wav", "--weights", "w.safetensors"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*command, "-t", "0"], stdout=writer, stderr=subprocess.PIPE, text=True, env=environment)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_clock() -> None:
    assert [clock(s) for s in (0.04, 99.9, 100, 5_999, 10_800)] == ["0.0 s", "99.9 s", "1.7 min", "100.0 min", "3.0 h"]


def test_standard_input_is_a_recording(folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(mtfa_fast.__file__).parents[1])}
    command = [sys.executable, "-m", "mtfa_fast", "detect", "-", "-t", "0", "--weights", "w.safetensors"]
    done = subprocess.run(
        [*command, "--format", "json"], input=Path("day/a.wav").read_bytes(), capture_output=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    [answer] = json.loads(done.stdout)
    assert (answer["file"], answer["duration"]) == ("-", 2.0)
    done = subprocess.run(command, input=b"", capture_output=True, text=False, env=environment)
    assert done.returncode == 1 and b"error: -: cannot be decoded" in done.stderr


def test_a_channel_is_chosen_and_warnings_are_lines_said_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wave = knock(2.0, 1.0)
    soundfile.write("opposite.wav", np.stack([wave, -wave], 1), RATE, subtype="FLOAT")
    assert detect("opposite.wav", "./opposite.wav", "--format", "tsv") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("warning: opposite.wav: its 2 channels cancel") == 1 and "levels.py" not in err
    for channel in ("0", "max"):
        assert detect("opposite.wav", "--format", "tsv", "--channel", channel) == 0
        out, err = capsys.readouterr()
        assert out.splitlines() == [f"opposite.wav\t1.000\t1.200\t{label}" for label in ("loud", "audible")]
        assert "warning" not in err
    assert detect("opposite.wav", "--channel", "2") == 1
    assert "opposite.wav: channel: got 2, allowed: 0 to 1" in capsys.readouterr().err
    assert detect("opposite.wav", "--channel", "-1") == 2


def test_linked_folders_and_pipes_in_folders(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "link").symlink_to(folder / "night")
    (folder / "night" / "back").symlink_to(folder)
    os.mkfifo(folder / "pipe.wav")
    found = discover(["day"], recursive=True)
    assert [r.path for r in found.recordings] == ["day/a.wav", "day/b.flac", "day/link/a.wav"]
    assert found.skipped["folder(s) linked twice"] == 2 and found.skipped["pipes and devices"] == 1
    assert discover(["day"]).skipped["folder(s) (--recursive searches them)"] == 2
