"""Audio in: the right samples of every readable file, in bounded memory, and a clear error for the rest."""

from __future__ import annotations

import os
import struct
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mtfa_fast.audio import files as audio
from mtfa_fast.audio.files import AudioError

RATE = 44_100


def noise(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).uniform(-0.5, 0.5, (samples, channels)).astype(np.float32)
    return x[:, 0] if channels == 1 else x


def write(path: Path, x: np.ndarray, rate: int = RATE, **options: str) -> Path:
    soundfile.write(path, x, rate, **options)
    return path


@pytest.mark.parametrize("rate", [8_000, 22_050, RATE, 48_000, 192_000])
@pytest.mark.parametrize("channels", [1, 2, 8])
def test_every_rate_and_channel_count(tmp_path: Path, rate: int, channels: int) -> None:
    def tones(at: int) -> np.ndarray:  # (about 0.3 s, channels), band-limited: exact at every rate
        seconds = np.arange(at // 3 + 7)[:, None] / at
        return 0.5 * np.sin(2 * np.pi * np.linspace(300, 3_000, channels) * seconds)

    x = tones(rate).astype(np.float32)
    path = write(tmp_path / "a.wav", x, rate, subtype="FLOAT")
    got = audio.read(path, RATE)
    assert got.dtype == np.float32 and len(got) == round(len(x) * RATE / rate)
    edge = RATE // 50  # the conversion filter's length, where the silence beyond the ends is heard
    expected = tones(RATE).mean(axis=1)[edge : len(got) - edge]
    # soxr states a passband that is flat within 0.01 dB, 0.12 %.
    np.testing.assert_allclose(got[edge:][: len(expected)], expected, atol=6e-4 if rate != RATE else 1e-7)
    np.testing.assert_array_equal(audio.to_mono_resampled(x, rate, RATE), got)


@pytest.mark.parametrize("rate", [RATE, 48_000])
def test_block_size_changes_no_bit(tmp_path: Path, rate: int) -> None:
    path = write(tmp_path / "a.flac", noise(3 * rate, 3), rate)
    whole = audio.read(path, RATE)
    for seconds in (0.013, 1.0, 1e-9 if rate == RATE else 0.1):
        limit = 4_000 if seconds == 1e-9 else None
        pieces = []
        for block in audio.blocks(path, RATE, block_seconds=seconds):
            assert 1 <= len(block) <= max(seconds * RATE * 1.2 + 1_000, 1)
            pieces.append(block)
            if limit and len(pieces) == limit:
                break
        got = np.concatenate(pieces)
        np.testing.assert_array_equal(got, whole[: len(got)])
        assert limit or len(got) == len(whole)


@pytest.mark.parametrize(
    ("name", "subtype", "channels", "rate"),
    [
        ("a.wav", "PCM_24", 1, RATE),
        ("a.flac", "PCM_16", 3, RATE),
        ("a.wav", "ULAW", 2, 48_000),
        ("a.flac", "PCM_16", 1, 11_127),
        ("a.wav", "MS_ADPCM", 1, RATE),
        ("a.wav", "GSM610", 1, 8_000),
        ("a.ogg", "VORBIS", 2, RATE),
        ("a.mp3", "MPEG_LAYER_III", 1, 48_000),
    ],
)
def test_a_part_is_that_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, subtype: str, channels: int, rate: int
) -> None:
    path = write(tmp_path / name, noise(6 * rate, channels), rate, subtype=subtype)
    whole = audio.read(path, RATE)
    decoded = []
    read = soundfile.SoundFile.read

    def counted(file: soundfile.SoundFile, *args: object, **options: object) -> np.ndarray:
        decoded.append(len(block := read(file, *args, **options)))
        return block

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    for begin, end in ((0, 7), (100, 101), (3 * RATE + 5, 4 * RATE - 3), (5 * RATE, 9 * RATE), (7 * RATE, 8 * RATE)):
        decoded.clear()
        part = audio.read_part(path, RATE, begin, end)
        assert part.dtype == np.float32
        np.testing.assert_array_equal(part, whole[begin:end])
        searched = rate == RATE and subtype in ("PCM_16", "PCM_24")
        assert (
            sum(decoded) <= (end - (begin if searched else 0)) * rate / RATE + 4 * rate
        )  # the first 2 s, a block beyond it
    assert len(audio.read_part(path, RATE, 5, 5)) == 0
    with pytest.raises(ValueError, match="begin, end: got 3, 2"):
        audio.read_part(path, RATE, 3, 2)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.aiff", "a.caf", "a.w64", "a.au"])
def test_formats_and_wrong_extensions(tmp_path: Path, name: str) -> None:
    tone = (0.5 * np.sin(2 * np.pi * 440 / RATE * np.arange(RATE))).astype(np.float32)
    path = write(tmp_path / name, tone)
    good = audio.read(path, RATE)
    assert len(good) == RATE
    assert np.abs(np.fft.rfft(good)).argmax() == 440
    for other in ("b.txt", "b.raw", "b", "b.flac" if name != "a.flac" else "b.wav", "b\udcff.wav"):
        renamed = tmp_path / other
        renamed.write_bytes(path.read_bytes())
        np.testing.assert_array_equal(audio.read(renamed, RATE), good)


def test_stream_without_stated_length(tmp_path: Path) -> None:
    x = noise(RATE)
    flac = bytearray(write(tmp_path / "a.flac", x).read_bytes())
    flac[21] &= 0xF0  # total samples, 36 bits, of the STREAMINFO block
    flac[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(flac)
    wav = bytearray(write(tmp_path / "a.wav", x).read_bytes())
    for offset in (4, wav.index(b"data") + 4):
        wav[offset : offset + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "a.wav").write_bytes(wav)
    for name in ("a.flac", "a.wav"):
        np.testing.assert_allclose(audio.read(tmp_path / name, RATE), x, atol=1 / 32768)
        np.testing.assert_allclose(audio.read_part(tmp_path / name, RATE, 99, 1_000), x[99:1_000], atol=1 / 32768)


@pytest.mark.parametrize("samples", [1, 2, 9])
@pytest.mark.parametrize("rate", [8_000, RATE, 192_000])
def test_a_few_samples(tmp_path: Path, samples: int, rate: int) -> None:
    path = write(tmp_path / "a.wav", np.full(samples, 0.25, np.float32), rate, subtype="FLOAT")
    got = audio.read(path, RATE)
    assert len(got) == max(1, round(samples * RATE / rate))
    assert np.isfinite(got).all()


def test_memory_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "three_hours.wav"
    frames = 3 * 3_600 * 8_000
    with open(path, "wb") as file:  # a sparse file: the header, then a hole
        file.write(
            b"RIFF"
            + struct.pack("<I", 36 + 2 * frames)
            + b"WAVEfmt "
            + struct.pack("<IHHIIHH", 16, 1, 1, 8_000, 16_000, 2, 16)
        )
        file.write(b"data" + struct.pack("<I", 2 * frames))
        file.truncate(44 + 2 * frames)
    assert audio.stated_duration(path) == 10_800
    tracemalloc.start()
    try:
        done = sum(len(block) for block in audio.blocks(path, 8_000))
        largest = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert done == frames
    assert largest < 4e6  # a few blocks of 10 s


def test_many_channels_are_read_in_smaller_blocks(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", np.zeros((20_000, 1_000), np.int16), 192_000)
    sizes = [len(block) for block in audio.blocks(path, 192_000)]
    assert sum(sizes) == 20_000
    assert max(sizes) * 1_000 <= 2**23


def damaged(tmp_path: Path) -> dict[str, tuple[Path, str]]:
    x = noise(2 * RATE)
    flac = write(tmp_path / "whole.flac", x).read_bytes()
    wav = write(tmp_path / "whole.wav", x).read_bytes()
    aiff = write(tmp_path / "whole.aiff", x).read_bytes()
    bad = x.copy()
    bad[RATE] = np.nan
    infinite = x.copy()
    infinite[3] = np.inf
    slow = bytearray(wav)
    slow[24:28] = struct.pack("<I", 3)
    cases: dict[str, tuple[bytes | np.ndarray, str]] = {
        "empty.wav": (b"", "cannot be decoded"),
        "text.wav": (b"these are words, not sounds\n" * 100, "cannot be decoded"),
        "zeros.flac": (bytes(10_000), "cannot be decoded"),
        "header.wav": (wav[:30], "cannot be decoded|no samples"),
        "none.wav": (x[:0], "holds no samples"),
        "none.flac": (x[:0], "holds no samples|cannot be decoded"),
        "half.flac": (flac[: len(flac) // 2], "cannot be decoded|truncated"),
        "at_a_frame.flac": (
            flac[: flac.rindex(b"\xff\xf8", 0, len(flac) * 2 // 3)],
            "truncated: header states 2.000 s",
        ),
        "last_byte.flac": (flac[:-1], "cannot be decoded|truncated"),
        "half.wav": (wav[: len(wav) // 2], "truncated"),
        "last_sample.wav": (wav[:-2], "truncated"),
        "half.aiff": (aiff[: len(aiff) // 2], "truncated"),
        "nan.wav": (bad, r"NaN or infinite sample at 1\.000 s"),
        "infinite.wav": (infinite, r"NaN or infinite sample at 0\.000 s"),
        "slow.wav": (bytes(slow), "sample rate: got 3 Hz"),
    }
    paths = {}
    for name, (content, message) in cases.items():
        path = tmp_path / name
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            write(path, content, subtype="FLOAT" if name.endswith("wav") else "PCM_16")
        paths[name] = (path, message)
    return paths


def test_damaged_files_are_named(tmp_path: Path) -> None:
    for name, (path, message) in damaged(tmp_path).items():
        for seconds in (10.0, 0.1):
            with pytest.raises(AudioError, match=message) as caught:
                for _ in audio.blocks(path, RATE, block_seconds=seconds):
                    pass
            assert str(path) in str(caught.value), name


def test_a_folder_is_not_a_file_and_a_pipe_is_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"missing\.wav"):
        audio.read(tmp_path / "missing.wav", RATE)
    with pytest.raises(AudioError, match="not a file"):
        audio.read(tmp_path, RATE)
    if hasattr(os, "mkfifo"):
        whole = write(tmp_path / "a.wav", noise(RATE))
        os.mkfifo(tmp_path / "pipe.wav")
        writer = threading.Thread(target=(tmp_path / "pipe.wav").write_bytes, args=(whole.read_bytes(),))
        writer.start()
        np.testing.assert_array_equal(audio.read(tmp_path / "pipe.wav", RATE), audio.read(whole, RATE))
        writer.join()


def test_arrays() -> None:
    x = noise(1_000, 2)
    expected = x.mean(axis=1, dtype=np.float64)
    for array in (x, x.astype(np.float64), np.asfortranarray(x), x.repeat(2, axis=0)[::2]):
        np.testing.assert_allclose(audio.to_mono_resampled(array, RATE, RATE), expected, atol=1e-7)
    integers = (x * 2**31).astype(np.int32)
    np.testing.assert_allclose(audio.to_mono_resampled(integers, RATE, RATE), expected, atol=1e-7)
    integers = (x * 2**15).astype(np.int16)
    np.testing.assert_allclose(audio.to_mono_resampled(integers, RATE, RATE), expected, atol=1 / 2**15)


@pytest.mark.parametrize(
    ("array", "rate", "error", "message"),
    [
        (np.zeros(0, np.float32), RATE, AudioError, "audio: got 0 samples"),
        (np.zeros((2, RATE), np.float32), RATE, AudioError, r"audio: got shape \(2, 44100\)"),
        (np.zeros((10, 0), np.float32), RATE, AudioError, r"audio: got shape \(10, 0\)"),
        (np.float32(1), RATE, AudioError, r"audio: got shape \(\)"),
        (np.array([0.0, np.nan]), RATE, AudioError, "NaN or infinite"),
        (np.array([0.0, 1e300]), RATE, AudioError, "NaN or infinite"),
        (np.zeros(10, np.int64), RATE, TypeError, "audio: got int64"),
        (np.zeros(10, complex), RATE, TypeError, "audio: got complex128"),
        (np.array(["a"]), RATE, TypeError, "audio: got <U1"),
        (np.zeros(10, np.float32), 0, AudioError, "sample_rate: got 0"),
        (np.zeros(10, np.float32), 44_100.5, TypeError, "sample_rate: got 44100.5"),
        (np.zeros(10, np.float32), None, TypeError, "sample_rate: got None"),
    ],
)
def test_arrays_that_are_refused(array: np.ndarray, rate: int, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        audio.to_mono_resampled(array, rate, RATE)
