"""What stands around the engine: call forms, order, errors as values, progress, memory."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

import mtfa_fast
from mtfa_fast import detector as detector_module
from mtfa_fast.audio.files import AudioError
from mtfa_fast.detector import Detector
from mtfa_fast.events.result import Event, Result
from tests.face import CONFIG, RATE, LoudnessEngine, LoudnessStream, knock, make_weights


@pytest.fixture
def detector(monkeypatch: pytest.MonkeyPatch) -> Detector:
    monkeypatch.setattr(detector_module, "make_engine", LoudnessEngine)
    return Detector(make_weights(), threads=3)


def write(path: Path, wave: np.ndarray, rate: int = RATE) -> Path:
    soundfile.write(path, wave, rate, subtype="FLOAT")
    return path


def spans(result: Result, label: str = "loud") -> list[tuple[float, float]]:
    return [(e.onset, e.offset) for e in result if e.label == label]


def test_every_call_form_gives_the_events(detector: Detector, tmp_path: Path) -> None:
    wave = knock(3.0, at=1.0)
    path = write(tmp_path / "knock.wav", wave)
    expected = [Event(label, 1.0, 1.2, np.float32(0.8).item()) for label in ("loud", "audible")]
    assert list(detector(path)) == list(detector(str(path))) == expected
    assert list(detector(wave, sample_rate=RATE)) == expected
    assert list(detector(np.stack([wave, wave], 1), sample_rate=RATE)) == expected
    for results in (detector([path, str(path)]), detector([wave, wave], sample_rate=RATE)):
        assert [list(r) for r in results] == [expected, expected]
    result = detector(path)
    assert (result.source, result.duration, result.config) == (str(path), 3.0, CONFIG)
    assert result.probabilities.shape == (CONFIG.features.frame_count(len(wave)), 2)
    assert detector([]) == []
    assert detector.engine.options == {"device": "cpu", "precision": "auto", "threads": 3, "memory": None}  # type: ignore[attr-defined]


def test_other_rates_are_converted(detector: Detector, tmp_path: Path) -> None:
    wave = knock(3.0, at=1.0).repeat(2)
    path = write(tmp_path / "a.wav", wave, 2 * RATE)
    for result in (detector(path), detector(wave, sample_rate=2 * RATE)):
        assert spans(result) == [pytest.approx((1.0, 1.2), abs=0.021)]
        assert result.duration == 3.0


def test_no_event_ends_after_the_recording(detector: Detector) -> None:
    wave = knock(1.0, at=0.5, length=0.5)
    wave = np.append(wave, np.float32([0.8] * 10))  # ends 10 samples into a frame
    assert spans(detector(wave, sample_rate=RATE)) == [(0.5, (RATE + 10) / RATE)]


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((np.zeros(9, np.float32),), {}, ValueError, "sample_rate: got none with an array"),
        (("a.wav",), {"sample_rate": 8_000}, ValueError, "sample_rate: got 8000 with a path"),
        ((3,), {}, TypeError, "recording: got int"),
        (([0.0, 1.0],), {"sample_rate": 8_000}, TypeError, "recording: got float"),
        ((None,), {}, TypeError, "recording: got NoneType"),
        ((np.zeros(0, np.float32),), {"sample_rate": 8_000}, AudioError, "audio: got 0 samples"),
        (("no such file.wav",), {}, FileNotFoundError, "no such file.wav"),
        ((["no such file.wav"],), {}, FileNotFoundError, "no such file.wav"),
    ],
)
def test_wrong_arguments(
    detector: Detector, arguments: tuple, options: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        detector(*arguments, **options)


def test_many_files_in_order_with_errors_between(detector: Detector, tmp_path: Path) -> None:
    paths: list[Path] = []
    for i in range(30):
        path = tmp_path / f"{i}.wav"
        paths.append(path)
        if i % 7 == 3:
            path.write_bytes(b"not audio")
        elif i % 7 != 5:
            write(path, knock(1.0 + i % 3, at=i / 100))
    engine = detector.engine
    assert isinstance(engine, LoudnessEngine)
    engine.delay = 0.005
    done: dict[str, float] = {}
    lock = threading.Lock()

    def progress(source: str, seconds: float) -> None:
        with lock:
            done[source] = done.get(source, 0.0) + seconds

    answers = list(detector.detect_files(paths, jobs=3, progress=progress))
    assert [path for path, _ in answers] == paths
    assert engine.most == 3
    for i, (path, answer) in enumerate(answers):
        if i % 7 == 3:
            assert isinstance(answer, AudioError) and str(path) in str(answer)
        elif i % 7 == 5:
            assert isinstance(answer, FileNotFoundError)
        else:
            assert isinstance(answer, Result)
            assert spans(answer)[0][0] == pytest.approx(i / 100, abs=0.02)
            assert done[str(path)] == pytest.approx(answer.duration)
    assert len(done) == sum(isinstance(answer, Result) for _, answer in answers)


def test_paths_are_taken_as_needed_and_closing_stops(detector: Detector, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", knock(0.5, at=0.1))
    taken = 0

    def endless():  # type: ignore[no-untyped-def]
        nonlocal taken
        while True:
            taken += 1
            yield path

    answers = detector.detect_files(endless(), jobs=2)
    for _ in range(5):
        next(answers)
    answers.close()  # type: ignore[attr-defined]
    assert 5 <= taken <= 16
    deadline = time.monotonic() + 5
    while any(t.name.startswith("mtfa-") for t in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [t.name for t in threading.enumerate() if t.name.startswith("mtfa-")]


def test_detect_files_checks_its_arguments_at_once(detector: Detector) -> None:
    with pytest.raises(ValueError, match="jobs: got 0, allowed: an integer >= 1"):
        detector.detect_files(["a"], jobs=0)
    with pytest.raises(TypeError, match=r"paths: got one path, 'a\.wav'"):
        detector.detect_files("a.wav")


def test_three_hours_need_no_memory_for_samples(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "long.wav"
    seconds = 3 * 3_600
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_U8") as file:
        for _ in range(seconds // 600):
            file.write(np.zeros(600 * RATE, np.int16))
    counts: list[int] = []
    monkeypatch.setattr(LoudnessStream, "push", lambda self, samples: counts.append(len(samples)))
    monkeypatch.setattr(LoudnessStream, "finish", lambda self: np.zeros((2, 2), np.float32))
    tracemalloc.start()
    try:
        duration = detector(path).duration
        largest = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert duration == seconds
    assert largest < 4e6  # of 345 MB of float32 samples


def test_wrong_detectors(tmp_path: Path) -> None:
    weights = make_weights()
    with pytest.raises(TypeError, match="weights: got str, allowed: Weights"):
        Detector("rare-events")  # type: ignore[arg-type]
    for device in ("tpu", "cuda:x", "", None):
        with pytest.raises(ValueError, match=r"device: got .*, allowed: 'cpu', 'cuda'"):
            Detector(weights, device=device)  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="no such"):
        Detector.from_pretrained("no such")


def test_cuda_without_torch_or_device(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    count = torch.cuda.device_count()
    with pytest.raises(ValueError, match=f"device: got 'cuda:{count}', but torch {torch.__version__.split('+')[0]}"):
        Detector(make_weights(), device=f"cuda:{count}")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match=r"device 'cuda' needs PyTorch.*pip install 'mtfa-fast\[torch\]'"):
        Detector(make_weights(), device="cuda")


def test_the_cpu_engine_hears_what_the_gpu_engine_hears(tmp_path: Path) -> None:
    from mtfa_fast.engine.gpu import GpuEngine

    weights = make_weights(1)
    weights.save(tmp_path / "w.safetensors")
    path = write(tmp_path / "a.wav", np.random.default_rng(5).uniform(-1, 1, 70_001).astype(np.float32), 11_025)
    detector = Detector.from_pretrained(tmp_path, precision="fp32", threads=1)
    got = detector(path)
    detector.engine = GpuEngine(weights, device="cpu", precision="fp32")
    expected = detector(path)
    assert got.duration == expected.duration
    np.testing.assert_allclose(got.probabilities, expected.probabilities, atol=1e-5)
    assert np.ptp(expected.probabilities) > 1e-3


def test_the_package_is_light() -> None:
    code = """
import sys
import mtfa_fast
assert set(mtfa_fast.__all__) <= set(dir(mtfa_fast))
from mtfa_fast import Detector, Event, Result, Config, Weights, AudioError
heavy = {"torch", "matplotlib", "scipy", "librosa", "cyclopts"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names() -> None:
    for name in mtfa_fast.__all__:
        assert getattr(mtfa_fast, name).__class__
    with pytest.raises(AttributeError, match="Detecter"):
        mtfa_fast.Detecter  # type: ignore[attr-defined] # noqa: B018
