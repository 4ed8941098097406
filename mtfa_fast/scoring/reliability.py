"""Is an event's score the share of such events that are right? Reliability and expected calibration error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..events.span import LabelledSpan
from .matching import maximum_matching
from .metrics import Criterion

BINS = 10  # of equal width, from 0 to 1
_DRAWS = 1_000  # for what chance alone does


@dataclass(frozen=True, eq=False)
class Outcomes:
    """Events of some recordings, in no set order: ``scores`` float64 (n,), and which were ``right``, bool (n,)."""

    scores: NDArray[np.float64]
    right: NDArray[np.bool_]

    @classmethod
    def of(cls, scores: ArrayLike, right: ArrayLike) -> Outcomes:
        return cls(np.asarray(scores, np.float64).reshape(-1), np.asarray(right, np.bool_).reshape(-1))

    @classmethod
    def join(cls, parts: Sequence[Outcomes]) -> Outcomes:
        return cls.of([s for p in parts for s in p.scores], [r for p in parts for r in p.right])

    def __len__(self) -> int:
        return len(self.scores)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Outcomes):
            return NotImplemented
        return np.array_equal(self.scores, other.scores) and np.array_equal(self.right, other.right)

    __hash__ = None  # type: ignore[assignment]

    @property
    def error(self) -> float:
        """Expected calibration error: mean over events of |share of right ones - mean score| in a tenth of scores.

        NaN without events. It is above zero by chance, too: see :attr:`error_by_chance`.
        """
        return float(_errors(self.scores, self.right[None])[0]) if len(self) else float("nan")

    @property
    def error_by_chance(self) -> float:
        """The error to be expected of so many events with these scores if each score were exactly true; NaN: none."""
        if not len(self):
            return float("nan")
        drawn = np.random.default_rng(0).random((_DRAWS, len(self))) < self.scores
        return float(_errors(self.scores, drawn).mean())

    @property
    def bins(self) -> list[dict[str, Any]]:
        """For each tenth of scores that has events: {"score": their mean, "right": the share, "events": how many}."""
        tenth = _tenths(self.scores)
        return [
            {
                "score": float(self.scores[tenth == i].mean()),
                "right": float(self.right[tenth == i].mean()),
                "events": int((tenth == i).sum()),
            }
            for i in np.unique(tenth)
        ]

    def to_dict(self) -> dict[str, Any]:
        """JSON values; None where there are no events."""
        known = len(self) > 0
        return {
            "calibration_error": self.error if known else None,
            "calibration_error_by_chance": self.error_by_chance if known else None,
            "reliability": self.bins,
        }


def right_ones(
    reference: Sequence[LabelledSpan], found: Sequence[LabelledSpan], criterion: Criterion
) -> NDArray[np.bool_]:
    """Which of one recording's detections of a class match a reference event of it, one to one, bool (len(found),)."""
    right = np.zeros(len(found), np.bool_)
    if found and reference:
        right[list(maximum_matching(criterion.close(reference, found)).values())] = True
    return right


def _tenths(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.minimum((scores * BINS).astype(np.int64), BINS - 1)


def _errors(scores: NDArray[np.float64], right: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Of several outcomes (draws, n) of the same scores (n,)."""
    tenth = _tenths(scores)
    gaps = [np.abs((right[:, tenth == i] - scores[tenth == i]).sum(axis=1)) for i in np.unique(tenth)]
    total: NDArray[np.float64] = np.sum(gaps, axis=0) / len(scores)
    return total
