"""Times of several contestants in turns, and ratios that know their noise."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

SLOT_SECONDS = 0.1  # of one contestant's turn: short calls are repeated, their median counts
SETTLE_SECONDS = 0.5  # at most, before a turn, for threads that the contestant before left running
RESOLVED = 0.2  # a ratio whose 20th and 80th percentile lie further apart, in units of it, is called a range
TASKS = Path("/proc/self/task")
QUIET = 0.1  # of a core: when others used more on average, a measurement is marked as disturbed


@dataclass(frozen=True)
class Times:
    """Seconds a call, one number for each round, and what else the machine did meanwhile.

    ``others``: cores that other processes kept busy on average, ``load``: the machine's load average just before
    (NaN: the system does not tell).
    """

    rounds: tuple[float, ...]
    others: float = float("nan")
    load: float = float("nan")

    @property
    def percentiles(self) -> tuple[float, float, float]:
        """20th, 50th and 80th."""
        low, middle, high = np.percentile(self.rounds, (20, 50, 80)).tolist()
        return low, middle, high

    @property
    def median(self) -> float:
        return self.percentiles[1]

    def to_dict(self) -> dict[str, Any]:
        low, middle, high = self.percentiles
        return {
            "p20": low,
            "p50": middle,
            "p80": high,
            "rounds": list(self.rounds),
            "others": self.others,
            "load": self.load,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Times:
        """ValueError where the percentiles are not those of the rounds: somebody changed a number."""
        times = cls(tuple(data["rounds"]), data["others"], data["load"])
        written = data["p20"], data["p50"], data["p80"]
        if not np.allclose(written, times.percentiles, rtol=1e-9):
            raise ValueError(f"p20, p50, p80: got {written}, allowed: those of the rounds, {times.percentiles}")
        return times


@dataclass(frozen=True)
class Ratio:
    """How many times as long one call takes as another, by rounds that ran side by side: percentiles 20, 50, 80."""

    low: float
    middle: float
    high: float

    @classmethod
    def of(cls, slow: Times, fast: Times) -> Ratio:
        """ValueError where the two were not measured in the same rounds."""
        if len(slow.rounds) != len(fast.rounds):
            raise ValueError(f"rounds: got {len(slow.rounds)} and {len(fast.rounds)}, allowed: the same rounds")
        return cls(*np.percentile(np.divide(slow.rounds, fast.rounds), (20, 50, 80)).tolist())

    @property
    def resolved(self) -> bool:
        """Whether the noise leaves one number."""
        return self.high - self.low <= RESOLVED * self.middle and not self.low <= 1 <= self.high

    def __str__(self) -> str:
        if self.low <= 1 <= self.high:
            return "within noise"
        if not self.resolved:
            return f"{self.low:.2g} to {self.high:.2g}x"
        return f"{self.middle:.2f}x" if self.middle < 10 else f"{self.middle:.0f}x"


def in_turns(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 10,
    seconds: float | None = None,
    least: int = 3,
    warm: bool = True,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Times]:
    """Time every call once a round, A B C A B C ..., if ``warm`` after one call of each that does not count.

    Ends after ``rounds`` rounds, or sooner once ``seconds`` have passed and ``least`` rounds are done. A disturbance
    then strikes all of them, and every round gives a ratio of its own. A turn begins when this process's threads sleep:
    those of some libraries look for work, on a core of whoever comes next, for tens of milliseconds after a call.
    """
    if not calls or rounds < least or least < 1:
        raise ValueError(f"rounds: got {rounds} of {len(calls)} calls, allowed: at least {least} of at least 1 call")
    load = _load()
    for call in calls.values() if warm else ():
        call()
    taken: dict[str, list[float]] = {name: [] for name in calls}
    start, busy = time.perf_counter(), _busy_by_others()
    for done in range(1, rounds + 1):
        for name, call in calls.items():
            _settle()
            taken[name].append(_slot(call))
        passed = time.perf_counter() - start
        progress(max(done / rounds, min(passed / seconds, 1.0) if seconds else 0.0))
        if seconds is not None and passed >= seconds and done >= least:
            break
    others = (_busy_by_others() - busy) / (time.perf_counter() - start)
    return {name: Times(tuple(found), others, load) for name, found in taken.items()}


def _settle() -> None:
    if not TASKS.is_dir():  # the system does not tell: longer than the workers of any contestant were seen to look
        time.sleep(0.1)
    end = time.perf_counter() + SETTLE_SECONDS
    while _others_run() and time.perf_counter() < end:
        time.sleep(0.002)


def _others_run() -> bool:
    """Whether another thread of this process runs or wants to."""
    own = str(threading.get_native_id())
    for task in TASKS.glob("[0-9]*"):
        with suppress(OSError):  # a thread that has just ended
            state = (task / "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[0]
            if task.name != own and state == "R":
                return True
    return False


def _slot(call: Callable[[], object]) -> float:
    found: list[float] = []
    while not found or sum(found) < SLOT_SECONDS:
        start = time.perf_counter()
        call()
        found.append(time.perf_counter() - start)
    return float(np.median(found))


def _load() -> float:
    try:
        return os.getloadavg()[0]
    except OSError:
        return float("nan")


def _busy_by_others() -> float:
    """Seconds that the machine's cores have worked for anybody but this process and its children that have ended."""
    try:
        with open("/proc/stat", encoding="ascii") as file:
            fields = [int(field) for field in file.readline().split()[1:9]]
    except OSError:
        return float("nan")
    user, nice, system, _idle, _wait, irq, softirq, steal = fields
    own = sum(os.times()[:4])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK") - own
