"""``mtfa-fast quantize``: a weight file that int8 runs, what it prints, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from mtfa_fast.checking.verification import probe
from mtfa_fast.commands.cli import main
from mtfa_fast.detector import Detector
from mtfa_fast.nn.convert import to_weights
from mtfa_fast.weights import Weights
from tests.networks import random_network


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights, and recordings of a second in a folder of a folder, one of which is damaged."""
    monkeypatch.chdir(tmp_path)
    weights = to_weights(random_network(channels=16, bands=16))
    weights.save("w.safetensors")
    sounds = tmp_path / "sounds" / "deep"
    sounds.mkdir(parents=True)
    for i in range(3):
        rate = weights.config.features.sample_rate
        soundfile.write(sounds / f"{i}.wav", probe(weights.config, 1.0) * (1 + i) / 3, rate)
    (sounds / "broken.wav").write_bytes(b"RIFF")
    return tmp_path


def test_the_file_runs_in_int8(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quantize", "w.safetensors", "sounds", "-r", "-o", "q.safetensors", "--threads", "1"]) == 1
    told = capsys.readouterr()
    assert "broken.wav" in told.err and "written to q.safetensors" in told.err
    assert "steps of 23 maps and 24 convolutions, chosen on 3 recordings, 3.1 s" in told.out
    assert "identical events in" in told.out
    before, after = Weights.load("w.safetensors"), Weights.load("q.safetensors")
    for name, tensor in before.tensors.items():
        np.testing.assert_array_equal(after.tensors[name], tensor)
    result = Detector(after, precision="int8")("sounds/deep/0.wav")
    plain = Detector(before, precision="fp32")("sounds/deep/0.wav")
    assert 0 < np.abs(result.probabilities - plain.probabilities).max() < 0.05
    assert main(["verify", "q.safetensors", "--seconds", "1", "--precision", "int8"]) == 0
    assert "8-bit convolutions" in capsys.readouterr().out
    timed = [
        "--weights",
        "q.safetensors",
        "--precision",
        "int8",
        "--clip",
        "0.5",
        "--seconds",
        "0.01",
        "--threads",
        "1",
    ]
    assert main(["bench", *timed]) == 0
    told = capsys.readouterr().out
    assert "mtfa-fast int8" in told and "as direct convolutions count" in told and "nan" not in told
    assert main(["detect", "sounds/deep/0.wav", "--weights", "w.safetensors", "--precision", "int8"]) == 2
    assert "mtfa-fast quantize" in capsys.readouterr().err


def test_minutes_bound_what_is_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["quantize", "w.safetensors", "sounds/deep/*.wav", "-o", "q.safetensors", "--threads", "1"]
    main([*command, "--minutes", "0.02"])
    assert "chosen on 2 recordings, 1.2 s" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sounds", "-o", "q.npz"], "--output: got 'q.npz', allowed: a .safetensors file"),
        (["sounds", "-o", "q.safetensors"], "recordings: got none that can be read"),
        (["sounds", "-r", "-o", "q.safetensors", "--minutes", "0"], "--minutes: got 0, allowed: > 0"),
        (["sounds", "-r", "-o", "q.safetensors", "--check", "nowhere"], "nowhere"),
    ],
)
def test_wrong_commands_do_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["quantize", "w.safetensors", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not Path("q.safetensors").exists()
