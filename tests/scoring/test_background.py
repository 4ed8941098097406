"""False alarms on bare backgrounds: counted by place, kept apart from the mixtures, and against the misses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mtfa_fast.config import ClassConfig, Config
from mtfa_fast.data.annotations import Annotation
from mtfa_fast.data.folds import fold
from mtfa_fast.data.mixing import CLASSES
from mtfa_fast.data.probabilities import ProbabilitySet, Recording
from mtfa_fast.data.recipes import MixtureParameters
from mtfa_fast.data.sources import SourceAudio, SourceSet
from mtfa_fast.events.result import Result
from mtfa_fast.scoring.background import background, curve
from mtfa_fast.scoring.evaluation import evaluate_probabilities
from mtfa_fast.scoring.pooling import held_out
from mtfa_fast.scoring.tuning import tune
from tests.source_folder import make_sources

CONFIG = Config(classes=(ClassConfig("a", 0.5, 1), ClassConfig("b", 0.5, 1)))


def recording(name: str, peaks: dict[int, tuple[float, float]], **known: object) -> Recording:
    """A minute, its probabilities 0 but for single frames."""
    p = np.zeros((3_000, 2), np.float32)
    for frame, values in peaks.items():
        p[frame] = values
    return Recording(name, p, 60.0, **known)  # type: ignore[arg-type]


KEPT = ProbabilitySet(
    CONFIG,
    (
        recording("m1", {500: (0.9, 0.0)}, events=(Annotation("a", 10.0, 10.1),), label="a", ebr=0.0),
        recording("m2", {}, events=(Annotation("a", 30.0, 30.1),), label="a", ebr=0.0),
        recording("b1", {100: (0.7, 0.0), 900: (0.8, 0.6)}, place="cafe"),
        recording("b2", {}, place="cafe"),
        recording("b3", {9: (0.0, 0.95)}, place="park"),
    ),
)


def test_false_alarms_are_counted_by_place() -> None:
    found = background(KEPT)
    assert found.hours == pytest.approx(0.05)
    assert found.places["cafe"].false_alarms == {"a": 2, "b": 1} and found.places["cafe"].seconds == 120.0
    assert (found.per_hour("a"), found.per_hour("b")) == (pytest.approx(40.0), pytest.approx(40.0))
    assert found.to_dict()["places"]["park"] == {"seconds": 60.0, "a": 0, "b": 1}


def test_backgrounds_are_no_mixtures(tmp_path: Path) -> None:
    KEPT.save(tmp_path / "kept.npz")
    again = ProbabilitySet.load(tmp_path / "kept.npz")
    assert [r.place for r in again.recordings] == ["", "", "cafe", "cafe", "park"]
    scores = evaluate_probabilities(again)
    assert list(scores.classes) == ["a"] and scores.error_rate == 0.5  # one missed; no insertion from a background
    assert tune(again, longest_filter=1).choices[0].counts.insertions == 0
    with pytest.raises(ValueError, match="x: place: got one with events or a class"):
        ProbabilitySet(CONFIG, (recording("x", {}, label="a", place="cafe"),))


def test_misses_against_false_alarms() -> None:
    rows = curve(KEPT, (0.1, 0.75, 0.85, 0.95))
    assert [r["missed"] for r in rows["a"]] == [0.5, 0.5, 0.5, 1.0]
    assert [r["false_alarms_per_hour"] for r in rows["a"]] == pytest.approx([40.0, 20.0, 0.0, 0.0])
    assert all(r["missed"] is None for r in rows["b"])


def test_held_out_mixtures_are_of_the_fold_alone(tmp_path: Path) -> None:
    """Every background comes once in all folds together, under its place; a wave is what the recipe says."""
    root = make_sources(tmp_path, subset="devtrain", events=2, backgrounds=3)
    names = [*(f"events/{c}/{c}_{i}.wav,{c}{i}" for c in CLASSES for i in range(2))]
    names += [f"bgs/audio/b{i:03d}.wav,place{i}" for i in range(3)]
    (root / "metadata.csv").write_text("\n".join(["file,group", *names]))
    sources, audio, heard = SourceSet.load(root, "train"), SourceAudio(), []

    def detect(wave: np.ndarray) -> Result:
        heard.append(len(wave))
        return Result(np.zeros((1_501, 3), np.float32), Config(classes=tuple(map(ClassConfig, CLASSES))), "array", 30.0)

    parameters = MixtureParameters(2, 0.5, seed=1)
    parts = [list(held_out(fold(sources, None, 2, k), k, detect, parameters, audio)) for k in (1, 2)]
    assert [len(part) - sum(bool(r.place) for r in part) for part in parts] == [6, 6] and set(heard) == {30 * 44_100}
    places = [r.place for part in parts for r in part if r.place]
    assert sorted(places) == ["place0", "place1", "place2"]
    present = [r for r in parts[0] if r.events]
    assert len(present) == 3 and all(r.events[0].label == r.label and r.ebr in (-6.0, 0.0, 6.0) for r in present)
