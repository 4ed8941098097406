"""``Detector.live`` and ``Detector.listen``: events as they end, from threads and asyncio, many streams at once."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import threading
import wave
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from mtfa_fast import Detector, Event
from mtfa_fast import detector as detector_module
from mtfa_fast.live import LiveStream, push_together
from mtfa_fast.nn.convert import to_weights
from tests.engine.lively import lively_network
from tests.face import HOP, RATE, LoudnessEngine, knock, make_weights

EVENTS = [Event("audible", 1.0, 1.2, 0.800000011920929), Event("loud", 1.0, 1.2, 0.800000011920929)]


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> Detector:
    monkeypatch.setattr(detector_module, "make_engine", LoudnessEngine)
    return Detector(make_weights())


@pytest.fixture(scope="module")
def real() -> Detector:
    """The C++ engine under a small network whose probabilities cross its thresholds."""
    weights = to_weights(lively_network())
    return Detector(weights, precision="fp32", threads=2)


MIDDLE = {"class0": 0.63, "class1": 0.754}  # thresholds that the small network crosses in both directions


def swelling(seconds: float, rate: int, seed: int = 5) -> np.ndarray:
    """Noise that grows and fades."""
    rng, times = np.random.default_rng(seed), np.arange(round(rate * seconds)) / rate
    return (rng.standard_normal(len(times)) * np.abs(np.sin(2 * times)) * 0.25).astype(np.float32)


def by_key(found: list[Event]) -> list[Event]:
    return sorted(found, key=lambda event: (event.onset, event.offset, event.label))


def pushed(stream: LiveStream, samples: np.ndarray, size: int) -> list[Event]:
    found = []
    for first in range(0, len(samples), size):
        found += stream.push(samples[first : first + size])
    return found


def test_an_event_comes_when_it_is_over_and_begins_before(detector: Detector) -> None:
    told: list[tuple[int, str, Event]] = []
    heard = 0
    with detector.live(
        sample_rate=RATE, chunk=8, look_ahead=16, on_begin=lambda event: told.append((heard, "begin", event))
    ) as stream:
        assert stream.delay == (8 + 16 + 1) * HOP / RATE  # "loud" has a filter of three frames
        for first in range(0, 2 * RATE, HOP):
            heard = first + HOP
            told += [(heard, "end", event) for event in stream.push(knock(2.0, 1.0)[first : first + HOP])]
        told += [(heard, "end", event) for event in stream.finish()]
        assert stream.seconds == 2.0 and stream.bad_samples == 0
    assert [(what, event.label, event.onset) for _, what, event in told] == [
        ("begin", "audible", 1.0),
        ("begin", "loud", 1.0),
        ("end", "audible", 1.0),
        ("end", "loud", 1.0),
    ]
    assert by_key([event for _, what, event in told if what == "end"]) == EVENTS
    assert all(heard <= (1.2 + stream.delay) * RATE for heard, what, _ in told if what == "end")
    assert all(1.0 * RATE < heard <= (1.02 + stream.delay) * RATE for heard, what, _ in told if what == "begin")


def test_what_goes_on_at_the_end_is_cut_off_there(detector: Detector) -> None:
    with detector.live(sample_rate=RATE) as stream:
        assert stream.push(knock(1.005, 0.9)) == []
        assert by_key(stream.finish()) == [
            Event("audible", 0.9, 1.005, 0.800000011920929),
            Event("loud", 0.9, 1.005, 0.800000011920929),
        ]
        for call in (stream.finish, lambda: stream.push(np.zeros(1, np.float32))):
            with pytest.raises(ValueError, match="stream: finished, allowed: open"):
                call()
    assert detector.live(sample_rate=RATE).finish() == []


def test_decisions_are_the_callers(detector: Detector) -> None:
    stream = detector.live(sample_rate=RATE, threshold={"loud": 0.9}, minimum_score={"audible": 0.85})
    assert stream.push(knock(4.0, 1.0)) == [] and stream.finish() == []
    stream = detector.live(sample_rate=RATE, threshold={"loud": 0.9})
    assert stream.push(knock(4.0, 1.0)) == EVENTS[:1]


@settings(deadline=None, max_examples=25)
@given(sizes=st.lists(st.integers(0, 60_000), min_size=1, max_size=30), rate=st.sampled_from([44_100, 48_000]))
def test_any_push_schedule_gives_the_events_of_one_push(real: Detector, sizes: list[int], rate: int) -> None:
    samples = (np.stack([swelling(9, rate), swelling(9, rate, 6)], 1) * 32_767).astype(np.int16)

    def run(cuts: list[int]) -> list[Event]:
        options: dict[str, Any] = dict(chunk=8, look_ahead=16, threshold=MIDDLE, filter_frames=5)
        with real.live(sample_rate=rate, channels=2, **options) as stream:
            found = [event for part in np.split(samples, cuts) for event in stream.push(part)]
            return found + stream.finish()

    cuts = np.minimum(np.cumsum(sizes), len(samples)).tolist()
    whole = run([])
    assert len(whole) > 3
    assert run(cuts) == whole


def test_without_an_end_of_look_ahead_it_is_the_detectors_answer(real: Detector) -> None:
    wave = swelling(9, 44_100)
    want = real(wave, sample_rate=44_100).with_(threshold=MIDDLE, filter_frames=5).events
    assert len(want) > 2
    for look_ahead in (None, 8_000):
        with real.live(sample_rate=44_100, look_ahead=look_ahead, threshold=MIDDLE, filter_frames=5) as stream:
            assert (stream.delay == float("inf")) == (look_ahead is None)
            assert pushed(stream, wave, 10_000) == []
            assert by_key(stream.finish()) == by_key(list(want))


def test_many_streams_from_threads_and_from_one_thread(real: Detector) -> None:
    waves = [swelling(7, 44_100, seed) for seed in range(6)]
    options: dict[str, Any] = dict(sample_rate=44_100, chunk=8, look_ahead=8, threshold=MIDDLE, filter_frames=1)

    def alone(samples: np.ndarray) -> list[Event]:
        with real.live(**options) as stream:
            return pushed(stream, samples, 4_410) + stream.finish()

    want = [alone(samples) for samples in waves]
    assert sum(map(len, want)) > 3
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(alone, waves)) == want
    streams = [real.live(**options) for _ in waves]
    found: list[list[Event]] = [[] for _ in waves]
    for first in range(0, 44_100 * 7, 30_000):  # the second one's blocks are shorter than the others'
        blocks = [(s, w[first : first + 30_000]) for s, w in zip(streams, waves, strict=True)]
        for i, events in enumerate(push_together(blocks)):
            found[i] += events
    assert [events + s.finish() for events, s in zip(found, streams, strict=True)] == want
    with pytest.raises(ValueError, match="blocks: got a stream twice"):
        push_together([(streams[0], waves[0])] * 2)


def test_one_stream_may_be_pushed_into_by_several_threads(real: Detector) -> None:
    silence = np.zeros(4_410, np.float32)
    with real.live(sample_rate=44_100) as stream:
        threads = [threading.Thread(target=lambda: [stream.push(silence) for _ in range(20)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert stream.seconds == 8.0


def test_asyncio(detector: Detector) -> None:
    """The recipe of docs/live.md: pushes run in threads, the loop stays free."""

    async def station(samples: np.ndarray) -> list[Event]:
        found = []
        with detector.live(sample_rate=RATE) as stream:
            for block in np.split(samples, 20):
                found += await asyncio.to_thread(stream.push, block)
            return found + await asyncio.to_thread(stream.finish)

    async def stations() -> list[list[Event]]:
        return await asyncio.gather(*(station(knock(4.0, 1.0)) for _ in range(3)))

    assert [by_key(found) for found in asyncio.run(stations())] == [EVENTS] * 3


def test_nan_is_told_and_read_as_silence(detector: Detector) -> None:
    samples = knock(6.0, 4.0)
    samples[[5, 3 * RATE, 3 * RATE + 900]] = [np.nan, np.inf, -np.inf]
    told: list[float] = []
    with detector.live(sample_rate=RATE, on_gap=told.append) as stream:
        found = pushed(stream, samples, 1_000) + stream.finish()
        assert stream.bad_samples == 3
    assert by_key(found) == [Event(e.label, 4.0, 4.2, e.score) for e in EVENTS]
    assert told == [5 / RATE, 3.0]  # what follows within a second belongs to it
    with pytest.warns(RuntimeWarning, match=r"samples: NaN or infinity at 0\.001 s, read as silence"):
        detector.live(sample_rate=RATE).push(samples[:1_000])


BAD: dict[str, tuple[Callable[[Detector], object], str]] = {
    "rate": (lambda d: d.live(sample_rate=10), "sample_rate: got 10 Hz, allowed: 1000 to"),
    "channels": (lambda d: d.live(sample_rate=RATE, channels=0), "channels: got 0, allowed: an integer, 1 to 64"),
    "threshold": (lambda d: d.live(sample_rate=RATE, threshold=1.2), "threshold of loud: got 1.2"),
    "mono": (lambda d: d.live(sample_rate=RATE).push(np.zeros((3, 2), np.float32)), r"samples: got shape \(3, 2\)"),
    "stereo": (
        lambda d: d.live(sample_rate=RATE, channels=2).push(np.zeros(4, np.float32)),
        r"samples: got shape \(4,\), allowed: \(n, 2\)",
    ),
    "scalar": (lambda d: d.live(sample_rate=RATE).push(np.float32(1)), r"samples: got shape \(\)"),
    "array to listen to": (lambda d: next(d.listen(np.zeros(9))), "source: got ndarray, allowed: a path"),
    "no rate": (lambda d: next(d.listen(iter([]))), "sample_rate: got None, allowed: the arrays' rate"),
    "file with rate": (lambda d: next(d.listen(__file__, sample_rate=8_000)), "sample_rate: got 8000, allowed: none"),
    "encoding": (lambda d: next(d.listen(io.BytesIO(), encoding="u8", sample_rate=RATE)), "encoding: got 'u8'"),
    "rate of raw": (lambda d: next(d.listen(io.BytesIO(), encoding="s16le")), "rate: got None, allowed: Hz"),
    "rate without encoding": (lambda d: next(d.listen(io.BytesIO(), sample_rate=RATE)), "encoding: got None, allowed:"),
    "no header": (lambda d: next(d.listen(io.BytesIO(b"no sound here at all"))), "begins with b'no sound her'"),
    "empty": (lambda d: next(d.listen(io.BytesIO(b""))), "ended after 0 bytes of its WAV header"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(detector: Detector, case: str) -> None:
    call, message = BAD[case]
    with pytest.raises((ValueError, TypeError), match=message):
        call(detector)
    with pytest.raises(TypeError, match="samples: got int64"):
        detector.live(sample_rate=RATE).push(np.zeros(4, np.int64))


def wav(samples: np.ndarray, stated: int | None = None, subtype: str = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format="WAV", subtype=subtype)
    content = bytearray(file.getvalue())
    if stated is not None:
        at = content.index(b"data") + 4
        content[at : at + 4] = stated.to_bytes(4, "little")
    return bytes(content)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "PCM_32", "FLOAT"])
@pytest.mark.parametrize("stated", [None, 0, 0x7FFF_F000, 0x8000_0000, 0xFFFF_FFFF])
def test_wav_of_any_stated_length(detector: Detector, subtype: str, stated: int | None) -> None:
    stereo = np.stack([knock(4.0, 1.0), knock(4.0, 1.0)], 1)
    for file in (io.BytesIO(wav(stereo, stated, subtype)), io.BufferedReader(io.BytesIO(wav(stereo, stated, subtype)))):  # type: ignore[arg-type]
        found = list(detector.listen(file))
        assert [(e.label, e.onset, e.offset) for e in found] == [("audible", 1.0, 1.2), ("loud", 1.0, 1.2)]
        assert found[0].score == pytest.approx(0.8, abs=1e-4)


def test_what_arrays_files_and_raw_samples_say(detector: Detector, tmp_path: Path) -> None:
    samples = knock(4.0, 1.0)
    soundfile.write(tmp_path / "a.flac", samples, RATE, subtype="PCM_24")
    assert [e.label for e in detector.listen(tmp_path / "a.flac", threshold={"loud": 0.9})] == ["audible"]
    assert by_key(list(detector.listen(np.split(samples, 8), sample_rate=RATE))) == EVENTS
    raw = samples.astype("<f4").tobytes()
    assert by_key(list(detector.listen(io.BytesIO(raw), sample_rate=RATE, encoding="f32le"))) == EVENTS
    with pytest.warns(RuntimeWarning, match="stopped within a sample: 3 of 4 bytes, left out"):
        found = list(detector.listen(io.BytesIO(raw[:-1]), sample_rate=RATE, encoding="f32le"))
    assert by_key(found) == EVENTS
    with pytest.warns(RuntimeWarning, match="ended 400 bytes before its header says"):
        assert len(list(detector.listen(io.BytesIO(wav(samples)[:-400])))) == 2


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_named_pipe_whose_writer_is_killed(detector: Detector, tmp_path: Path) -> None:
    """What was written is decided; the event that was going on ends where the sound did."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    soundfile.write(tmp_path / "a.wav", np.concatenate([knock(4.0, 1.0), np.full(RATE, 0.8, np.float32)]), RATE)
    code = f"""
import os, signal
content = open({str(tmp_path / "a.wav")!r}, "rb").read()
with open({str(pipe)!r}, "wb", buffering=0) as out:
    out.write(content[: -2 * {RATE // 2} - 1])
    os.kill(os.getpid(), signal.SIGKILL)
"""
    writer = subprocess.Popen([sys.executable, "-c", code])
    with pytest.warns(RuntimeWarning, match="pipe: stopped within a sample: 1 of 2 bytes"):
        found = list(detector.listen(pipe))
    assert writer.wait() < 0
    assert [(e.label, e.onset, e.offset) for e in found[:2]] == [("audible", 1.0, 1.2), ("loud", 1.0, 1.2)]
    assert {(e.label, e.onset) for e in found[2:]} == {("audible", 4.0), ("loud", 4.0)}
    assert all(e.offset == (4.5 * RATE - 1) / RATE for e in found[2:])


def test_standard_wave_module_writes_what_is_read(detector: Detector) -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1), out.setsampwidth(2), out.setframerate(RATE)
        out.writeframes((knock(4.0, 1.0) * 32_767).astype("<i2").tobytes())
    assert len(list(detector.listen(io.BytesIO(file.getvalue())))) == 2
