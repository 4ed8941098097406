"""Metrics against sed_eval, the tool that DCASE ranks with."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import pytest
import sed_eval
from scipy.optimize import linear_sum_assignment

from mtfa_fast.scoring.matching import maximum_matching
from mtfa_fast.scoring.metrics import Counts, Criterion, event_scores, segment_scores


@dataclass(frozen=True)
class Span:
    label: str
    onset: float
    offset: float


LABELS = ["babycry", "glassbreak", "gunshot"]
RATES = {
    "f_measure": {"f_measure": "f1", "precision": "precision", "recall": "recall"},
    "error_rate": {
        "error_rate": "error_rate",
        "substitution_rate": "substitution_rate",
        "deletion_rate": "deletion_rate",
        "insertion_rate": "insertion_rate",
    },
}


def random_events(rng: np.random.Generator, most: int) -> list[Span]:
    """Dense and on a grid of 0.1 s, so that onsets fall exactly on the collar and matchings compete."""
    events = []
    for _ in range(rng.integers(0, most + 1)):
        onset = round(float(rng.integers(0, 60)) * 0.1, 1)
        length = round(float(rng.integers(0, 25)) * 0.1, 1)
        events.append(Span(LABELS[rng.integers(0, 3)], onset, onset + length))
    return events


def sed_eval_lists(file, events):
    return [{"file": file, "event_label": e.label, "onset": e.onset, "offset": e.offset} for e in events]


def assert_same(ours: Counts, theirs: dict, rates=RATES) -> None:
    for group, names in rates.items():
        for name, attribute in names.items():
            if name in theirs[group]:
                np.testing.assert_allclose(getattr(ours, attribute), theirs[group][name], rtol=1e-12, atol=1e-12)


def assert_equal_scores(scores, results) -> None:
    assert_same(scores.overall, results["overall"])
    for label in LABELS:
        assert_same(scores.classes[label], results["class_wise"][label])
        assert scores.classes[label].reference == results["class_wise"][label]["count"]["Nref"]
        assert scores.classes[label].estimated == results["class_wise"][label]["count"]["Nsys"]
    average = results["class_wise_average"]
    for group, names in RATES.items():
        for name, attribute in names.items():
            if name in average[group]:
                np.testing.assert_allclose(scores.average(attribute), average[group][name], rtol=1e-12, atol=1e-12)


def test_event_scores_equal_sed_eval_on_500_sets():
    rng = np.random.default_rng(7)
    substitutions = 0
    for number in range(500):
        most = int(rng.choice([0, 1, 3, 8, 16], p=[0.04, 0.16, 0.2, 0.3, 0.3]))
        files = [f"{i}.wav" for i in range(rng.integers(1, 4))]
        reference = {f: random_events(rng, most if number % 7 else 0) for f in files}
        estimated = {f: random_events(rng, most if number % 11 else 0) for f in files}
        onset, offset = [(True, False), (True, True), (False, True)][number % 3 if number % 2 else 0]
        collar, share = float(rng.choice([0.2, 0.5, 1.0])), float(rng.choice([0.0, 0.5, 1.0]))
        judge = sed_eval.sound_event.EventBasedMetrics(
            LABELS, evaluate_onset=onset, evaluate_offset=offset, t_collar=collar, percentage_of_length=share
        )
        for f in files:
            judge.evaluate(sed_eval_lists(f, reference[f]), sed_eval_lists(f, estimated[f]))
        scores = event_scores(reference, estimated, criterion=Criterion(collar, onset, offset, share), labels=LABELS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # its mean of an empty slice
            assert_equal_scores(scores, judge.results())
        substitutions += scores.overall.substitutions
    assert substitutions > 300  # otherwise the choice among maximum matchings would go untested


def test_segment_scores_equal_sed_eval():
    rng = np.random.default_rng(11)
    for number in range(100):
        files = [f"{i}.wav" for i in range(rng.integers(1, 4))]
        reference = {f: random_events(rng, 6 if number % 7 else 0) for f in files}
        estimated = {f: random_events(rng, 6 if number % 11 else 0) for f in files}
        duration = [None, 4.5, 30.0][number % 3]
        judge = sed_eval.sound_event.SegmentBasedMetrics(LABELS, time_resolution=[1.0, 0.3][number % 2])
        for f in files:
            judge.evaluate(sed_eval_lists(f, reference[f]), sed_eval_lists(f, estimated[f]), duration)
        scores = segment_scores(reference, estimated, seconds=[1.0, 0.3][number % 2], duration=duration, labels=LABELS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            assert_equal_scores(scores, judge.results())


def test_counts_of_a_small_case_by_hand():
    reference = {"a": [Span("gunshot", 1.0, 2.0)], "b": [Span("gunshot", 5.0, 6.0)], "c": []}
    estimated = {
        "a": [Span("gunshot", 1.5, 1.6), Span("gunshot", 1.0, 9.0)],  # one match (the collar is inclusive), one false
        "b": [Span("gunshot", 5.51, 6.0)],  # late: a miss and a false alarm
        "c": [Span("gunshot", 0.0, 0.1)],  # a false alarm in an empty file
    }
    counts = event_scores(reference, estimated).classes["gunshot"]
    assert counts == Counts(reference=2, estimated=4, correct=1, deletions=1, insertions=3)
    assert counts.error_rate == pytest.approx(2.0, abs=1e-12)
    assert counts.f1 == pytest.approx(2 * 0.25 * 0.5 / 0.75, abs=1e-12)


def test_no_detections_and_no_events_give_nan_where_sed_eval_does():
    some, none = {"a": [Span("gunshot", 1.0, 2.0)]}, {"a": []}
    missed = event_scores(some, {}).overall
    assert math.isnan(missed.precision) and math.isnan(missed.f1) and missed.recall == 0
    assert math.isnan(event_scores(none, some).overall.recall)
    empty = event_scores(none, none)
    assert empty.overall == Counts() and empty.classes == {} and math.isnan(empty.average("f1"))


def test_matching_is_maximum_and_one_to_one():
    rng = np.random.default_rng(3)
    for number in range(300):
        size = rng.integers(0, [6, 40, 250][number % 3], 2)
        edges = rng.random(size) < rng.uniform(0.5, 3) / max(1, *size)  # sparse: long paths, dead ends
        matching = maximum_matching(edges)
        rows, columns = linear_sum_assignment(edges, maximize=True)
        assert len(matching) == edges[rows, columns].sum()
        assert len(set(matching.values())) == len(matching)
        assert all(edges[r, c] for r, c in matching.items())


def test_long_chains_do_not_recurse():
    n = 3000  # greedy matching takes the diagonal, and the only augmenting path runs through all of it
    edges = np.eye(n + 1, n + 1, k=0, dtype=bool) | np.eye(n + 1, n + 1, k=-1, dtype=bool)
    edges[0, 0], edges[0, n] = False, True
    assert len(maximum_matching(edges)) == n + 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({}, {"a": []}), "estimated: got 'a'"),
        (({"a": [Span("dog", 0, 1)]}, {}, ["cat"]), "label in a: got 'dog', allowed: cat"),
        (({"a": [Span("dog", 2, 1)]}, {}), "event in a: got 2 to 1 s"),
        (({"a": [Span("dog", math.nan, 1)]}, {}), "event in a: got nan"),
    ],
)
def test_bad_lists_are_refused_by_name(arguments, message):
    reference, estimated, *labels = arguments
    for score in (event_scores, segment_scores):
        with pytest.raises(ValueError, match=message):
            score(reference, estimated, labels=labels[0] if labels else None)


@pytest.mark.parametrize("bad", [{"collar": 0.0}, {"collar": math.nan}, {"length_share": 1.1}, {"onset": False}])
def test_bad_criteria_are_refused_by_name(bad):
    with pytest.raises(ValueError, match=f"{next(iter(bad))}.*got.*allowed"):
        Criterion(**bad)
