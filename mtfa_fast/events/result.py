"""What a detector answers: events with times, and the frame probabilities they came from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np

from .. import _core
from ..config import ClassConfig, Config


@dataclass(frozen=True)
class Event:
    """One sound event: times in seconds from the start of the recording.

    ``score``: its highest frame probability, or what the class's calibration makes of it: the share of such events that
    are right.
    """

    label: str
    onset: float
    offset: float
    score: float


@dataclass(frozen=True, eq=False)
class Result:
    """The answer for one recording. Iterating gives its events, in order of onset.

    ``probabilities``: float32 (T, K), a frame every ``config.features.frame_seconds``. ``source``: the
    file's name as given, or ``"array"``. ``duration``: seconds; no event ends later. ``start``: when the recording
    began, where that is known; naive where its zone is not (docs/clock-times.md).
    """

    probabilities: np.ndarray = field(repr=False)
    config: Config = field(repr=False)
    source: str
    duration: float
    start: datetime | None = None

    def __post_init__(self) -> None:
        shape = self.probabilities.shape
        if len(shape) != 2 or shape[1] != len(self.config.classes):
            raise ValueError(f"probabilities: got shape {shape}, allowed: (frames, {len(self.config.classes)})")

    @cached_property
    def events(self) -> tuple[Event, ...]:
        """Events by the config's thresholds and filters (section 3.1 of the paper) and smallest scores.

        A run of active frames starts at first x hop and ends at (last + 1) x hop, at most ``duration``.
        """
        classes = self.config.classes
        hop, rate = self.config.features.hop, self.config.features.sample_rate
        labels, bounds, peaks = _core.detect_runs(
            self.probabilities, [c.threshold for c in classes], [c.filter_frames for c in classes]
        )
        found = []
        for k, frames, peak in zip(labels.tolist(), bounds.tolist(), peaks.tolist(), strict=True):
            # A run can bridge frames that are all NaN; a score stays a number, as JSON and sorting want it.
            peak = 0.0 if math.isnan(peak) else peak
            if peak >= np.float32(classes[k].minimum_score):
                onset, offset = (min(frame * hop / rate, self.duration) for frame in frames)
                found.append(Event(classes[k].name, onset, offset, score_of(classes[k], peak)))
        return tuple(sorted(found, key=lambda e: (e.onset, e.offset)))

    def time_of(self, seconds: float) -> datetime | None:
        """The time of day of a moment of the recording, such as an event's onset; None where no clock is known."""
        return None if self.start is None else self.start + timedelta(seconds=seconds)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.events)

    def __len__(self) -> int:
        return len(self.events)

    def with_(
        self,
        *,
        threshold: float | Mapping[str, float] | None = None,
        filter_frames: int | Mapping[str, int] | None = None,
        minimum_score: float | Mapping[str, float] | None = None,
    ) -> Result:
        """The same recording decided differently, without running the network again.

        One number for all classes, or a mapping from some class names to numbers; what is not given stays.
        Raises ValueError naming an unknown class or a value outside 0 <= threshold, minimum_score <= 1, odd
        filter_frames >= 1.
        """
        config = decide(self.config, threshold=threshold, filter_frames=filter_frames, minimum_score=minimum_score)
        return dataclasses.replace(self, config=config)


def score_of(kind: ClassConfig, peak: float) -> float:
    """The score of an event of a class whose highest probability is ``peak``, a float32."""
    made = kind.calibration
    return peak if made is None else _core.calibrated(peak, made.slope, made.offset)


def decide(
    config: Config,
    *,
    threshold: float | Mapping[str, float] | None = None,
    filter_frames: int | Mapping[str, int] | None = None,
    minimum_score: float | Mapping[str, float] | None = None,
) -> Config:
    """``config`` with other decisions; arguments and errors as of :meth:`Result.with_`."""
    given = {"threshold": threshold, "filter_frames": filter_frames, "minimum_score": minimum_score}
    changes = {field: _per_class(config, field, value) for field, value in given.items() if value is not None}
    classes = tuple(
        dataclasses.replace(c, **{field: by_class[c.name] for field, by_class in changes.items() if c.name in by_class})
        for c in config.classes
    )
    return dataclasses.replace(config, classes=classes)


def _per_class(config: Config, name: str, value: float | Mapping[str, float]) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return dict.fromkeys(config.class_names, value)
    unknown = sorted(set(value) - set(config.class_names))
    if unknown:
        raise ValueError(f"{name}: got class {', '.join(unknown)}, allowed: {', '.join(config.class_names)}")
    return dict(value)
