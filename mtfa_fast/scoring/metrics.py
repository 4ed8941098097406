"""Error rate and F1 of event lists, event-based and segment-based, as sed_eval counts them.

Section 3.1 of the paper scores the onset alone, with a collar of 500 ms; these are the defaults here. A file
without reference events counts: every detection in it is a false alarm. The numbers equal those of sed_eval
0.2.1, which a test holds against this module.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..events.span import LabelledSpan
from .matching import maximum_matching

_EPS = float(np.spacing(1))  # sed_eval adds it to the number of reference events in every rate


EventLists = Mapping[str, Sequence[LabelledSpan]]  # file name -> its events


@dataclass(frozen=True)
class Counts:
    """Sums over files. Rates are NaN where sed_eval's are: no detections give no precision, no events no recall."""

    reference: int = 0
    estimated: int = 0
    correct: int = 0
    substitutions: int = 0
    deletions: int = 0
    insertions: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(mine + theirs for mine, theirs in zip(self.as_tuple(), other.as_tuple(), strict=True)))

    def as_tuple(self) -> tuple[int, int, int, int, int, int]:
        return (
            self.reference,
            self.estimated,
            self.correct,
            self.substitutions,
            self.deletions,
            self.insertions,
        )

    @property
    def precision(self) -> float:
        return self.correct / self.estimated if self.estimated else math.nan

    @property
    def recall(self) -> float:
        return self.correct / self.reference if self.reference else math.nan

    @property
    def f1(self) -> float:
        precision, recall = self.precision, self.recall
        return 0.0 if precision == recall == 0 else 2 * precision * recall / (precision + recall)

    @property
    def substitution_rate(self) -> float:
        return self.substitutions / (self.reference + _EPS)

    @property
    def deletion_rate(self) -> float:
        return self.deletions / (self.reference + _EPS)

    @property
    def insertion_rate(self) -> float:
        return self.insertions / (self.reference + _EPS)

    @property
    def error_rate(self) -> float:
        return self.substitution_rate + self.deletion_rate + self.insertion_rate


@dataclass(frozen=True)
class Scores:
    """``overall``: all labels together, a wrong label at the right time being one substitution.
    ``classes``: each label alone, without substitutions."""

    overall: Counts
    classes: dict[str, Counts]

    def average(self, rate: str) -> float:
        """Mean of a rate (the name of a property of :class:`Counts`) over the classes, NaN left out."""
        values = [v for v in (float(getattr(c, rate)) for c in self.classes.values()) if not math.isnan(v)]
        return math.fsum(values) / len(values) if values else math.nan


@dataclass(frozen=True)
class Criterion:
    """When a detection matches a reference event of its label. The defaults are those of DCASE 2017 Task 2.

    ``collar``: the onsets differ by at most this many seconds, equality included. With ``offset`` the offsets
    must also differ by at most max(collar, ``length_share`` x the reference event's length).
    """

    collar: float = 0.5
    onset: bool = True
    offset: bool = False
    length_share: float = 0.5

    def __post_init__(self) -> None:
        if not (math.isfinite(self.collar) and self.collar > 0):
            raise ValueError(f"collar: got {self.collar!r}, allowed: seconds > 0")
        if not 0 <= self.length_share <= 1:
            raise ValueError(f"length_share: got {self.length_share!r}, allowed: 0 <= share <= 1")
        if not (self.onset or self.offset):
            raise ValueError("onset, offset: got False for both, allowed: at least one of them")

    def close(self, reference: Sequence[LabelledSpan], estimated: Sequence[LabelledSpan]) -> NDArray[np.bool_]:
        """(R, E): which pairs agree in time, whatever their labels."""
        first, last = _times(reference)
        other_first, other_last = _times(estimated)
        near = np.ones((len(first), len(other_first)), dtype=bool)
        if self.onset:
            near &= np.abs(first[:, None] - other_first) <= self.collar
        if self.offset:
            allowed = np.maximum(self.collar, self.length_share * (last - first))
            near &= np.abs(last[:, None] - other_last) <= allowed[:, None]
        return near


ONSET_ONLY = Criterion()


def same_label(reference: Sequence[LabelledSpan], estimated: Sequence[LabelledSpan]) -> NDArray[np.bool_]:
    """(R, E): which pairs have one label."""
    pairs = [[r.label == e.label for e in estimated] for r in reference]
    return np.array(pairs, dtype=bool).reshape(len(reference), len(estimated))


def event_scores(
    reference: EventLists,
    estimated: EventLists,
    *,
    criterion: Criterion = ONSET_ONLY,
    labels: Iterable[str] | None = None,
) -> Scores:
    """Event-based scores. ``reference`` names every file, with an empty list where it holds no event.

    A file that ``estimated`` lacks has no detections. ``labels``: the classes, by default all that occur.
    ValueError for detections in a file that ``reference`` lacks, or a label that ``labels`` lacks.
    """
    names = _checked_labels(reference, estimated, labels)
    overall, classes = Counts(), dict.fromkeys(names, Counts())
    for true, found in _file_pairs(reference, estimated):
        close = criterion.close(true, found)
        matching = maximum_matching(close & same_label(true, found))
        substituted = _substitutions(close, matching)
        hits, misses = len(matching), len(true) - len(matching) - substituted
        overall += Counts(len(true), len(found), hits, substituted, misses, len(found) - hits - substituted)
        for name in {e.label for e in (*true, *found)}:
            expected, given = sum(r.label == name for r in true), sum(e.label == name for e in found)
            hits = sum(true[r].label == name for r in matching)
            classes[name] += Counts(expected, given, hits, 0, expected - hits, given - hits)
    return Scores(overall, classes)


def segment_scores(
    reference: EventLists,
    estimated: EventLists,
    *,
    seconds: float = 1.0,
    duration: float | None = None,
    labels: Iterable[str] | None = None,
) -> Scores:
    """Segment-based scores: a class is active in a segment of ``seconds`` if any of its events touches it.

    ``duration``: seconds of every file that count, by default up to its last offset. Errors as in
    :func:`event_scores`.
    """
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(f"seconds: got {seconds!r}, allowed: seconds > 0")
    names = _checked_labels(reference, estimated, labels)
    overall, per_class = Counts(), np.zeros((len(names), 3), dtype=int)
    for true, found in _file_pairs(reference, estimated):
        end = max((e.offset for e in (*true, *found)), default=0.0) if duration is None else duration
        segments = math.ceil(end / seconds)
        expected, given = (_activity(events, names, segments, seconds) for events in (true, found))
        both = expected & given
        per_class += np.stack([roll.sum(axis=0) for roll in (expected, given, both)], axis=1)
        n_expected, n_given, n_both = (roll.sum(axis=1) for roll in (expected, given, both))
        overall += Counts(
            int(n_expected.sum()),
            int(n_given.sum()),
            int(n_both.sum()),
            int((np.minimum(n_expected, n_given) - n_both).sum()),
            int(np.maximum(0, n_expected - n_given).sum()),
            int(np.maximum(0, n_given - n_expected).sum()),
        )
    classes = {
        name: Counts(r, e, hits, 0, r - hits, e - hits)
        for name, (r, e, hits) in zip(names, per_class.tolist(), strict=True)
    }
    return Scores(overall, classes)


def _substitutions(close: NDArray[np.bool_], matching: Mapping[int, int]) -> int:
    """Unmatched references that some unmatched detection agrees with in time, each detection used once."""
    unused = np.setdiff1d(np.arange(close.shape[1]), list(matching.values()))
    count = 0
    for row in range(close.shape[0]):
        if row not in matching:
            candidates = np.flatnonzero(close[row, unused])
            if candidates.size:
                unused = np.delete(unused, candidates[0])
                count += 1
    return count


def _times(events: Sequence[LabelledSpan]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    times = np.array([(e.onset, e.offset) for e in events], dtype=np.float64).reshape(-1, 2)
    return times[:, 0], times[:, 1]


def _activity(events: Sequence[LabelledSpan], names: list[str], segments: int, seconds: float) -> NDArray[np.bool_]:
    roll = np.zeros((segments, len(names)), dtype=bool)
    for event in events:
        roll[math.floor(event.onset / seconds) : math.ceil(event.offset / seconds), names.index(event.label)] = True
    return roll


def _file_pairs(
    reference: EventLists, estimated: EventLists
) -> Iterator[tuple[Sequence[LabelledSpan], Sequence[LabelledSpan]]]:
    for file, true in reference.items():
        yield true, estimated.get(file, ())


def _checked_labels(reference: EventLists, estimated: EventLists, labels: Iterable[str] | None) -> list[str]:
    unknown = [file for file in estimated if file not in reference]
    if unknown:
        raise ValueError(f"estimated: got {unknown[0]!r} ({len(unknown)} such), allowed: the files of the reference")
    allowed = None if labels is None else list(dict.fromkeys(labels))
    seen: set[str] = set()
    for lists in (reference, estimated):
        for file, events in lists.items():
            for event in events:
                seen.add(event.label)
                if allowed is not None and event.label not in allowed:
                    raise ValueError(f"label in {file}: got {event.label!r}, allowed: {', '.join(allowed)}")
                if not 0 <= event.onset <= event.offset < math.inf:
                    raise ValueError(
                        f"event in {file}: got {event.onset!r} to {event.offset!r} s, allowed: 0 <= onset <= offset"
                    )
    return sorted(seen) if allowed is None else allowed
