"""Fitted scores against a general optimiser, and what they promise on recordings that they were not fitted on."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize

from mtfa_fast.config import Calibration, ClassConfig, Config
from mtfa_fast.data.annotations import Annotation
from mtfa_fast.data.probabilities import ProbabilitySet, Recording
from mtfa_fast.scoring.calibration import LEAST_EVENTS, applied, calibrate, fit
from mtfa_fast.scoring.evaluation import evaluate_probabilities
from mtfa_fast.scoring.reliability import Outcomes

CONFIG = Config(classes=(ClassConfig("a", 0.2, 1, 0.3), ClassConfig("b", 0.5, 1)))


def drawn(rng: np.random.Generator, slope: float, offset: float, count: int) -> Outcomes:
    logit = rng.uniform(-2, 6, count)
    right = rng.random(count) < 1 / (1 + np.exp(-(slope * logit + offset)))
    return Outcomes.of((1 / (1 + np.exp(-logit))).astype(np.float32), right)


@pytest.mark.parametrize(("slope", "offset", "count"), [(1.2, -2.0, 25), (0.5, -1.0, 400), (3.0, -9.0, 60)])
def test_the_fit_is_the_optimum(slope: float, offset: float, count: int) -> None:
    found = drawn(np.random.default_rng(count), slope, offset, count)
    x = np.log(found.scores / (1 - found.scores))
    right = found.right.sum()
    target = np.where(found.right, (right + 1) / (right + 2), 1 / (count - right + 2))

    def loss(parameters: np.ndarray) -> float:
        z = parameters[0] * x + parameters[1]
        return float(np.sum(np.logaddexp(0, z) - target * z))

    best = minimize(loss, [1.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-8, "fatol": 1e-12, "maxiter": 5_000})
    ours = fit(found)
    assert [ours.slope, ours.offset] == pytest.approx(best.x, rel=1e-4, abs=1e-4)


def test_scores_that_rank_the_wrong_way_say_the_share_alone() -> None:
    flat = fit(Outcomes.of([0.3] * 10 + [0.9] * 10, [True] * 10 + [False] * 10))
    assert flat.slope == 0 and abs(flat.offset) < 1e-6
    alone = fit(Outcomes.of([0.9] * 30, [True] * 30))  # all right, all alike: 31 of 32 by Platt's targets
    share = 1 / (1 + np.exp(-(alone.slope * np.log(9) + alone.offset)))
    assert share == pytest.approx(31 / 32, abs=1e-3)


def made(rng: np.random.Generator, recordings: int) -> ProbabilitySet:
    """One event-like run a recording, whose peak says too much: a peak p is right p**4 of the time."""
    found = []
    for i in range(recordings):
        p = np.full((100, 2), 0.01, np.float32)
        peak = rng.uniform(0.35, 0.99)
        p[20:25, 0] = peak
        events = (Annotation("a", 0.4, 0.5),) if rng.random() < peak**4 else ()
        found.append(Recording(str(i), p, 2.0, events, "a"))
    return ProbabilitySet(CONFIG, tuple(found))


def test_calibrated_scores_are_shares_on_new_recordings() -> None:
    rng = np.random.default_rng(8)
    kept, new = made(rng, 400), made(rng, 2_000)
    [fitted] = calibrate(kept, classes=["a"])
    assert len(fitted.before) == 400 == len(fitted.held_out)
    assert fitted.before.error > 0.2 and fitted.held_out.error < 0.07
    config = applied(kept.config, [fitted])
    assert config.classes[1] == CONFIG.classes[1]
    told = evaluate_probabilities(new, config)
    plain = evaluate_probabilities(new)
    assert told.outcomes is not None and plain.outcomes is not None
    assert plain.outcomes.error > 0.2 and told.outcomes.error < 0.05
    assert told.classes["a"].counts == plain.classes["a"].counts
    data = told.to_dict()
    assert data["calibration_error"] == told.classes["a"].outcomes.error  # type: ignore[union-attr]
    assert sum(one["events"] for one in data["classes"]["a"]["reliability"]) == 2_000
    [again] = calibrate(kept, config, classes=["a"])  # fitted to probabilities, whatever scores are now
    assert again.calibration == fitted.calibration and again.before.error < 0.05


def test_minimum_scores_leave_events_out_and_few_events_are_left_alone() -> None:
    kept = made(np.random.default_rng(2), LEAST_EVENTS)
    stricter = Config(classes=(dataclasses.replace(CONFIG.classes[0], minimum_score=0.999), CONFIG.classes[1]))
    [strict], [plain] = calibrate(kept, stricter, classes=["a"]), calibrate(kept, classes=["a"])
    assert strict.calibration == plain.calibration and strict.fitted_to == plain.fitted_to == LEAST_EVENTS
    assert len(strict.before) == 0 == len(strict.held_out) and np.isnan(strict.held_out.error)
    fewer = ProbabilitySet(CONFIG, kept.recordings[1:])
    assert calibrate(fewer, classes=["a"])[0].calibration is None
    assert isinstance(plain.calibration, Calibration)
    with pytest.raises(ValueError, match="classes: got b, allowed: a"):
        calibrate(kept, classes=["b"])
