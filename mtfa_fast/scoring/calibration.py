"""Scores that mean something: for each class a logistic of the highest probability, fitted to which events are right.

Two parameters a class, after Platt (1999), with his targets that keep a few events from promising certainty.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..arguments import chosen
from ..config import Calibration, ClassConfig, Config
from ..data.probabilities import ProbabilitySet
from ..events.result import Result, decide, score_of
from .metrics import ONSET_ONLY, Criterion
from .reliability import Outcomes, right_ones

LEAST_EVENTS = 20  # of a class, or its scores stay as they are
_NEAR = 2.0**-20  # as csrc/core/calibration.cpp
_STEPS = 100


@dataclass(frozen=True)
class Fitted:
    """``calibration``: None where the set has fewer than LEAST_EVENTS events of the class; ``fitted_to`` says how many.

    ``before``: the present scores' outcomes on the set. ``held_out``: those of scores fitted on the other half of the
    set's recordings, half by half: what new recordings like these will show.
    """

    label: str
    calibration: Calibration | None
    fitted_to: int
    before: Outcomes
    held_out: Outcomes


def calibrate(
    kept: ProbabilitySet,
    config: Config | None = None,
    *,
    classes: Iterable[str] | None = None,
    criterion: Criterion = ONSET_ONLY,
) -> tuple[Fitted, ...]:
    """Fit each class's calibration to the events that ``config``'s decisions (default: the set's own) find.

    Events beneath the minimum score count in the fit, and not in the outcomes: they say more of the same line, where
    those above it are few (``python -m benchmarks.calibrations``).
    The set's networks must not have been trained on its recordings (``mtfa-fast pool``). Only mixtures count: a score
    is true where events are as frequent as in them. ValueError for a class that the set lacks.
    """
    config = config or kept.config
    loose = decide(config, minimum_score=0.0)
    scored = [name for name in config.class_names if kept.of_class(name)]
    found = []
    for label in chosen("classes", classes, scored):
        kind = config.classes[config.class_names.index(label)]
        shown, known = ([peaks(kept, c, label, criterion, half) for half in (0, 1)] for c in (config, loose))
        both, whole = Outcomes.join(shown), Outcomes.join(known)
        before = Outcomes.of([score_of(kind, float(p)) for p in both.scores], both.right)
        enough = len(whole) >= LEAST_EVENTS
        held = [told(part, fit(other)) for part, other in zip(shown, known[::-1], strict=True)] if enough else []
        found.append(Fitted(label, fit(whole) if enough else None, len(whole), before, Outcomes.join(held)))
    return tuple(found)


def applied(config: Config, fitted: Iterable[Fitted]) -> Config:
    """``config`` with the fitted calibrations; a class without one keeps what it has."""
    new = {f.label: f.calibration for f in fitted if f.calibration is not None}
    classes = tuple(dataclasses.replace(c, calibration=new.get(c.name, c.calibration)) for c in config.classes)
    return dataclasses.replace(config, classes=classes)


def peaks(
    kept: ProbabilitySet, config: Config, label: str, criterion: Criterion = ONSET_ONLY, half: int | None = None
) -> Outcomes:
    """Highest probabilities of the events of a class, in all mixtures or in every second one from ``half`` on."""
    bare = dataclasses.replace(config, classes=tuple(dataclasses.replace(c, calibration=None) for c in config.classes))
    scores, right = list[float](), list[bool]()
    for r in kept.of_class(label)[slice(half, None, 1 if half is None else 2)]:
        events = [e for e in Result(r.probabilities, bare, r.name, r.duration).events if e.label == label]
        scores += [e.score for e in events]
        right += right_ones([e for e in r.events if e.label == label], events, criterion).tolist()
    return Outcomes.of(scores, right)


def fit(peaks: Outcomes) -> Calibration:
    """The most likely logistic in the logit of the peak, its slope >= 0; by Newton's method, float64."""
    p = np.clip(peaks.scores, _NEAR, 1 - _NEAR)
    x = np.log(p / (1 - p))
    positive, negative = int(peaks.right.sum()), int((~peaks.right).sum())
    target = np.where(peaks.right, (positive + 1) / (positive + 2), 1 / (negative + 2))
    slope, offset = 0.0, float(np.log((positive + 1) / (negative + 1)))
    constant = float(np.log(target.mean() / (1 - target.mean())))

    def loss(slope: float, offset: float) -> float:
        z = slope * x + offset
        return float(np.sum(np.logaddexp(0, z) - target * z))

    for _ in range(_STEPS):
        q = 1 / (1 + np.exp(-(slope * x + offset)))
        weight = q * (1 - q)
        gradient = np.array([np.sum((q - target) * x), np.sum(q - target)])
        cross = np.sum(weight * x)
        # A ridge far below anything that can be told apart: x may be the same everywhere.
        hessian = np.array([[np.sum(weight * x * x), cross], [cross, np.sum(weight)]]) + 1e-9 * np.eye(2)
        step, scale, now = np.linalg.solve(hessian, gradient), 1.0, loss(slope, offset)
        while scale > 1e-6 and loss(slope - scale * step[0], offset - scale * step[1]) > now:
            scale /= 2
        slope, offset = slope - scale * float(step[0]), offset - scale * float(step[1])
        if np.abs(scale * step).max() < 1e-9:
            break
    # Convex: where the free optimum has a falling line, the best line that does not fall is level.
    return Calibration(slope, offset) if slope > 0 else Calibration(0.0, constant)


def told(peaks: Outcomes, calibration: Calibration) -> Outcomes:
    """The same events with the scores that ``calibration`` gives them."""
    kind = ClassConfig("event", calibration=calibration)
    return Outcomes.of([score_of(kind, float(p)) for p in peaks.scores], peaks.right)
