"""One comparison: contestants checked, then timed in turns, then a row for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ..checking.comparison import Check
from .checks import Oracle, Part, Refused, require
from .contestants import Contestant
from .timing import Ratio, Times, in_turns


@dataclass(frozen=True)
class Row:
    """A contestant's result. ``refused`` says why there are no ``times``; ``check`` is what came before them.

    ``memory``: bytes that a run added to the process, where that is what was measured.
    """

    name: str
    part: str
    batch: int
    frames: int
    precision: str
    version: str
    settings: str
    check: Check | None = None
    times: Times | None = None
    refused: str = ""
    memory: float | None = None

    def ratio(self, other: Row) -> Ratio | None:
        """How many times as long ``other`` takes; None where one of them has no times, or not the same rounds."""
        if self.times is None or other.times is None or len(self.times.rounds) != len(other.times.rounds):
            return None
        return Ratio.of(other.times, self.times)

    def to_dict(self) -> dict[str, Any]:
        data = {key: getattr(self, key) for key in _PLAIN}
        if self.check:
            data["check"] = {
                "stage": self.check.stage,
                "error": self.check.error,
                "bound": self.check.bound,
                "passed": self.check.passed,
                "note": self.check.note,
            }
            if self.check.relative is not None:
                data["check"]["relative"] = self.check.relative
        if self.times:
            data["seconds"] = self.times.to_dict()
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Row:
        given, seconds = data.get("check"), data.get("seconds")
        check = None
        if given:
            stage, error, bound, note = (given[key] for key in ("stage", "error", "bound", "note"))
            check = Check(stage, "", error, bound, note, given.get("relative"))
        return cls(
            **{key: data[key] for key in _PLAIN},
            check=check,
            times=Times.from_dict(seconds) if seconds else None,
        )


_PLAIN = ("name", "part", "batch", "frames", "precision", "version", "settings", "refused", "memory")


@dataclass(frozen=True)
class Entry:
    """A contestant at the start: its row without times, and what checks one answer and returns the call to time."""

    row: Row
    ready: Callable[[], tuple[Check, Callable[[], object]]]


def race(
    entries: Iterable[Entry],
    *,
    rounds: int = 10,
    seconds: float | None = None,
    least: int = 3,
    progress: Callable[[float], None] = lambda share: None,
) -> list[Row]:
    """A row for each entry; ``rounds``, ``seconds``, ``least`` as of ``in_turns``.

    Whoever answers wrongly or fails is not timed, and its row says why.
    """
    rows, calls = [], {}
    for entry in entries:
        try:
            check, call = entry.ready()
            rows.append(replace(entry.row, check=require(check)))
            calls[entry.row.name] = call
        except Refused as refusal:
            rows.append(replace(entry.row, refused=f"wrong: {refusal}"))
        except (RuntimeError, MemoryError, ValueError) as error:  # a library that cannot run this shape
            rows.append(replace(entry.row, refused=f"failed: {type(error).__name__}: {error}"[:200]))
    if not calls:
        return rows
    # Each has run once, to be checked.
    times = in_turns(calls, rounds=rounds, seconds=seconds, least=least, warm=False, progress=progress)
    return [replace(row, times=times.get(row.name)) for row in rows]


def compare(
    contestants: Iterable[Contestant], oracle: Oracle, part: Part, *, batch: int = 1, frames: int, **timing: Any
) -> list[Row]:
    """:func:`race` of the contestants on the oracle's input of this shape."""
    given = oracle.input(part, batch, frames)

    def entry(c: Contestant) -> Entry:
        def ready() -> tuple[Check, Callable[[], object]]:
            for check in c.examine(oracle):
                require(check)
            call = c.prepare(part, batch, frames)
            return oracle.check(part, call(given), frames, c.yardstick), partial(call, given)

        return Entry(Row(c.name, part, batch, frames, c.precision, c.version, c.settings), ready)

    return race([entry(contestant) for contestant in contestants], **timing)


def fastest(rows: Iterable[Row], *, among: Callable[[Row], bool] = lambda row: True) -> Row | None:
    """The row with the smallest median; None where no row has times."""
    found = [row for row in rows if row.times and among(row)]
    return min(found, key=lambda row: np.inf if row.times is None else row.times.median, default=None)
