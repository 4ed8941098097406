"""Which detections are right, and the expected calibration error by its definition."""

from __future__ import annotations

import numpy as np
import pytest

from mtfa_fast.data.annotations import Annotation
from mtfa_fast.scoring.metrics import ONSET_ONLY
from mtfa_fast.scoring.reliability import Outcomes, right_ones


def test_the_error_is_that_of_its_definition() -> None:
    found = Outcomes.of([0.05, 0.09, 0.95, 1.0, 0.91], [False, True, True, True, False])
    low, high = abs(0.5 - 0.07), abs(2 / 3 - (0.95 + 1 + 0.91) / 3)
    assert found.error == pytest.approx((2 * low + 3 * high) / 5)
    assert [one["events"] for one in found.bins] == [2, 3]
    assert found.bins[0] == {"score": pytest.approx(0.07), "right": 0.5, "events": 2}


def test_chance_alone_errs_less_the_more_events_there_are() -> None:
    rng = np.random.default_rng(0)
    scores = rng.random(20_000)
    true = Outcomes.of(scores, rng.random(20_000) < scores)
    assert true.error < 0.01 and true.error_by_chance < 0.01
    assert 0.05 < Outcomes.of(scores[:100], true.right[:100]).error_by_chance < 0.15
    nothing = Outcomes.of([], [])
    assert np.isnan(nothing.error) and nothing.to_dict()["calibration_error"] is None


def test_an_event_is_found_once() -> None:
    reference = [Annotation("a", 1.0, 2.0)]
    found = [Annotation("a", at, at + 1) for at in (0.4, 0.6, 1.4, 1.6)]
    assert right_ones(reference, found, ONSET_ONLY).sum() == 1
    assert not right_ones(reference, found, ONSET_ONLY)[[0, 3]].any()
    assert right_ones([], found, ONSET_ONLY).tolist() == [False] * 4 and len(right_ones(reference, [], ONSET_ONLY)) == 0
