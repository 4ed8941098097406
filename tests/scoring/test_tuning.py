"""The tuned thresholds and filters against brute force over everything there is, decided and scored as in real use."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.signal import medfilt

from mtfa_fast.config import ClassConfig, Config
from mtfa_fast.data.annotations import Annotation
from mtfa_fast.data.probabilities import ProbabilitySet, Recording
from mtfa_fast.events.result import decide
from mtfa_fast.scoring import tuning
from mtfa_fast.scoring.evaluation import evaluate_probabilities
from mtfa_fast.scoring.metrics import Criterion
from mtfa_fast.scoring.threshold_search import running_medians
from mtfa_fast.scoring.tuning import tune
from mtfa_fast.weights import Weights
from tests.face import CONFIG as FACE_CONFIG
from tests.face import make_weights

CONFIG = Config(classes=(ClassConfig("a", 0.5, 3), ClassConfig("b", 0.4, 5)))


def random_set(rng: np.random.Generator) -> ProbabilitySet:
    """Few frames, few values (so that many are equal), several reference events, near ones among them."""
    levels = np.array([0, 0, 0.1, 0.25, 0.5, 0.75, 1], np.float32)
    recordings = []
    for i in range(int(rng.integers(1, 6))):
        frames = int(rng.integers(1, 50))
        if rng.random() < 0.5:
            p = rng.choice(levels, (frames, 2))
        else:
            p = np.round(rng.random((frames, 2)) ** 3, 1 + int(rng.integers(0, 3))).astype(np.float32)
        events = []
        for label in "ab":
            for _ in range(rng.integers(0, 4)):
                onset = float(np.round(rng.uniform(0, frames * 0.02), 2))
                events.append(Annotation(label, onset, onset + 0.1))
        label = [None, "a", "b"][rng.integers(0, 3)]
        recordings.append(Recording(f"{i}.wav", p, frames * float(rng.choice([0.02, 0.01])), tuple(events), label))
    return ProbabilitySet(CONFIG, tuple(recordings))


def scores(kept: ProbabilitySet, label: str, threshold: float, filter_frames: int, least: float, collar: float):
    config = decide(
        kept.config,
        threshold={label: threshold},
        filter_frames={label: filter_frames},
        minimum_score={label: least},
    )
    return evaluate_probabilities(kept, config, criterion=Criterion(collar)).classes[label]


@pytest.mark.parametrize("minimum_scores", [(0.0,), (0.0, 0.1, 0.3, 0.8)])
@pytest.mark.parametrize("objective", ["error_rate", "f1"])
def test_same_optimum_as_brute_force(objective, minimum_scores):
    rng = np.random.default_rng(5)
    sign = 1 if objective == "error_rate" else -1
    tried = higher = 0
    while tried < 14:
        kept = random_set(rng)
        collar = float(rng.choice([0.02, 0.1, 0.2]))
        for k, label in enumerate("ab"):
            own = kept.of_class(label)
            if not any(e.label == label for r in own for e in r.events):
                continue
            tried += 1
            values = np.unique(np.concatenate([[0, 1], *(r.probabilities[:, k] for r in own)]).astype(np.float32))
            everything = [
                scores(kept, label, t, w, least, collar)
                for w in (1, 3, 5, 7, 9)
                for t in values.tolist()
                for least in minimum_scores
            ]
            best = min(sign * getattr(s, objective) for s in everything)
            other = "f1" if objective == "error_rate" else "error_rate"
            second = min(-sign * getattr(s, other) for s in everything if sign * getattr(s, objective) == best)
            (choice,) = tune(
                kept,
                classes=[label],
                longest_filter=9,
                minimum_scores=minimum_scores,
                objective=objective,
                collar=collar,
            ).choices
            higher += choice.minimum_score > 0
            for threshold in (
                choice.threshold,
                choice.low,
                float(np.nextafter(np.float32(choice.high), np.float32(0))),
            ):
                threshold = max(threshold, choice.low)
                score = scores(kept, label, threshold, choice.filter_frames, choice.minimum_score, collar)
                assert score.counts == choice.counts
                assert sign * getattr(score, objective) == pytest.approx(best, abs=1e-9)
                assert -sign * getattr(score, other) == pytest.approx(second, abs=1e-9)
            assert choice.low <= choice.threshold <= choice.high
            assert np.float32(choice.threshold) == choice.threshold
    assert higher > 0 or len(minimum_scores) == 1


@pytest.mark.parametrize(("n", "longest"), [(1, 1), (1, 7), (2, 5), (50, 1), (50, 21), (9000, 33), (30, 101)])
def test_running_medians_are_scipys(n, longest):
    rng = np.random.default_rng(n)
    for values in (rng.integers(0, 5, n), rng.integers(0, 2**30, n)):
        medians = running_medians(values.astype(np.int32), longest)
        assert medians.shape == (longest // 2 + 1, n)
        for radius, row in enumerate(medians):
            padded = np.concatenate([values, np.zeros(max(0, 2 * radius + 1 - n), int)])
            assert np.array_equal(row, medfilt(padded.astype(float), 2 * radius + 1)[:n])


def test_the_middle_of_the_widest_range_is_chosen():
    p = np.zeros((200, 2), np.float32)
    p[50:90, 0] = 0.75  # the event
    p[120:160, 0] = 0.25  # something else, to be rejected
    events = (Annotation("a", 1.0, 1.8),)
    (choice,) = tune(ProbabilitySet(CONFIG, (Recording("x", p, 4.0, events, "a"),)), longest_filter=9).choices
    assert (choice.low, choice.high, choice.threshold) == (0.25, 0.75, 0.5)
    assert choice.counts.error_rate == 0 and choice.filter_frames == 3  # all lengths do, this one is in the config


def test_the_widest_of_several_ranges_and_the_narrowest_one_there_can_be():
    events = (Annotation("a", 1.0, 1.8),)
    p = np.zeros((200, 2), np.float32)
    p[50:70, 0], p[70:75, 0], p[75:95, 0] = 0.75, 0.125, 0.25  # two events for thresholds in between
    (choice,) = tune(ProbabilitySet(CONFIG, (Recording("x", p, 4.0, events, "a"),)), longest_filter=1).choices
    assert (choice.low, choice.high, choice.counts.error_rate) == (0.25, 0.75, 0)
    p[:, 0] = 0
    for below in (np.float32(0.5), np.nextafter(np.float32(0.5), np.float32(1))):  # their middle rounds down, and up
        p[50:90, 0], p[120:160, 0] = np.nextafter(below, np.float32(1)), below
        (choice,) = tune(ProbabilitySet(CONFIG, (Recording("x", p, 4.0, events, "a"),)), longest_filter=1).choices
        assert (choice.threshold, choice.counts.error_rate) == (below, 0)


def test_tuned_decisions_go_into_the_weight_file(tmp_path):
    weights = make_weights()
    weights.save(tmp_path / "w.safetensors")
    rng = np.random.default_rng(2)
    p = rng.random((100, 2)).astype(np.float32)
    kept = ProbabilitySet(FACE_CONFIG, (Recording("x", p, 2.0, (Annotation("loud", 1.0, 1.5),), "loud"),))
    tuned = tune(kept, longest_filter=11)
    assert [c.label for c in tuned.choices] == ["loud"]
    tuning.apply(tuned, tmp_path / "w.safetensors", tmp_path / "tuned.safetensors")
    assert Weights.load(tmp_path / "w.safetensors").config == FACE_CONFIG
    tuning.apply(tuned, tmp_path / "w.safetensors")
    for name in ("w", "tuned"):
        after = Weights.load(tmp_path / f"{name}.safetensors")
        assert after.config == tuned.config != FACE_CONFIG
        assert after.config.classes[1] == FACE_CONFIG.classes[1]  # without recordings it stays as it is
        assert all(np.array_equal(after.tensors[k], v) for k, v in weights.tensors.items())
    other = dataclasses.replace(FACE_CONFIG, classes=(ClassConfig("loud"), ClassConfig("dog")))
    with pytest.raises(ValueError, match="classes loud, audible or features differ"):
        tuning.apply(dataclasses.replace(tuned, config=other), tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ["dog"]}, "classes: got dog, allowed: a"),
        ({"longest_filter": 4}, "longest_filter: got 4, allowed: an odd number"),
        ({"minimum_scores": [0.5, 1.5]}, r"minimum_scores: got \[0.5, 1.5\], allowed: numbers from 0 to 1"),
        ({"objective": "accuracy"}, "objective: got 'accuracy'"),
        ({"collar": 0.0}, "collar: got 0.0"),
        ({}, "classes: a has no reference events in the set"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    kept = ProbabilitySet(CONFIG, (Recording("x", np.zeros((9, 2), np.float32), 0.2, (), "a"),))
    with pytest.raises(ValueError, match=message):
        tune(kept, **arguments)
    with pytest.raises(ValueError, match="the set is empty"):
        tune(ProbabilitySet(CONFIG, ()))
