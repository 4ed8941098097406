"""Events as lines on standard output, each as soon as it is there."""

from __future__ import annotations

import csv
import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from ..events import writers

if TYPE_CHECKING:
    from ..events.result import Event

LineFormat = Literal["json", "csv", "tsv", "table"]


class Lines:
    """One line an event, flushed: its time of day, label, onset, offset and score; ``extra`` in JSON alone."""

    def __init__(self, form: LineFormat) -> None:
        self._form = form

    def head(self) -> None:
        if self._form == "csv":
            csv.writer(sys.stdout, lineterminator="\n").writerow(["time", "onset", "offset", "label", "score"])
        elif self._form == "table":
            print(f"{'time':<29}  {'onset':>9}  {'offset':>9}  {'score':>5}  label")
        sys.stdout.flush()

    def add(self, event: Event, time: datetime, **extra: str | None) -> None:
        stamp = writers.stamp(time)
        if self._form == "json":
            row = {"time": stamp, "label": event.label, "onset": event.onset, "offset": event.offset}
            print(json.dumps(row | {"score": event.score} | extra, ensure_ascii=False))
        elif self._form == "csv":
            row_of = [stamp, f"{event.onset:.3f}", f"{event.offset:.3f}", event.label, f"{event.score:.4f}"]
            csv.writer(sys.stdout, lineterminator="\n").writerow(row_of)
        elif self._form == "tsv":
            print(f"{stamp}\t{event.onset:.3f}\t{event.offset:.3f}\t{event.label}")
        else:
            print(f"{stamp:<29}  {event.onset:9.3f}  {event.offset:9.3f}  {event.score:5.3f}  {event.label}")
        sys.stdout.flush()
