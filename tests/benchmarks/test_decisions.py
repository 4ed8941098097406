"""The comparison of ways to events counts as evaluate does, and chooses nothing on what it counts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import calibrations, decisions
from benchmarks.out_of_fold import folds
from mtfa_fast.config import ClassConfig, Config
from mtfa_fast.data.annotations import Annotation
from mtfa_fast.data.probabilities import ProbabilitySet, Recording
from mtfa_fast.events.result import decide
from mtfa_fast.scoring.evaluation import evaluate_probabilities

CONFIG = Config(classes=(ClassConfig("a"),))


def made(count: int, seed: int = 0) -> ProbabilitySet:
    """Slow random probabilities, and in every second recording an event where one of their rises is."""
    rng, found = np.random.default_rng(seed), []
    for i in range(count):
        logit = np.convolve(rng.standard_normal(400), np.ones(25) / 3, "same")
        events = (Annotation("a", float(np.argmax(np.diff(logit))) * 0.02, 8.0),) if i % 2 else ()
        p = (1 / (1 + np.exp(-2 * logit))).astype(np.float32)[:, None]
        found.append(Recording(f"fold{1 + i // 2 % 4}/a/{i}", p, 8.0, events, "a"))
    return ProbabilitySet(CONFIG, tuple(found))


def test_errors_are_those_of_evaluate() -> None:
    kept = made(12)
    of = decisions.track(kept, "a", kept.recordings)
    table = dict(decisions.thresholds(of, [1, 27], decisions.HIGH))
    for i in range(0, len(table), 37):
        settings = list(table)[i]
        low, window, high = settings.split(", ")
        exact = [float(levels[np.argmin(abs(levels - float(text)))]) for levels, text in
                 ((decisions.LOW, low), (decisions.HIGH, high))]  # fmt: skip
        config = decide(CONFIG, threshold=exact[0], filter_frames=int(window), minimum_score=exact[1])
        counts = evaluate_probabilities(kept, config).classes["a"].counts
        assert table[settings].sum() == counts.deletions + counts.insertions, settings


def test_change_points_lie_where_the_probability_steps() -> None:
    p = np.full((400, 1), 0.1, np.float32)
    p[100:150] = p[180:230] = 0.9
    p[150:180] = 0.6
    kept = ProbabilitySet(CONFIG, (Recording("x", p, 8.0, (Annotation("a", 2.0, 4.6),), "a"),))
    table = dict(decisions.change_points(decisions.track(kept, "a", kept.recordings), mean=True))
    assert table["step 15, join 0, 0.70"].sum() == 1  # two events, of which one is false
    assert table["step 15, join 0.5, 0.70"].sum() == 0
    assert table["step 15, join 0.5, 0.90"].sum() == 1  # its mean is below


def test_settings_are_not_chosen_on_the_fold_that_is_counted() -> None:
    """The second setting is best but for fold 1, on which it alone fails: fold 1 is counted by the first there."""
    fold = np.array([1, 1, 2, 2, 3, 3])
    found = [("one", np.array([0, 0, 1, 1, 1, 1])), ("two", np.array([3, 3, 0, 0, 0, 0]))]
    errors, chosen = decisions.held_out(iter(found), fold)
    assert chosen == ["two", "one", "one"] and errors.tolist() == [3, 3, 1, 1, 1, 1]


def test_the_table_has_every_way(capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("kept")
    made(24).save(folder / "kept.npz")
    assert decisions.main([str(folder / "kept.npz"), "--output", str(folder / "out.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == list(decisions.WAYS)
    assert "+0.000 to +0.000" in lines[2] and (folder / "out.json").stat().st_size > 500


def test_calibrations_are_judged_on_other_folds(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    made(200, seed=3).save(tmp_path / "kept.npz")
    assert calibrations.main([str(tmp_path / "kept.npz"), "--output", str(tmp_path / "out.json")]) == 0
    rows = json.loads((tmp_path / "out.json").read_text("utf-8"))["rows"]
    assert rows["logistic"]["error"] < rows["probability"]["error"]
    assert rows["logistic"] == rows["shown"] != rows["isotonic"]  # no minimum score here
    assert len(capsys.readouterr().out.splitlines()) == 6


def test_recordings_of_one_network_are_dealt_out() -> None:
    named = [Recording(f"fold1/a/{i}", np.zeros((1, 1), np.float32), 0.02) for i in range(6)]
    assert folds(named).tolist() == [0, 1, 2, 3, 0, 1]
    assert folds(made(6).recordings).tolist() == [1, 1, 2, 2, 3, 3]
