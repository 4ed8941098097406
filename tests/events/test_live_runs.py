"""The live decision: each event once, when it is over, as the offline decision of the same probabilities has it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mtfa_fast import _core
from mtfa_fast.events.result import Event, Result
from tests.face import CONFIG, HOP, RATE

LEVELS = st.sampled_from([0.0, 0.2, 0.5, float(np.float32(0.5)) + 1e-7, 0.7, 0.9, float("nan")])
CLASS = st.tuples(st.sampled_from([0.0, 0.5, 0.6]), st.sampled_from([1, 3, 5, 27]), st.sampled_from([0.0, 0.7, 0.8]))


def events(runs: _core.Runs, duration: float) -> list[Event]:
    return [
        Event(CONFIG.class_names[k], min(a * HOP / RATE, duration), min(b * HOP / RATE, duration), score)
        for k, (a, b), score in zip(*(part.tolist() for part in runs), strict=True)
    ]


@settings(deadline=None, max_examples=300)
@given(
    probabilities=hnp.arrays(np.float32, st.tuples(st.integers(1, 80), st.just(2)), elements=LEVELS),
    decisions=st.tuples(CLASS, CLASS),
    cuts=st.lists(st.integers(0, 80), max_size=12).map(sorted),
    short=st.booleans(),
)
def test_any_cut_gives_the_offline_events_once(
    probabilities: np.ndarray, decisions: tuple[tuple[float, int, float], ...], cuts: list[int], short: bool
) -> None:
    limits, filters, scores = zip(*decisions, strict=True)
    classes = tuple(
        dataclasses.replace(c, threshold=t, filter_frames=f, minimum_score=s)
        for c, t, f, s in zip(CONFIG.classes, limits, filters, scores, strict=True)
    )
    duration = ((len(probabilities) - 1) * HOP + (0 if short else HOP // 2)) / RATE
    offline = Result(probabilities, dataclasses.replace(CONFIG, classes=classes), "array", duration).events
    runs = _core.LiveRuns(limits, filters, scores)
    found: list[Event] = []
    begun: list[tuple[str, float]] = []
    heard = 0
    for part in np.split(probabilities, cuts):
        ended, began = runs.push(part)
        heard += len(part)
        begun += [(event.label, event.onset) for event in events(began, duration)]
        for k, (_, last) in zip(ended[0].tolist(), ended[1].tolist(), strict=True):
            assert last + filters[k] // 2 < heard  # nothing that comes later can change it
        found += events(ended, duration)
        assert all((event.label, event.onset) in begun for event in found)
    ended, began = runs.finish()
    begun += [(event.label, event.onset) for event in events(began, duration)]
    found += events(ended, duration)
    assert sorted(found, key=lambda e: (e.onset, e.offset, e.label)) == sorted(
        offline, key=lambda e: (e.onset, e.offset, e.label)
    )
    assert sorted(begun) == sorted((event.label, event.onset) for event in found)
    assert runs.delay == max(filters) // 2


def test_a_run_is_given_out_at_the_first_frame_that_decides_it() -> None:
    runs = _core.LiveRuns([0.5], [5], [0.8])
    loud, quiet = np.array([[0.9]], np.float32), np.array([[0.1]], np.float32)
    told = []
    for i, row in enumerate([quiet] * 3 + [loud] * 6 + [quiet] * 6):
        ended, begun = runs.push(row)
        told += [(i, "begun", *bounds) for bounds in begun[1].tolist()] + [
            (i, "ended", *bounds) for bounds in ended[1].tolist()
        ]
    # Frame 3 is certain once frame 5 is there; frame 9, the first that is inactive, once frame 11 is.
    assert told == [(5, "begun", 3, 4), (11, "ended", 3, 9)]


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="window: got 4, allowed: an odd number"):
        _core.LiveRuns([0.5], [4], [0.0])
    with pytest.raises(ValueError, match="one a class"):
        _core.LiveRuns([0.5, 0.5], [3], [0.0])
    with pytest.raises(ValueError, match=r"probabilities: got float32 \(3, 2\), allowed: \(n, 1\)"):
        _core.LiveRuns([0.5], [3], [0.0]).push(np.zeros((3, 2), np.float32))
