"""What an evaluation found: counts per class, as a table for people and as JSON for everything else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..events.result import Event
from ..events.span import LabelledSpan
from ..versions import versions
from .metrics import ONSET_ONLY, Counts, Criterion, event_scores
from .reliability import Outcomes, right_ones

if TYPE_CHECKING:
    from rich.table import Table

ScoredFile = tuple[str, Sequence[LabelledSpan], float | None, float]  # name, reference events, EBR, seconds


@dataclass(frozen=True)
class ClassScore:
    """One class. ``by_ebr``: only the mixtures with an event at that ratio (dB). ``false_alarms``: detections in the
    ``empty_files`` recordings without an event of the class, ``empty_seconds`` long together (NaN: unknown).
    ``outcomes``: of the detections' scores; None where they have none, as those of event lists."""

    counts: Counts
    files: int
    by_ebr: dict[float, Counts] = field(default_factory=dict)
    empty_files: int = 0
    empty_seconds: float = math.nan
    false_alarms: int = 0
    outcomes: Outcomes | None = None

    @property
    def error_rate(self) -> float:
        """Error rate, NaN where there are no events to be missed."""
        return _error_rate(self.counts)

    @property
    def f1(self) -> float:
        """F1, zero (not NaN) where there are events but no detections."""
        return _f1(self.counts)

    @property
    def false_alarms_per_hour(self) -> float:
        """Of recordings without an event; NaN where there are none, or their length is unknown."""
        return self.false_alarms / self.empty_seconds * 3_600 if self.empty_seconds else math.nan


@dataclass(frozen=True)
class Evaluation:
    """Scores per class. ``facts``: whatever identifies the run, text to JSON values; it goes into the JSON."""

    classes: dict[str, ClassScore]
    criterion: Criterion = ONSET_ONLY
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def error_rate(self) -> float:
        """Mean of the classes' error rates."""
        return _mean(s.error_rate for s in self.classes.values())

    @property
    def f1(self) -> float:
        """Mean of the classes' F1."""
        return _mean(s.f1 for s in self.classes.values())

    @property
    def outcomes(self) -> Outcomes | None:
        """Of all classes' scores together; None where the detections have none."""
        parts = [s.outcomes for s in self.classes.values() if s.outcomes is not None]
        return Outcomes.join(parts) if parts else None

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values; NaN becomes None."""
        return {
            "error_rate": _number(self.error_rate),
            "f1": _number(self.f1),
            **(self.outcomes.to_dict() if self.outcomes else {}),
            "classes": {
                label: {
                    **_rates(s.counts),
                    "files": s.files,
                    "by_ebr": {f"{ebr:g}": _rates(counts) for ebr, counts in s.by_ebr.items()},
                    "empty_files": s.empty_files,
                    "false_alarms_in_empty_files": s.false_alarms,
                    "false_alarms_per_hour": _number(s.false_alarms_per_hour),
                    **(s.outcomes.to_dict() if s.outcomes else {}),
                }
                for label, s in self.classes.items()
            },
            "protocol": {
                "collar_seconds": self.criterion.collar,
                "onset": self.criterion.onset,
                "offset": self.criterion.offset,
                "matching": "maximum, one to one",
            },
            "versions": versions("numpy", "libsndfile"),
            **self.facts,
        }

    def table(self) -> Table:
        """For a terminal: a row for each class and their mean."""
        from rich.table import Table

        ebrs = sorted({ebr for s in self.classes.values() for ebr in s.by_ebr})
        table = Table(title=f"Event-based, onset within {self.criterion.collar:g} s")
        for name in ("class", "files", "events", "ER", "F1 %", "deleted", "inserted"):
            table.add_column(name, justify="left" if name == "class" else "right")
        for ebr in ebrs:
            table.add_column(f"ER {ebr:+g} dB", justify="right")
        table.add_column("false alarms/h", justify="right")
        if self.outcomes:
            table.add_column("score error", justify="right")
        for label, s in self.classes.items():
            counts = (str(s.files), str(s.counts.reference))
            rates = (
                _text(s.error_rate, ".3f"),
                _text(100 * s.f1, ".1f"),
                str(s.counts.deletions),
                str(s.counts.insertions),
            )
            at = (f"{s.by_ebr[e].error_rate:.3f}" if e in s.by_ebr else "-" for e in ebrs)
            told = [_text(s.outcomes.error, ".3f")] if s.outcomes else []
            table.add_row(label, *counts, *rates, *at, _text(s.false_alarms_per_hour, ".1f"), *told)
        if len(self.classes) > 1:
            scored = self.classes.values()
            means = (_mean(s.by_ebr[e].error_rate for s in scored if e in s.by_ebr) for e in ebrs)
            table.add_row(
                "mean",
                "",
                "",
                _text(self.error_rate, ".3f"),
                _text(100 * self.f1, ".1f"),
                "",
                "",
                *(_text(m, ".3f") for m in means),
                "",
                *([_text(self.outcomes.error, ".3f")] if self.outcomes else []),
            )
        return table


def class_score(
    label: str,
    files: Sequence[ScoredFile],
    detections: Mapping[str, Sequence[LabelledSpan]],
    criterion: Criterion,
) -> ClassScore:
    """Score one class over ``files``, all recordings in which its detections count. ``detections``: by file name."""
    reference = {name: [e for e in events if e.label == label] for name, events, _, _ in files}
    found = {name: [e for e in detections.get(name, ()) if e.label == label] for name in reference}

    def counts(names: Iterable[str]) -> Counts:
        chosen = set(names)
        true = {name: events for name, events in reference.items() if name in chosen}
        scores = event_scores(true, {n: found[n] for n in true}, criterion=criterion, labels=[label])
        return scores.classes[label]

    ebrs = sorted({ebr for _, _, ebr, _ in files if ebr is not None and math.isfinite(ebr)})
    empty = [(name, seconds) for name, _, _, seconds in files if not reference[name]]
    return ClassScore(
        counts(reference),
        len(files),
        {e: counts(name for name, _, ebr, _ in files if ebr == e) for e in ebrs},
        len(empty),
        math.fsum(seconds for _, seconds in empty),
        sum(len(found[name]) for name, _ in empty),
        _outcomes(reference, found, criterion),
    )


def _outcomes(
    reference: Mapping[str, Sequence[LabelledSpan]], found: Mapping[str, Sequence[LabelledSpan]], criterion: Criterion
) -> Outcomes | None:
    scores, right = list[float](), list[bool]()
    for name, events in found.items():
        known = [e.score for e in events if isinstance(e, Event)]
        if len(known) < len(events):
            return None
        scores += known
        right += right_ones(reference[name], events, criterion).tolist()
    return Outcomes.of(scores, right) if scores else None


def _error_rate(counts: Counts) -> float:
    return counts.error_rate if counts.reference else math.nan


def _f1(counts: Counts) -> float:
    """Zero detections have no precision and so no F1; as a score that is a zero."""
    return 0.0 if counts.reference and not counts.estimated else counts.f1


def _rates(counts: Counts) -> dict[str, Any]:
    return {
        "error_rate": _number(_error_rate(counts)),
        "deletion_rate": _number(counts.deletion_rate),
        "insertion_rate": _number(counts.insertion_rate),
        "f1": _number(_f1(counts)),
        "precision": _number(counts.precision),
        "recall": _number(counts.recall),
        "events": counts.reference,
        "detections": counts.estimated,
        "correct": counts.correct,
    }


def _mean(values: Iterable[float]) -> float:
    numbers = [v for v in values if not math.isnan(v)]
    return math.fsum(numbers) / len(numbers) if numbers else math.nan


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _text(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)
