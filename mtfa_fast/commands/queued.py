"""A source of sound read in a thread of its own: what waits, how far that is behind, and when it was heard."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np

from .common import clock, say

if TYPE_CHECKING:
    from ..audio.incoming import Incoming
    from ..events.result import Event

BEHIND_SECONDS = 2.0  # behind real time is said from here on
MOST_SECONDS = 600.0  # of sound that may wait; then the source is left waiting
JUMP_SECONDS = 1.0  # by which the system's clock may be off against its own running without being told
_REMEMBERED_SECONDS = 120.0


class Clock:
    """Which time of day each second of the stream had: that at which its block came, or counted from ``start``."""

    def __init__(self, start: datetime | None = None) -> None:
        self._start = start
        self._blocks: deque[tuple[float, float]] = deque()  # second of the stream on which it ends, time of day
        self._times: dict[tuple[str, float], datetime] = {}
        self._offset: float | None = None

    def block(self, end: float, arrived: float, running: float) -> None:
        """A block that ends at second ``end`` came at the time ``arrived``; ``running``: a clock that nobody sets."""
        if self._start is not None:
            return
        offset = arrived - running
        if self._offset is not None and abs(offset - self._offset) > JUMP_SECONDS:
            way = "forward" if offset > self._offset else "back"
            say(f"the system's clock was set {way} by {clock(abs(offset - self._offset))}; times follow it")
        self._offset = offset
        self._blocks.append((end, arrived))
        while len(self._blocks) > 1 and self._blocks[1][0] < end - _REMEMBERED_SECONDS:
            self._blocks.popleft()

    def at(self, second: float) -> datetime:
        if self._start is not None:
            return self._start + timedelta(seconds=second)
        end, arrived = next((known for known in self._blocks if known[0] >= second), self._blocks[-1])
        return datetime.fromtimestamp(arrived - (end - second)).astimezone()

    def note(self, event: Event) -> datetime:
        """The time of an event that begins, kept until :meth:`noted`."""
        found = self._times[event.label, event.onset] = self.at(event.onset)
        return found

    def noted(self, event: Event) -> datetime:
        return self._times.pop((event.label, event.onset))


class Queued:
    """The blocks of ``source`` in order, none left out; iterating ends with the source, its error, or :meth:`stop`."""

    def __init__(self, source: Incoming, start: datetime | None = None) -> None:
        self.clock = Clock(start)
        self._source = source
        self._queue: queue.SimpleQueue[tuple[np.ndarray | BaseException | None, float, float]] = queue.SimpleQueue()
        self._room = threading.Condition()
        self._waiting = 0  # samples read and not yet handed out
        self._stopped = False
        self._times_behind, self._most_behind = 0, 0.0

    def stop(self) -> None:
        """The sound ends here, whatever still waits. For signal handlers, too: it takes no lock."""
        self._stopped = True
        self._queue.put((None, 0.0, 0.0))

    def __iter__(self) -> Iterator[np.ndarray]:
        threading.Thread(target=self._read, name="mtfa-listen", daemon=True).start()
        rate, done, start, next_told = self._source.rate, 0, 0.0, BEHIND_SECONDS
        while True:
            block, arrived, running = self._queue.get()
            if self._stopped or block is None:
                return
            if isinstance(block, BaseException):
                raise block
            start = start or running
            self.clock.block((done + len(block)) / rate, arrived, running)
            # Not behind is what came faster than it would be played, nor what stopped coming for a while.
            behind = min(self._waiting / rate, time.monotonic() - start - done / rate)
            if behind > next_told:
                say(f"behind real time by {clock(behind)}: all of it waits, nothing is left out")
                self._times_behind += next_told == BEHIND_SECONDS
                next_told = 2 * behind
            elif behind < BEHIND_SECONDS / 2 and next_told > BEHIND_SECONDS:
                say("in time again")
                next_told = BEHIND_SECONDS
            self._most_behind = max(self._most_behind, behind)
            yield block
            done += len(block)
            with self._room:
                self._waiting -= len(block)
                self._room.notify()

    def summary(self) -> str:
        """What there is to say in the end; empty where all was in time and whole."""
        lost, left = getattr(self._source, "lost_blocks", 0), self._waiting / self._source.rate
        parts = [
            f"behind real time {self._times_behind}x, at most {clock(self._most_behind)}" if self._times_behind else "",
            f"the device lost sound {lost}x" if lost else "",
            f"{clock(left)} that still waited left out" if self._stopped and left > 1 else "",
        ]
        return ", ".join(filter(None, parts))

    def _read(self) -> None:
        lost, told = 0, -BEHIND_SECONDS
        try:
            for block in self._source:
                now = getattr(self._source, "lost_blocks", 0)
                if now > lost and time.monotonic() - told >= BEHIND_SECONDS:
                    say(f"the device lost sound: {now - lost}x before {datetime.now().astimezone():%H:%M:%S}")
                    lost, told = now, time.monotonic()
                with self._room:
                    while self._waiting > MOST_SECONDS * self._source.rate and not self._stopped:
                        self._room.wait(1.0)
                    self._waiting += len(block)
                self._queue.put((block, time.time(), time.monotonic()))
            self._queue.put((None, 0.0, 0.0))
        except BaseException as error:  # told by whoever takes the blocks
            self._queue.put((error, 0.0, 0.0))
