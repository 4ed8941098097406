"""``mtfa-fast listen``: pipes that end, stop and are killed; lines, clips, signals, times of day, what falls behind."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import mtfa_fast
from mtfa_fast import detector as detector_module
from mtfa_fast.audio.incoming import Blocks
from mtfa_fast.commands import queued
from mtfa_fast.commands.cli import main
from mtfa_fast.commands.clips import Clips
from mtfa_fast.commands.queued import Clock, Queued
from mtfa_fast.events.result import Event
from tests.face import RATE, LoudnessEngine, knock, make_weights

SPANS = [("audible", 1.0, 1.2), ("loud", 1.0, 1.2)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Works in a folder with weights and a recording, a.wav; the engine is the loudness."""
    monkeypatch.setattr(detector_module, "make_engine", LoudnessEngine)
    make_weights().save(tmp_path / "w.safetensors")
    soundfile.write(tmp_path / "a.wav", knock(6.0, 1.0), RATE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def listen(*arguments: str) -> int:
    return main(["listen", *arguments, "--weights", "w.safetensors"])


def spans(out: str) -> list[tuple[str, float, float]]:
    return [(row["label"], row["onset"], row["offset"]) for row in map(json.loads, out.splitlines())]


@pytest.fixture
def piped() -> Iterator[Any]:
    """Gives standard input the bytes of a call."""
    kept, threads = os.dup(0), []

    def give(content: bytes) -> None:
        read, write = os.pipe()
        os.dup2(read, 0)
        os.close(read)

        def pour() -> None:
            with open(write, "wb") as file:
                file.write(content)

        threads.append(threading.Thread(target=pour))
        threads[-1].start()

    yield give
    os.dup2(kept, 0)
    os.close(kept)
    for thread in threads:
        thread.join()


def test_a_wav_on_standard_input(folder: Path, piped: Any, capsys: pytest.CaptureFixture[str]) -> None:
    piped((folder / "a.wav").read_bytes())
    before = datetime.now(timezone.utc)
    assert listen() == 0
    out, err = capsys.readouterr()
    assert spans(out) == SPANS
    row = json.loads(out.splitlines()[0])
    assert list(row) == ["time", "label", "onset", "offset", "score"] and row["score"] == pytest.approx(0.8, abs=1e-4)
    # The pipe gave all six seconds at once, so what was heard at its first second is five seconds old.
    assert -6 < (datetime.fromisoformat(row["time"]) - before).total_seconds() < 6
    assert err.splitlines()[0].startswith("listening: 8000 Hz, 1 channel; an event is told ")
    assert err.splitlines()[-1] == "6.0 s heard, 2 events"


@pytest.mark.parametrize("encoding", ["s16le", "f32le"])
def test_bare_samples(folder: Path, piped: Any, capsys: pytest.CaptureFixture[str], encoding: str) -> None:
    stereo = np.stack([knock(6.0, 1.0)] * 2, 1)
    content = stereo.astype("<f4") if encoding == "f32le" else (stereo * 32_767).astype("<i2")
    piped(content.tobytes()[:-1])
    assert listen("-", "--encoding", encoding, "--rate", str(RATE), "--channels", "2", "--format", "tsv") == 0
    out, err = capsys.readouterr()
    assert [line.split("\t")[1:] for line in out.splitlines()] == [
        ["1.000", "1.200", "audible"],
        ["1.000", "1.200", "loud"],
    ]
    assert "stopped within a sample" in err


def test_formats_and_thresholds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert listen("a.wav", "--format", "csv", "-t", "loud=0.9") == 0
    [row] = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (row["label"], row["onset"], row["offset"], row["score"]) == ("audible", "1.000", "1.200", "0.8000")
    assert listen("a.wav", "--format", "table") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1:] for line in lines[1:]] == [
        ["1.000", "1.200", "0.800", "audible"],
        ["1.000", "1.200", "0.800", "loud"],
    ]


def test_nan_is_said_and_the_stream_goes_on(folder: Path, piped: Any, capsys: pytest.CaptureFixture[str]) -> None:
    samples = knock(6.0, 3.0)
    samples[4_000:4_100] = np.nan
    piped(samples.astype("<f4").tobytes())
    assert listen("--encoding", "f32le", "--rate", str(RATE), "--clips", "clips") == 0
    out, err = capsys.readouterr()
    assert [start for _, start, _ in spans(out)] == [3.0, 3.0]
    assert "NaN or infinite samples from 0.500 s on: read as silence" in err
    assert err.splitlines()[-1] == "6.0 s heard, 2 events; 100 samples were NaN or infinite"


def test_clips_hold_the_event_and_a_second_around_it(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wave = knock(40.0, 5.0, length=12.0) + knock(40.0, 39.5, length=0.6)
    soundfile.write("b.wav", np.stack([wave, -wave / 2], 1), RATE, subtype="PCM_16")
    os.mkfifo("pipe")
    writer = threading.Thread(target=lambda: Path("pipe").write_bytes(Path("b.wav").read_bytes()))
    writer.start()
    assert listen("pipe", "--clips", "clips", "-t", "0.35") == 0  # the mean of both channels is a quarter
    writer.join()
    assert capsys.readouterr().out == ""
    assert list(Path("clips").iterdir()) == []
    writer = threading.Thread(target=lambda: Path("pipe").write_bytes(Path("b.wav").read_bytes()))
    writer.start()
    assert listen("pipe", "--clips", "clips", "-t", "0.1") == 0
    writer.join()
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["onset"], row["offset"]) for row in rows] == [(5.0, 17.0), (5.0, 17.0), (39.5, 40.0), (39.5, 40.0)]
    assert sorted(row["clip"] for row in rows) == sorted(path.name for path in Path("clips").iterdir())
    whole, _ = soundfile.read("b.wav", dtype="int16")
    for row in rows:
        clip, rate = soundfile.read(Path("clips") / row["clip"], dtype="int16")
        first, last = (row["onset"] - 1) * RATE, min((row["offset"] + 1) * RATE, len(whole))
        assert rate == RATE
        np.testing.assert_array_equal(clip, whole[round(first) : round(last)])


def test_a_full_disk_costs_clips_and_no_events(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noise = np.random.default_rng(0).uniform(-1, 1, 20 * RATE).astype(np.float32)
    noise[: 2 * RATE] = 0
    noise[-2 * RATE :] = 0
    soundfile.write("n.wav", noise, RATE)
    limits, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))  # a clip would be five times as large
    try:
        assert listen("n.wav", "--clips", "clips", "-t", "0.000001") == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    out, err = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    assert len(rows) == 2 and all(row["clip"] is None for row in rows)
    assert err.count("error: no clip of ") == 2 and "2 clips not written" in err and "Traceback" not in err
    assert list(Path("clips").iterdir()) == []


def test_a_clip_reaches_back_only_so_far(tmp_path: Path) -> None:
    clips = Clips(tmp_path, 100, 1, delay=3.0)
    for second in range(200):
        clips.hear(np.full((100, 1), second, np.int16))
    assert clips._end - clips._first <= 64 * 100
    late = Event("late", 10.0, 199.0, 1.0)
    clips.begin(late, "late")
    clips.hear(np.full((100, 1), 200, np.int16))
    name, reason = clips.end(late)
    assert reason == "" and name is not None
    content = soundfile.read(tmp_path / name, dtype="int16")[0]
    assert content[0] == 136 and content[-1] == 199 and len(content) == 64 * 100
    with pytest.raises(ValueError, match="--clips: got 9 channels at 100 Hz, allowed: 1 to 8"):
        Clips(tmp_path, 100, 9, 3.0)


WRONG = {
    "encoding": (["--encoding", "s16le"], "rate: got None, allowed: Hz, with encoding s16le"),
    "unknown encoding": (["--encoding", "mp3", "--rate", "8000"], "encoding: got 'mp3', allowed: s16le"),
    "rate alone": (["--rate", "8000"], "encoding: got None, allowed: s16le"),
    "chunk": (["a.wav", "--chunk", "12"], "chunk: got 12, allowed: a multiple of 8"),
    "no file": (["none.wav"], "none.wav"),
    "device and source": (["a.wav", "--device", "mic"], "--device: got one with a source"),
    "threshold": (["a.wav", "-t", "7"], "threshold of loud: got 7.0"),
    "on": (["a.wav", "--on", "tpu"], "device: got 'tpu'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_commands_do_nothing(
    folder: Path, piped: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    if case in ("on", "chunk"):
        monkeypatch.undo()
        monkeypatch.chdir(folder)
    piped(b"")
    arguments, message = WRONG[case]
    assert listen(*arguments) == 2
    out, err = capsys.readouterr()
    assert message in err and "Traceback" not in err and out == ""


def test_a_stream_that_is_no_sound(folder: Path, piped: Any, capsys: pytest.CaptureFixture[str]) -> None:
    piped(b"<html>not found</html>")
    assert listen() == 2
    assert "begins with b'<html>not fo', allowed: a WAV header" in capsys.readouterr().err


# --- times of day and what falls behind ---


def test_times_follow_the_blocks_and_a_clock_that_is_set_back(capsys: pytest.CaptureFixture[str]) -> None:
    times = Clock()
    times.block(1.0, 1_000.0, 50.0)
    times.block(2.0, 1_010.0, 60.0)  # the pipe stood still for nine seconds
    assert times.at(0.5).timestamp() == 999.5 and times.at(1.5).timestamp() == 1_009.5
    assert times.note(Event("a", 1.25, 1.5, 1.0)).timestamp() == 1_009.25
    assert capsys.readouterr().err == ""
    times.block(3.0, 911.0, 61.0)
    assert "clock was set back by 1.7 min" in capsys.readouterr().err
    assert times.at(2.5).timestamp() == 910.5
    assert times.noted(Event("a", 1.25, 2.5, 1.0)).timestamp() == 1_009.25
    for second in range(4, 1_000):
        times.block(float(second), 908.0 + second, 58.0 + second)
    assert len(times._blocks) < 130


def test_falling_behind_is_said_and_nothing_is_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Time is simulated: a block of a second comes each second, and takes three to compute at first."""
    now = 0.0
    monkeypatch.setattr(queued.time, "monotonic", lambda: now)
    source = Queued(Blocks(100, 1, []))
    monkeypatch.setattr(source, "_read", lambda: None)
    for second in range(40):
        source._queue.put((np.full((100, 1), second), 1_000.0 + second, 1.0 + second))
        source._waiting += 100
    source._queue.put((None, 0.0, 0.0))
    got = []
    for block in source:
        got.append(int(block[0, 0]))
        now = max(now, 1.0 + got[-1]) + (3.0 if got[-1] < 5 else 0.1)
    assert got == list(range(40))
    err = capsys.readouterr().err
    assert err.startswith("behind real time by ") and err.count("behind real time by ") == 2
    assert err.endswith("in time again\n")
    assert source.summary().startswith("behind real time 1x, at most 10.0 s")


def test_a_fast_or_pausing_source_is_not_behind(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Queued(Blocks(100, 1, (np.zeros((100, 1), np.int16) for _ in range(500))))
    assert sum(map(len, source)) == 50_000 and source.summary() == ""
    now = 0.0
    monkeypatch.setattr(queued.time, "monotonic", lambda: now)
    source = Queued(Blocks(100, 1, (np.zeros((100, 1), np.int16) for _ in range(3))))
    for _ in source:
        now += 1_000.0
        time.sleep(0.05)
    assert capsys.readouterr().err.count("behind") <= 2  # while blocks waited; not for what had not come


# --- other processes ---

WRITER = """
import sys, time
content = open("a.wav", "rb").read()
out = sys.stdout.buffer
out.write(content[: 44 + 3 * 16_000 + 1]); out.flush()
print("written", file=sys.stderr, flush=True)
time.sleep(600)
"""


def start(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    environment = {**options.pop("env", os.environ), "PYTHONPATH": str(Path(mtfa_fast.__file__).parents[1])}
    command = [sys.executable, "-m", "mtfa_fast", "listen", *arguments, "--weights", "w.safetensors", "-t", "0"]
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=environment, **{**streams, **options})


@pytest.mark.parametrize("ending", ["killed writer", "SIGINT", "SIGTERM"])
def test_a_real_pipe_ends_in_the_middle(folder: Path, ending: str) -> None:
    """The C++ engine, random weights and a threshold of 0: one event a class, which ends where the sound does."""
    writer = subprocess.Popen([sys.executable, "-c", WRITER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    listener = start(stdin=writer.stdout)
    assert writer.stdout and writer.stderr and listener.stderr
    writer.stdout.close()
    assert writer.stderr.readline() == "written\n"
    first = listener.stderr.readline()
    assert first.startswith("listening: 8000 Hz, 1 channel")
    if ending == "killed writer":
        writer.kill()
    else:
        time.sleep(1.0)  # what has been written is read by then
        listener.send_signal(getattr(signal, ending))
    out, err = listener.communicate(timeout=60)
    writer.kill()
    writer.wait()
    assert listener.returncode == 0, err
    rows = [json.loads(line) for line in out.splitlines()]
    assert sorted((row["label"], row["onset"], row["offset"]) for row in rows) == [
        ("audible", 0, 3.0),
        ("loud", 0, 3.0),
    ]
    assert err.splitlines()[-1] == "3.0 s heard, 2 events"
    assert ("stopped within a sample: 1 of 2 bytes" in err) == (ending == "killed writer")


def test_a_closed_pipe_behind_ends_quietly(folder: Path) -> None:
    listener = start("a.wav")
    assert listener.stdout and listener.stderr
    listener.stdout.close()
    assert "Traceback" not in listener.stderr.read()
    assert listener.wait(60) == 0


# --- microphones ---


class FakeSound(types.ModuleType):
    """What sounddevice is to a program: a device that says a second of sound at once and then stops."""

    PortAudioError = type("PortAudioError", (Exception,), {})

    def query_devices(self, device: Any, kind: str) -> dict[str, Any]:
        if device == "none":
            raise ValueError("No input device matching 'none'")
        return {"default_samplerate": float(RATE)}

    def InputStream(self, **options: Any) -> Any:
        self.options = options
        wave = knock(6.0, 1.0)[:, None]

        def begin() -> None:
            for i, block in enumerate(np.split(wave, 60)):
                status = types.SimpleNamespace(input_overflow=i == 7)
                shared = block.copy()
                options["callback"](shared, len(block), None, status)
                shared[:] = np.nan  # the library's memory, used again

        return types.SimpleNamespace(start=begin, close=lambda: None, active=False)


def test_a_microphone_that_is_unplugged(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", FakeSound("sounddevice"))
    assert listen("--device", "usb") == 1
    out, err = capsys.readouterr()
    assert spans(out) == SPANS
    assert "the device lost sound: 1x before " in err
    assert "error: usb: the device stopped, unplugged or taken away" in err
    assert err.splitlines()[-1] == "6.0 s heard, 2 events; the device lost sound 1x"
    assert listen("--device", "none") == 2
    assert "none: No input device matching" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert listen("--device", "usb") == 2
    assert "pip install 'mtfa-fast[live]'" in capsys.readouterr().err


def has_portaudio() -> bool:
    try:
        import sounddevice  # noqa: F401
    except (ImportError, OSError):  # the library that it wraps may be missing, too
        return False
    return sys.platform == "linux"


@pytest.mark.skipif(not has_portaudio(), reason="needs sounddevice with PortAudio, on Linux")
def test_a_real_sound_library_with_alsas_null_device(folder: Path) -> None:
    (folder / "asound.conf").write_text('pcm.!default { type null hint { show on description "silence" } }\n')
    listener = start("--device", "default", "--rate", str(RATE), env=os.environ | {"ALSA_CONFIG_PATH": "asound.conf"})
    assert listener.stderr and listener.stderr.readline().startswith("listening: 8000 Hz, 1 channel")
    time.sleep(1.5)
    listener.send_signal(signal.SIGTERM)
    out, err = listener.communicate(timeout=60)
    assert listener.returncode == 0, err
    assert {json.loads(line)["onset"] for line in out.splitlines()} == {0.0}
    assert re.search(r"[1-9]\.\d s heard, 2 events", err)
