"""Calibrated scores: what detect, live streams and files of weights make of a class's calibration."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from mtfa_fast import _core
from mtfa_fast.config import Calibration, ClassConfig, Config
from mtfa_fast.events.result import Event, Result, score_of
from mtfa_fast.live import LiveStream
from mtfa_fast.weights import Weights
from tests.face import CONFIG, RATE, LoudnessEngine, make_weights

LOGISTIC = Calibration(1.5, -0.7)


def calibrated(config: Config, *calibrations: Calibration | None) -> Config:
    pairs = zip(config.classes, calibrations, strict=True)
    return dataclasses.replace(config, classes=tuple(dataclasses.replace(c, calibration=made) for c, made in pairs))


@pytest.mark.parametrize("peak", [0.0, 1e-9, 2**-20, 0.1, 0.5, 0.97, 1.0])
def test_the_score_is_logistic_in_the_logit_of_the_peak(peak: float) -> None:
    p = min(max(float(np.float32(peak)), 2**-20), 1 - 2**-20)
    expected = 1 / (1 + math.exp(-(1.5 * math.log(p / (1 - p)) - 0.7)))
    given = score_of(ClassConfig("x", calibration=LOGISTIC), peak)
    assert given == np.float32(given) and given == pytest.approx(expected, rel=1e-6)
    assert score_of(ClassConfig("x"), peak) == peak


def test_ranks_stay_and_no_score_leaves_its_range() -> None:
    peaks = np.linspace(0, 1, 1001, dtype=np.float32).tolist()
    for slope, offset in ((0.3, 2.0), (1.0, 0.0), (40.0, -900.0), (0.0, 5.0)):
        scores = [_core.calibrated(p, slope, offset) for p in peaks]
        assert scores == sorted(scores) and scores[0] >= 0 and scores[-1] <= 1


def test_events_are_the_same_and_say_something_else() -> None:
    rng = np.random.default_rng(4)
    p = rng.random((400, 2)).astype(np.float32)
    plain = Result(p, CONFIG, "array", 8.0).with_(minimum_score=0.7)
    told = Result(p, calibrated(plain.config, LOGISTIC, None), "array", 8.0)
    spans = [(e.label, e.onset, e.offset) for e in plain]
    assert len(spans) > 5 and [(e.label, e.onset, e.offset) for e in told] == spans
    for before, after in zip(plain, told, strict=True):
        changed = before.label == CONFIG.class_names[0]
        assert after.score == (_core.calibrated(before.score, 1.5, -0.7) if changed else before.score)
    assert any(e.score < 0.7 for e in told)  # minimum_score is of the probability
    assert told.with_(threshold=0.65).config.classes[0].calibration == LOGISTIC


def test_live_scores_are_those_of_the_recording() -> None:
    rng = np.random.default_rng(5)
    wave = np.repeat(rng.uniform(0.2, 1.0, 60), 1_000).astype(np.float32)
    config = calibrated(CONFIG, LOGISTIC, Calibration(0.4, 1.0))
    begun: list[Event] = []
    engine = LoudnessEngine()
    stream = LiveStream(engine, config, sample_rate=RATE, chunk=8, look_ahead=8, on_begin=begun.append)
    found = [*stream.push(wave[:7_001]), *stream.push(wave[7_001:]), *stream.finish()]
    whole = engine.stream()
    whole.push(wave)
    expected = Result(whole.finish(), config, "array", len(wave) / RATE).events
    assert len(expected) > 3
    assert sorted(found, key=dataclasses.astuple) == sorted(expected, key=dataclasses.astuple)
    peaks = {score_of(kind, float(p)) for kind in config.classes for p in np.unique(np.abs(wave))}
    assert len(begun) == len(expected) and {event.score for event in begun} <= peaks


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"slope": -0.1, "offset": 0.0}, "calibration slope: got -0.1, allowed: a number >= 0"),
        ({"slope": float("inf"), "offset": 0.0}, "calibration slope"),
        ({"slope": True, "offset": 0.0}, "calibration slope: got True"),
        ({"slope": 1.0, "offset": float("nan")}, "calibration offset: got nan"),
        ({"slope": 1.0}, "calibration: "),
        ({"slope": 1.0, "offset": 0.0, "knots": []}, "calibration: got \\['knots'\\]"),
        (3, "calibration: got int"),
    ],
)
def test_wrong_calibrations(given: object, message: str) -> None:
    data = CONFIG.to_dict()
    data["classes"] = [{**c, "calibration": given} for c in data["classes"]]
    with pytest.raises(ValueError, match=message):
        Config.from_dict(data)


def test_weight_files_with_and_without(tmp_path: Path) -> None:
    plain = make_weights()
    assert "calibration" not in json.dumps(plain.config.to_dict())  # older readers know every field
    told = dataclasses.replace(plain, config=calibrated(CONFIG, LOGISTIC, None))
    told.save(tmp_path / "told.safetensors")
    assert Weights.load(tmp_path / "told.safetensors").config == told.config
    assert Config.from_dict(told.config.to_dict()) == told.config
