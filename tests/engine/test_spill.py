"""Recordings whose frames do not fit in memory: the same bits by way of a file, errors in words, nothing left."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mtfa_fast.commands.cli import main
from mtfa_fast.engine.cpu import CpuEngine
from mtfa_fast.nn.convert import to_weights
from tests.networks import random_network

BLOCK = 1024  # frames of core/recurrent.h; two of them always stay in memory
NET = to_weights(random_network(channels=4, bands=8, hidden=5))
HOP = NET.config.features.hop


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    return tmp_path


def noise(frames: int) -> np.ndarray:
    """Samples that give so many frames."""
    return np.random.default_rng(frames).uniform(-0.5, 0.5, (frames - 1) * HOP + 1).astype(np.float32)


@pytest.mark.parametrize("frames", [2 * BLOCK, 2 * BLOCK + 1, 3 * BLOCK - 5, 3 * BLOCK, 5 * BLOCK + 77])
def test_the_bits_are_those_of_memory(folder: Path, frames: int) -> None:
    wave = noise(frames)
    expected = CpuEngine(NET, precision="fp32", threads=2).detect_wave(wave)
    assert len(expected) == frames
    for threads in (1, 3):
        engine = CpuEngine(NET, precision="fp32", threads=threads, memory=0)
        for _ in range(2):  # the second time with what the first one left
            stream = engine.stream()
            for part in np.array_split(wave, 7):
                stream.push(part)
                assert not list(folder.iterdir())  # it has no name, so nothing can stay behind
            # Bits, not numbers.
            assert np.array_equal(stream.finish().view(np.int32), expected.view(np.int32))
        short = noise(50)
        again = CpuEngine(NET, precision="fp32").detect_wave(short)
        assert np.array_equal(engine.detect_wave(short), again)


def test_a_file_is_used_beyond_the_limit_and_not_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(folder / "missing"))
    engine = CpuEngine(NET, precision="fp32", memory=0)
    assert len(engine.detect_wave(noise(2 * BLOCK))) == 2 * BLOCK
    with pytest.raises(
        OSError, match=r"No such file or directory \(making a temporary file in .*/missing for frames"
    ) as e:
        engine.detect_wave(noise(2 * BLOCK + 64))
    assert e.value.errno == errno.ENOENT
    row = 8 * 64 * 4  # bytes of a frame, at most: 5 units are padded to a multiple of the vector's
    more = CpuEngine(NET, precision="fp32", memory=4 * BLOCK * row / 1e9)
    assert len(more.detect_wave(noise(3 * BLOCK))) == 3 * BLOCK


def test_a_full_disk_is_said_and_costs_one_recording(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A limit on the size of files stands for the disk: the write fails in the same place."""
    weights, long = folder / "w.safetensors", folder / "long.wav"
    NET.save(weights)
    soundfile.write(long, noise(6 * BLOCK), NET.config.features.sample_rate)
    soundfile.write(folder / "short.wav", noise(64), NET.config.features.sample_rate)
    command = ["detect", str(long), str(folder / "short.wav"), "--weights", str(weights), "--format", "json"]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3 * BLOCK * 8 * 16 * 4, before[1]))
    try:
        assert main([*command, "--memory", "0"]) == 1
        out, err = capsys.readouterr()
        assert f"error: {long}: File too large (writing in {folder} for frames that do not fit in memory" in err
        assert "short.wav" in out and "long.wav" not in out
        assert main(command) == 0  # in memory there is room
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert main([*command, "--memory", "0"]) == 0
    assert sorted(os.listdir(folder)) == ["long.wav", "short.wav", "w.safetensors"]


def test_an_engine_is_whole_after_a_failure(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wave = noise(3 * BLOCK)
    engine = CpuEngine(NET, precision="fp32", memory=0)
    expected = engine.detect_wave(wave)
    with monkeypatch.context() as patch:
        patch.setenv("TMPDIR", str(folder / "missing"))
        with pytest.raises(OSError):
            engine.detect_wave(wave)
    assert np.array_equal(engine.detect_wave(wave), expected)


@pytest.mark.parametrize("memory", [-1, float("nan"), float("inf"), "much"])
def test_what_is_no_memory(memory: object) -> None:
    with pytest.raises(ValueError, match=r"memory: got .*, allowed: 0 <= memory < 1e9, in GB"):
        CpuEngine(NET, memory=memory)  # type: ignore[arg-type]
