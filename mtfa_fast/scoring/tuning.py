"""The best decision for each class, exactly: over all thresholds, not a grid of them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from ..arguments import chosen, require, require_int
from ..config import Config
from ..data.probabilities import ProbabilitySet
from ..events.result import decide
from ..weights import Weights
from .calibration import Fitted, applied
from .metrics import Counts
from .threshold_search import Objective, References, best_range, ceilings, event_keys, inside, running_medians


@dataclass(frozen=True)
class Choice:
    """The best decision for one class. Every threshold in [``low``, ``high``) counts the same on this set."""

    label: str
    threshold: float
    filter_frames: int
    minimum_score: float
    counts: Counts
    low: float
    high: float


@dataclass(frozen=True)
class Tuning:
    """``config``: the one given, with the chosen decisions."""

    choices: tuple[Choice, ...]
    config: Config


def tune(
    kept: ProbabilitySet,
    *,
    classes: Iterable[str] | None = None,
    longest_filter: int = 101,
    minimum_scores: Iterable[float] = (0.0,),
    objective: Objective = "error_rate",
    collar: float = 0.5,
    progress: Callable[[int, int], None] | None = None,
) -> Tuning:
    """Search all thresholds in [0, 1] and all odd filter lengths up to ``longest_filter`` frames for each class.

    With several ``minimum_scores`` (each in [0, 1]) it does so under each of them. The error counts are those of
    :func:`.evaluation.evaluate_probabilities`: onset only, within ``collar`` seconds. Between equals decide the other
    rate (F1 or error rate), the wider range of thresholds, the filter length nearer to the present one, the smaller
    minimum score. Classes without recordings stay as they are. ValueError for wrong arguments, for no reference events
    of a class, and for a class that the set lacks.
    """
    scored = [name for name in kept.config.class_names if kept.of_class(name)]
    if not scored:
        raise ValueError("kept: the set is empty, allowed: at least one recording")
    wanted = chosen("classes", classes, scored)
    require_int("longest_filter", longest_filter, 1)
    require(longest_filter % 2 == 1, "longest_filter", longest_filter, "an odd number")
    require(objective in ("error_rate", "f1"), "objective", objective, "error_rate, f1")
    require(0 < collar < np.inf, "collar", collar, "seconds > 0")
    minimum_scores = sorted(set(minimum_scores))
    require(
        len(minimum_scores) > 0 and all(0 <= s <= 1 for s in minimum_scores),
        "minimum_scores",
        minimum_scores,
        "numbers from 0 to 1, at least one",
    )
    choices = []
    for done, label in enumerate(wanted):
        choices.append(_tune_class(kept, label, longest_filter, minimum_scores, objective, collar))
        if progress:
            progress(done + 1, len(wanted))
    return Tuning(tuple(choices), _decided(kept.config, choices))


def apply(
    tuning: Tuning,
    weights: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    fitted: Iterable[Fitted] = (),
) -> None:
    """Write the tuned decisions, and calibrations, into a weight file (``output``: into a copy of it).

    ValueError where the file is of other classes or features than the probabilities that they come from.
    """
    before = weights_of(tuning.config, weights)
    config = applied(_decided(before.config, tuning.choices), fitted)
    dataclasses.replace(before, config=config).save(weights if output is None else output)


def weights_of(config: Config, weights: str | os.PathLike[str]) -> Weights:
    """The weight file; ValueError where it is of other classes or features than the probabilities of ``config``."""
    found = Weights.load(weights)
    if found.config.class_names != config.class_names or found.config.features != config.features:
        raise ValueError(
            f"{os.fspath(weights)}: classes {', '.join(found.config.class_names)} or features differ from those of "
            f"the probabilities ({', '.join(config.class_names)})"
        )
    return found


def _decided(config: Config, choices: Iterable[Choice]) -> Config:
    """``config`` with the chosen decisions; other classes keep theirs."""
    choices = tuple(choices)
    return decide(
        config,
        threshold={c.label: c.threshold for c in choices},
        filter_frames={c.label: c.filter_frames for c in choices},
        minimum_score={c.label: c.minimum_score for c in choices},
    )


def _tune_class(
    kept: ProbabilitySet, label: str, longest: int, minimum_scores: list[float], objective: Objective, collar: float
) -> Choice:
    recordings = kept.of_class(label)
    column = kept.config.class_names.index(label)
    features = kept.config.features
    present = kept.config.classes[column].filter_frames
    gap = np.zeros(longest // 2 + 1, np.float32)  # so wide that every median in it is zero
    flat = np.concatenate([part for r in recordings for part in (gap, r.probabilities[:, column])] + [gap])
    # Floats that are not negative order as their bits do; adding 0 makes -0 a 0.
    medians = running_medians((flat + np.float32(0)).view(np.int32), longest)
    reached = [(score, flat >= np.float32(score) if score else None) for score in minimum_scores]
    references = References(recordings, label, features.hop, features.sample_rate, collar, len(gap))
    if references.count == 0:
        raise ValueError(f"classes: {label} has no reference events in the set, allowed: at least one")
    best: tuple[tuple[float, ...], Choice] | None = None
    for radius, filtered in enumerate(medians):
        before = np.concatenate([np.zeros(1, np.int32), filtered[:-1]])
        width = 2 * radius + 1
        for minimum_score, there in reached:
            ceiling = filtered if there is None else ceilings(filtered, there)
            keys = event_keys(before, ceiling) + references.hits(before, ceiling)
            counts, low, high, rank = best_range(keys, references.count, objective)
            order = (*rank, low - high, abs(width - present), width, minimum_score)
            if best is None or order < best[0]:
                best = order, Choice(label, inside(low, high), width, minimum_score, counts, low, high)
    assert best is not None
    return best[1]
