"""What happens to odd recordings: read as the good one they were made of, corrected with a warning, or refused."""

from __future__ import annotations

import importlib.util
import io
import os
import struct
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mtfa_fast.audio import files as audio
from mtfa_fast.audio.errors import AudioError, AudioWarning
from mtfa_fast.audio.streams import frame_length
from mtfa_fast.detector import Detector
from tests.audio.odd import CASES, DATA, MP3, PLAIN, RATE, WAV, Case, encode, table, wave

ROOT = Path(__file__).resolve().parents[2]
CASES_SCRIPT = ROOT.parent / "shared" / "cases" / "make_cases.py"


def like(case: Case, folder: Path) -> np.ndarray:
    if case.like == "silence":
        return np.zeros(len(wave()), np.float32)
    if case.like == "first half":
        return wave()[: len(wave()) // 2]
    if case.like == "half":
        return wave() / 2
    plain = folder / f"good_{case.like}"
    plain.write_bytes(PLAIN[case.like])
    return np.tile(audio.read(plain, RATE), case.times)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_odd_recordings_are_read_whole_or_refused(case: Case, tmp_path: Path) -> None:
    path = tmp_path / case.name
    path.write_bytes(case.make())
    expected = like(case, tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if case.happens == "refused":
            with pytest.raises(AudioError, match=case.says) as refused:
                audio.read(path, RATE)
            assert str(path) in str(refused.value)
        else:
            got = audio.read(path, RATE)
            assert len(got) == len(expected)
            np.testing.assert_allclose(got, expected, atol=2e-3 if case.name == "offset.wav" else 4e-5)
    said = [str(warning.message) for warning in caught]
    assert len(said) == (case.happens == "read, with a warning"), said
    for text in said:
        assert str(path) in text and case.says in text


def test_the_page_says_what_happens() -> None:
    page = (ROOT / "docs" / "odd-recordings.md").read_text("utf-8")
    assert table() in page


@pytest.fixture(scope="module")
def field_cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not CASES_SCRIPT.is_file():
        pytest.skip("no shared cases here (shared/cases beside the project)")
    spec = importlib.util.spec_from_file_location("make_cases", CASES_SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp("cases")
    module.main(str(ROOT / "examples" / "rare_events.flac"), str(folder))
    return folder


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector.from_pretrained("rare-events")


@pytest.fixture(scope="module")
def events(detector: Detector) -> dict[str, float]:
    """Onsets in the recording that the cases are made of, by class; tests/weights says that they are the right ones."""
    found = {event.label: event.onset for event in detector(ROOT / "examples" / "rare_events.flac")}
    assert found.keys() == {"babycry", "glassbreak", "gunshot"}
    return found


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("wrapped.wav", "more lie behind"),
        ("streamed.wav", ""),
        ("never_closed.wav", "never closed"),
        ("trailing_chunk.wav", ""),
        ("one_dead_channel.wav", "channel 1 of 2 silent"),
        ("offset.wav", "samples lie around 0.500"),
        ("zeros_first.mp3", "1044 bytes before its first frame"),
        ("id3_then_padding.mp3", "2000 bytes before its first frame"),
        ("length_unknown.flac", ""),
        ("plain.wav", ""),
        ("opposite.wav", "channels cancel"),
        ("silence.wav", ""),
    ],
)
def test_the_fields_odd_files_give_their_three_events(
    field_cases: Path, detector: Detector, events: dict[str, float], name: str, says: str
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = detector(field_cases / name)
    assert [says in str(warning.message) for warning in caught] == ([True] if says else [])
    assert result.duration == pytest.approx(30, abs=0.001)
    expected = {} if name in ("opposite.wav", "silence.wav") else events
    assert {event.label: event.onset for event in result} == {
        label: pytest.approx(onset, abs=0.021) for label, onset in expected.items()
    }


@pytest.mark.parametrize(("name", "says"), [("cut_copy.wav", "truncated"), ("int16_scale.wav", "divide floats")])
def test_the_fields_broken_files_are_refused(field_cases: Path, detector: Detector, name: str, says: str) -> None:
    with pytest.raises(AudioError, match=says):
        detector(field_cases / name)


@pytest.mark.parametrize("channel", [0, 1, "max"])
def test_a_chosen_channel_gives_the_events_that_cancel(
    field_cases: Path, events: dict[str, float], channel: int | str
) -> None:
    result = Detector.from_pretrained("rare-events", channel=channel)(field_cases / "opposite.wav")  # type: ignore[arg-type]
    assert {e.label: e.onset for e in result} == {label: pytest.approx(at, abs=0.021) for label, at in events.items()}


def test_channels_are_chosen_by_number() -> None:
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (RATE, 3)).astype(np.float32)
    for channel in range(3):
        np.testing.assert_array_equal(audio.to_mono_resampled(x, RATE, RATE, channel=channel), x[:, channel])
    largest = x[np.arange(RATE), np.abs(x).argmax(axis=1)]
    np.testing.assert_array_equal(audio.to_mono_resampled(x, RATE, RATE, channel="max"), largest)
    with pytest.raises(AudioError, match="channel: got 3, allowed: 0 to 2"):
        audio.to_mono_resampled(x, RATE, RATE, channel=3)
    for wrong in (-1, "left", True, 1.0):
        with pytest.raises(ValueError, match="channel: got"):
            audio.to_mono_resampled(x, RATE, RATE, channel=wrong)  # type: ignore[arg-type]


def test_channels_without_relation_are_not_said_to_cancel() -> None:
    x = np.random.default_rng(0).uniform(-0.5, 0.5, (RATE, 8)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        audio.to_mono_resampled(x, RATE, RATE)


def test_a_variable_rate_mp3_without_its_count_is_heard_to_the_end(tmp_path: Path) -> None:
    x = wave()
    x[RATE:] *= 1e-4  # loud frames first: guessed from them, the file would be over soon
    mp3 = encode(x, "MP3", bitrate_mode="VARIABLE", compression_level=0.3)
    path = tmp_path / "a.mp3"
    path.write_bytes(mp3[frame_length(int.from_bytes(mp3[:4], "big")) :])
    assert len(audio.read(path, RATE)) == pytest.approx(len(x), abs=3 * 576)  # with the encoder's delay


def test_mp3_that_was_cut_off_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_bytes(MP3[: len(MP3) // 2])
    with pytest.warns(AudioWarning, match=f"was cut off: its first frame states {len(MP3)} bytes"):
        assert RATE < len(audio.read(tmp_path / "a.mp3", RATE)) < 3 * RATE


def test_mp3_cut_before_its_first_sound_is_refused() -> None:
    """libsndfile refuses it, and so it does where the first frame is looked for and found."""
    with pytest.raises(AudioError, match="damaged or not audio"):
        list(audio.blocks(io.BytesIO(MP3[:600]), RATE))


@pytest.mark.parametrize("rate", [RATE, 11_025])
def test_parts_and_blocks_of_corrected_recordings_are_those_of_the_whole(tmp_path: Path, rate: int) -> None:
    path = tmp_path / "a.wav"
    for content in (encode(wave() + 0.3, "WAV", "FLOAT"), encode(wave(), "FLAC") * 2, MP3 + MP3):
        path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AudioWarning)
            whole = audio.read(path, rate)
            np.testing.assert_array_equal(np.concatenate(list(audio.blocks(path, rate, block_seconds=0.3))), whole)
            for begin, end in (
                (0, 10),
                (3 * rate + 1, 3 * rate + 500),
                (4 * rate - 5, 4 * rate + 5),
                (5 * rate, 9 * rate),
            ):
                np.testing.assert_array_equal(audio.read_part(path, rate, begin, end), whole[begin:end])


def test_files_beyond_4_gib_whose_size_wrapped_are_read_in_bounded_memory(tmp_path: Path) -> None:
    held = 2**32 + 10_000
    header = bytearray(WAV[: DATA + 8])
    struct.pack_into("<I", header, DATA + 4, held % 2**32)
    header[22:24] = struct.pack("<H", 64)  # many channels, so that it is over soon
    header[32:34] = struct.pack("<H", 128)
    with open(tmp_path / "a.wav", "wb") as file:  # a hole, and nothing on the disk
        file.write(header)
        file.truncate(len(header) + held)
    tracemalloc.start()
    try:
        with pytest.warns(AudioWarning, match=f"states 10000 bytes of samples, {2**32} more"):
            blocks = audio.blocks(tmp_path / "a.wav", RATE)
            assert len(next(blocks)) > 0
            blocks.close()
        assert tracemalloc.get_traced_memory()[1] < 200e6
    finally:
        tracemalloc.stop()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AudioWarning)
        assert audio.stated_duration(tmp_path / "a.wav") == pytest.approx(held / 128 / RATE)


def test_a_length_that_no_header_states_is_counted(tmp_path: Path) -> None:
    flac = bytearray(encode(wave(), "FLAC"))
    flac[21] &= 0xF0
    flac[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(flac)
    assert audio.stated_duration(tmp_path / "a.flac") == 0
    assert audio.duration(tmp_path / "a.flac") == 4.0


def test_open_files_and_pipes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(WAV)
    expected = audio.read(path, RATE)
    np.testing.assert_array_equal(audio.read(io.BytesIO(WAV), RATE), expected)
    with open(path, "rb") as file:
        np.testing.assert_array_equal(audio.read(file, RATE), expected)
        assert not file.closed
        with pytest.raises(AudioError, match=r"a\.wav: stands at its end"):
            file.seek(0, os.SEEK_END)
            audio.read(file, RATE)
    within = io.BytesIO(b"something else" + WAV)
    within.seek(14)
    np.testing.assert_array_equal(audio.read(within, RATE), expected)

    class OneWay(io.BytesIO):
        def seekable(self) -> bool:
            return False

    np.testing.assert_array_equal(audio.read(OneWay(WAV), RATE), expected)
    with pytest.raises(TypeError, match="recording: got StringIO, allowed: an open binary file"):
        audio.read(io.StringIO("words"), RATE)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("suffix", "codec"), [("m4a", "aac"), ("aac", "aac"), ("mp4", "aac"), ("webm", "libopus"), ("mkv", "flac")]
)
def test_what_libsndfile_does_not_read_pyav_does(tmp_path: Path, suffix: str, codec: str) -> None:
    av = pytest.importorskip("av", reason="PyAV is not installed")
    rate, path = 48_000, tmp_path / f"a.{suffix}"
    tone = (0.4 * np.sin(2 * np.pi * 440 / rate * np.arange(2 * rate))).astype(np.float32)
    with av.open(str(path), "w", format={"aac": "adts", "m4a": "mp4", "mkv": "matroska"}.get(suffix, suffix)) as out:
        stream = out.add_stream(codec, rate=rate, layout="mono")
        frame = av.AudioFrame.from_ndarray((tone[None] * 32_767).astype(np.int16), format="s16", layout="mono")
        frame.sample_rate = rate
        frame.pts = 0
        for part in av.AudioResampler(stream.format, "mono", rate, frame_size=stream.frame_size or 1024).resample(
            frame
        ):
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    renamed = tmp_path / "a.bin"
    renamed.write_bytes(path.read_bytes())
    for recording in (path, renamed, io.BytesIO(path.read_bytes())):
        got = audio.read(recording, rate)
        assert abs(len(got) - 2 * rate) < 3_000
        power = np.abs(np.fft.rfft(got[: 2 * rate] if len(got) >= 2 * rate else np.pad(got, (0, 2 * rate - len(got)))))
        assert power.argmax() == 880 and np.abs(got).max() == pytest.approx(0.4, abs=0.05)
    assert audio.stated_rate(path) == rate
    if suffix in ("m4a", "mp4"):
        path.write_bytes(path.read_bytes()[:-2_000])
        with pytest.raises(AudioError, match=r"a\.m(4a|p4): "):
            audio.read(path, rate)


def test_without_pyav_the_error_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    with pytest.raises(
        AudioError, match=r"a\.m4a: MP4 needs PyAV, which is not installed: pip install 'mtfa-fast\[av\]'"
    ):
        audio.read(tmp_path / "a.m4a", RATE)


def test_linked_folders_are_searched_once_and_circles_end(tmp_path: Path) -> None:
    (tmp_path / "far" / "deep").mkdir(parents=True)
    soundfile.write(tmp_path / "far" / "deep" / "a.wav", wave(), RATE)
    (tmp_path / "far" / "._a.wav").write_bytes(b"\0\5\x16\7")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "far")
    (tmp_path / "far" / "deep" / "circle").symlink_to(tmp_path / "root")
    assert audio.sound_files(tmp_path / "root") == [tmp_path / "root" / "link" / "deep" / "a.wav"]
