"""False alarms on recordings without events, place by place, and against the misses: a curve over thresholds."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..config import Config
from ..data.probabilities import ProbabilitySet
from ..events.result import Result, decide
from .metrics import ONSET_ONLY, Criterion
from .scores import class_score

if TYPE_CHECKING:
    from rich.table import Table

THRESHOLDS = (*(i / 50 for i in range(1, 50)), 0.99, 0.995, 0.999)


@dataclass(frozen=True)
class Place:
    """One place: how long it was listened to, and how many events of each class were found there."""

    seconds: float
    false_alarms: dict[str, int]


@dataclass(frozen=True)
class Background:
    """Places by name, in order."""

    classes: tuple[str, ...]
    places: dict[str, Place]

    @property
    def hours(self) -> float:
        return math.fsum(p.seconds for p in self.places.values()) / 3_600

    def per_hour(self, label: str) -> float:
        """False alarms an hour of one class; NaN without recordings."""
        found = sum(p.false_alarms[label] for p in self.places.values())
        return found / self.hours if self.hours else math.nan

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON values."""
        return {
            "hours": self.hours,
            "false_alarms_per_hour": {label: self.per_hour(label) for label in self.classes},
            "places": {name: {"seconds": p.seconds, **p.false_alarms} for name, p in self.places.items()},
        }

    def table(self) -> Table:
        """For a terminal: a row for each place with a false alarm, the others together, and all."""
        from rich.table import Table

        table = Table(title=f"False alarms in {self.hours:.2f} hours without events")
        for name in ("place", "minutes", *self.classes):
            table.add_column(name, justify="left" if name == "place" else "right")
        loud = {name: p for name, p in self.places.items() if any(p.false_alarms.values())}
        for name, p in loud.items():
            table.add_row(name, f"{p.seconds / 60:.1f}", *(str(p.false_alarms[c]) for c in self.classes))
        quiet = [p.seconds for name, p in self.places.items() if name not in loud]
        if quiet:
            table.add_row(f"{len(quiet)} without any", f"{sum(quiet) / 60:.1f}", *("0" for _ in self.classes))
        table.add_row("an hour", "60.0", *(f"{self.per_hour(c):.1f}" for c in self.classes))
        return table


def background(kept: ProbabilitySet, config: Config | None = None) -> Background:
    """What ``config``'s decisions (default: the set's own) find in the set's recordings of a place."""
    config = config or kept.config
    seconds, found = defaultdict[str, float](float), defaultdict[str, Counter[str]](Counter)
    for r in kept.backgrounds:
        seconds[r.place] += r.duration
        found[r.place].update(e.label for e in Result(r.probabilities, config, r.name, r.duration).events)
    names = config.class_names
    return Background(names, {p: Place(seconds[p], {c: found[p][c] for c in names}) for p in sorted(seconds)})


def curve(
    kept: ProbabilitySet,
    thresholds: Sequence[float] = THRESHOLDS,
    *,
    criterion: Criterion = ONSET_ONLY,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, list[dict[str, float | None]]]:
    """Misses against false alarms: for each class and threshold {"threshold", "missed", "false_alarms_per_hour"}.

    The filters are the set's own, events of any score count. ``missed``: share of the mixtures' events, None where
    there are none.
    """
    found: dict[str, list[dict[str, float | None]]] = {c: [] for c in kept.config.class_names}
    for number, threshold in enumerate(thresholds):
        config = decide(kept.config, threshold=threshold, minimum_score=0.0)
        empty = background(kept, config)
        detections = {r.source: r.events for r in kept.results(config)}
        for label, rows in found.items():
            files = [(r.name, r.events, r.ebr, r.duration) for r in kept.of_class(label)]
            counts = class_score(label, files, detections, criterion).counts if files else None
            rate = empty.per_hour(label)
            rows.append({
                "threshold": threshold,
                "missed": counts.deletions / counts.reference if counts and counts.reference else None,
                "false_alarms_per_hour": None if math.isnan(rate) else rate,
            })  # fmt: skip
        if progress:
            progress(number + 1, len(thresholds))
    return found
