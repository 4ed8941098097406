"""Every bad input of DESIGN.md section 8 through the real engine: an error that names it, the rest goes on."""

from __future__ import annotations

import json
import os
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mtfa_fast.commands.cli import main
from mtfa_fast.detector import Detector
from mtfa_fast.events.result import Result
from tests.face import RATE, knock, make_weights


def noise(samples: int, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(7).uniform(-0.5, 0.5, (samples, channels)).astype(np.float32)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    make_weights(2).save(path)
    return path


GOOD = {
    "plain.wav": 2.0,
    "one_sample.wav": 1 / RATE,
    "silence.wav": 2.0,
    "eight_channels.flac": 1.5,
    "8_khz.flac": 1.0,
    "192_khz.wav": 1.0,
    "flac_inside.wav": 1.0,
    "half.ogg": None,  # a stream without a stated length: what is there is heard
}
BAD = {
    "empty.wav": "cannot be decoded",
    "no_samples.wav": "holds no samples",
    "truncated.flac": "cannot be decoded|truncated",
    "truncated.wav": "truncated",
    "words.wav": "cannot be decoded",
    "nan.wav": "NaN or infinite sample at 0.500 s",
    "dangling.wav": "No such file",
    "folder.wav": "",  # a folder, whatever its name
}


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")

    def write(name: str, samples: np.ndarray, rate: int, **options: str) -> bytes:
        soundfile.write(folder / name, samples, rate, **options)
        return (folder / name).read_bytes()

    write("plain.wav", knock(2.0, 0.5), RATE)
    write("one_sample.wav", noise(1), RATE)
    write("silence.wav", np.zeros(2 * RATE, np.float32), RATE)
    write("eight_channels.flac", noise(3 * RATE // 2, 8), RATE)
    write("8_khz.flac", noise(8_000), 8_000)
    write("192_khz.wav", noise(192_000), 192_000)
    write("flac_inside.wav", noise(RATE), RATE, format="FLAC")
    ogg = write("half.ogg", noise(4 * RATE), RATE)
    (folder / "half.ogg").write_bytes(ogg[: len(ogg) // 2])
    (folder / "empty.wav").write_bytes(b"")
    write("no_samples.wav", noise(0), RATE)
    flac = write("truncated.flac", noise(RATE), RATE)
    (folder / "truncated.flac").write_bytes(flac[: len(flac) * 2 // 3])
    wav = write("truncated.wav", noise(RATE), RATE)
    (folder / "truncated.wav").write_bytes(wav[: len(wav) * 2 // 3])
    (folder / "words.wav").write_text("these are words")
    bad = noise(RATE)
    bad[RATE // 2] = np.nan
    write("nan.wav", bad, RATE, subtype="FLOAT")
    (folder / "dangling.wav").symlink_to(folder / "nothing")
    (folder / "folder.wav").mkdir()
    return folder


def test_bad_files_are_named_and_the_others_are_heard(
    recordings: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = sorted([*GOOD, *BAD])
    target = tmp_path / "all.json"
    paths = [str(recordings / name) for name in names]
    assert main(["detect", *paths, "-o", str(target), "-t", "0", "--weights", str(weights), "--jobs", "3"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" not in err
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == len(BAD)
    for name, message in BAD.items():
        [line] = [line for line in errors if str(recordings / name) in line]
        assert any(part in line for part in message.split("|")), line
    answers = {Path(d["file"]).name: d for d in json.loads(target.read_text())}
    assert list(answers) == [name for name in names if name in GOOD]
    for name, duration in GOOD.items():
        answer = answers[name]
        if duration is None:
            assert 0.5 < answer["duration"] < 4.0
        else:
            assert answer["duration"] == pytest.approx(duration, abs=1 / RATE)
        # With a threshold of zero each class is one event over the whole recording.
        assert {e["label"]: (e["onset"], e["offset"]) for e in answer["events"]} == (
            {"loud": (0.0, answer["duration"]), "audible": (0.0, answer["duration"])}
            if name != "one_sample.wav"  # its one frame does not outlive the filter of 3
            else {"audible": (0.0, answer["duration"])}
        )
        assert all(0 < e["score"] < 1 for e in answer["events"])
    assert os.listdir(tmp_path) == ["all.json"]


def test_only_bad_files_write_nothing(
    recordings: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = [str(recordings / name) for name in BAD]
    for output in (tmp_path / "all.csv", f"{tmp_path / 'out'}/"):
        assert main(["detect", *bad, "-o", str(output), "--weights", str(weights)]) == 1
    assert main(["detect", *bad, "--weights", str(weights)]) == 1
    assert capsys.readouterr().out == ""
    assert os.listdir(tmp_path) == []


def test_a_folder_without_audio(
    recordings: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("words")
    assert main(["detect", str(tmp_path), "--weights", str(weights)]) == 1
    out, err = capsys.readouterr()
    assert (
        f"error: {tmp_path}: no audio files in this folder\nfound 0 recordings; skipped 1: 1 not audio (.txt)\n" == err
    )
    assert out == ""
    good = str(recordings / "plain.wav")
    assert main(["detect", str(tmp_path), good, "-t", "0", "--weights", str(weights)]) == 1
    assert good in capsys.readouterr().out


def test_a_label_missing_from_the_weights(
    recordings: Path, weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "all.csv"
    good = str(recordings / "plain.wav")
    assert main(["detect", good, "-t", "gunshot=0.4", "-o", str(target), "--weights", str(weights)]) == 2
    assert "threshold: got class gunshot, allowed: loud, audible" in capsys.readouterr().err
    assert os.listdir(tmp_path) == []


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def long_header(data: bytes) -> bytes:
    return struct.pack("<Q", 2**40) + data[8:]


def not_a_number(data: bytes) -> bytes:
    return data[:-4] + b"\xff\xff\xff\x7f"


def other_version(data: bytes) -> bytes:
    return data.replace(b'"format_version":"1"', b'"format_version":"9"')


@pytest.mark.parametrize("damage", [half, long_header, not_a_number, other_version])
def test_corrupt_weights(
    recordings: Path,
    weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[bytes], bytes],
) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(damage(weights.read_bytes()))
    assert damaged.read_bytes() != weights.read_bytes()
    good = str(recordings / "plain.wav")
    assert main(["detect", good, "-o", str(tmp_path / "all.csv"), "--weights", str(damaged)]) == 2
    err = capsys.readouterr().err
    assert str(damaged) in err and "Traceback" not in err
    with pytest.raises(ValueError, match=r"damaged\.safetensors"):
        Detector.from_pretrained(damaged)
    assert os.listdir(tmp_path) == ["damaged.safetensors"]


def test_a_file_that_may_not_be_read(recordings: Path, weights: Path) -> None:
    detector = Detector.from_pretrained(weights)
    # Not tmp_path: its parents are closed to others, and root, who may read every file, is somebody else meanwhile.
    with tempfile.TemporaryDirectory() as folder:
        plain, secret = Path(folder) / "plain.wav", Path(folder) / "secret.wav"
        for path, mode in ((plain, 0o644), (secret, 0)):
            path.write_bytes((recordings / "plain.wav").read_bytes())
            path.chmod(mode)
        os.chmod(folder, 0o755)
        dict(detector.detect_files([plain]))  # everything is imported
        user = os.geteuid()
        if user == 0:
            os.seteuid(65_534)
        try:
            answers = dict(detector.detect_files([secret, plain]))
        finally:
            os.seteuid(user)
    assert isinstance(answers[secret], PermissionError)
    assert isinstance(answers[plain], Result)
