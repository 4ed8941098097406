"""One comparison: contestants checked, then timed in turns, then a row for each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ..verification import Check
from .checks import Oracle, Part, Refused, require
from .contestants import Call, Contestant
from .timing import Ratio, Times, in_turns


@dataclass(frozen=True)
class Row:
    """A contestant's result. ``refused`` says why there are no ``times``; ``check`` is what came before them."""

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
        if self.times:
            data["seconds"] = self.times.to_dict()
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Row:
        check, seconds = data.get("check"), data.get("seconds")
        return cls(
            **{key: data[key] for key in _PLAIN},
            check=Check(check["stage"], "", check["error"], check["bound"], check["note"]) if check else None,
            times=Times.from_dict(seconds) if seconds else None,
        )


_PLAIN = ("name", "part", "batch", "frames", "precision", "version", "settings", "refused")


def compare(
    contestants: Iterable[Contestant],
    oracle: Oracle,
    part: Part,
    *,
    batch: int = 1,
    frames: int,
    rounds: int = 10,
    seconds: float | None = None,
    least: int = 3,
    progress: Callable[[float], None] = lambda share: None,
) -> list[Row]:
    """A row for each contestant on the oracle's input of this shape; ``rounds``, ``seconds``, ``least`` as in_turns.

    Whoever answers wrongly or fails is not timed, and its row says why.
    """
    given = oracle.input(part, batch, frames)
    rows = [_admit(contestant, oracle, part, given) for contestant in contestants]
    calls = {row.name: partial(call, given) for row, call in rows if call}
    times = in_turns(calls, rounds=rounds, seconds=seconds, least=least, progress=progress) if calls else {}
    return [replace(row, times=times.get(row.name)) for row, _ in rows]


def _admit(contestant: Contestant, oracle: Oracle, part: Part, given: np.ndarray) -> tuple[Row, Call | None]:
    """The row without times, and the call to be timed if its answer is right."""
    c, (batch, frames) = contestant, given.shape[:2]
    row = Row(c.name, part, batch, frames, c.precision, c.version, c.settings)
    try:
        call = c.prepare(part, batch, frames)
        check = require(oracle.check(part, call(given), frames, c.precision))
    except Refused as refusal:
        return replace(row, refused=f"wrong: {refusal}"), None
    except (RuntimeError, MemoryError, ValueError) as error:  # a library that cannot run this shape
        return replace(row, refused=f"failed: {type(error).__name__}: {error}"[:200]), None
    return replace(row, check=check), call


def fastest(rows: Iterable[Row], *, among: Callable[[Row], bool] = lambda row: True) -> Row | None:
    """The row with the smallest median; None where no row has times."""
    found = [row for row in rows if row.times and among(row)]
    return min(found, key=lambda row: np.inf if row.times is None else row.times.median, default=None)
