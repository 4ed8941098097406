"""Ways to turn an event's highest probability into the share of such events that are right, out of fold.

python -m benchmarks.calibrations KEPT [--output FILE]     a table, and with --output a JSON file; seconds of one core

KEPT: a file of mtfa-fast pool (or evaluate --keep); events are those of its decisions. Each way is fitted for each
class on the folds but one and judged on that one, all classes together: expected calibration error beside what chance
does to a true one, logarithmic loss in nats an event (less is better), error of single classes.

============ ==========================================================================================================
probability  as it is
logistic     of its logit, after Platt, fitted on events that the minimum score leaves out, too: mtfa-fast tune's
shown        the same, fitted on those that it leaves
isotonic     the best rising steps, lines between their middles
============ ==========================================================================================================
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.out_of_fold import command, folds
from mtfa_fast.config import Config
from mtfa_fast.data.probabilities import ProbabilitySet
from mtfa_fast.events.result import decide
from mtfa_fast.scoring.calibration import fit, peaks, told
from mtfa_fast.scoring.reliability import Outcomes

Apply = Callable[[Outcomes], NDArray[np.float64]]


def isotonic(known: Outcomes) -> Apply:
    from scipy.optimize import isotonic_regression

    order = np.argsort(known.scores)
    rising = isotonic_regression(known.right[order].astype(float)).x
    steps, first = np.unique(rising, return_index=True)
    ends = np.append(first[1:], len(rising))
    middles = [known.scores[order][a:b].mean() for a, b in zip(first, ends, strict=True)]
    return lambda new: np.interp(new.scores, middles, steps)


def logistic(known: Outcomes) -> Apply:
    calibration = fit(known)
    return lambda new: told(new, calibration).scores


def compare(kept: ProbabilitySet) -> dict[str, Any]:
    config: Config = kept.config
    loose = decide(config, minimum_score=0.0)
    found: dict[str, dict[str, list[Outcomes]]] = {w: {} for w in ("probability", "logistic", "shown", "isotonic")}
    for label in (c for c in config.class_names if any(r.events for r in kept.of_class(c))):
        recordings = kept.of_class(label)
        fold = folds(recordings)
        for k in np.unique(fold):
            own, others = (
                ProbabilitySet(config, tuple(r for r, f in zip(recordings, fold, strict=True) if (f == k) == held))
                for held in (True, False)
            )
            new, known, more = (peaks(s, c, label) for s, c in ((own, config), (others, config), (others, loose)))
            ways = {"probability": lambda x: x.scores, "logistic": logistic(more), "shown": logistic(known)}
            for way, apply in {**ways, "isotonic": isotonic(known)}.items():
                found[way].setdefault(label, []).append(Outcomes.of(apply(new), new.right))
    rows = {}
    for way, classes in found.items():
        parts = {label: Outcomes.join(own) for label, own in classes.items()}
        both = Outcomes.join(list(parts.values()))
        q = np.clip(both.scores, 1e-3, 1 - 1e-3)  # a step of 0 or 1 promises what no events can show
        rows[way] = {
            "events": len(both),
            "error": both.error,
            "by_chance": both.error_by_chance,
            "log_loss": float(-np.mean(np.where(both.right, np.log(q), np.log(1 - q)))),
            "classes": {label: part.error for label, part in parts.items()},
        }
    return {"mixtures": len(kept.mixtures), "rows": rows}


def table(found: dict[str, Any]) -> Iterator[str]:
    rows = found["rows"]
    labels = list(rows["probability"]["classes"])
    heads = ["way", "events", "error", "by chance", "log loss", *labels]
    yield f"| {' | '.join(heads)} |"
    yield f"| --- |{' ---: |' * (len(heads) - 1)}"
    for way, row in rows.items():
        cells = [f"{row[name]:.3f}" for name in ("error", "by_chance", "log_loss")]
        cells += [f"{row['classes'][label]:.3f}" for label in labels]
        yield f"| {way} | {row['events']} | {' | '.join(cells)} |"


main = partial(command, __doc__, compare, table)

if __name__ == "__main__":
    sys.exit(main())
