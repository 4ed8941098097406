"""Every threshold of one class at once: where events begin, which of them are found, and the best place between.

A median filter and a threshold commute: the binary median of ``p > t`` is ``median(p) > t``. So each filter length
costs one median filtering of the probabilities q, after which frame t starts an event for exactly the thresholds in
[q[t-1], q[t]). Where events must reach a score, the run from t must also get to a frame that has it: the upper bound is
then the least q on the way there. The number of events, and of reference events that are found, is a sum of such
intervals: sorting their ends and adding up gives the error rate at every threshold that makes a difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..data.probabilities import Recording
from .metrics import Counts

Objective = Literal["error_rate", "f1"]
Keys = NDArray[np.uint32]

_CHUNK = 8_192  # frames; the sorted windows of one chunk stay in the cache
# Bounds of intervals, packed with the threshold into one integer so that sorting orders both.
_EVENT_ENDS, _EVENT_STARTS, _HIT_ENDS, _HIT_STARTS = range(4)


def running_medians(values: NDArray[np.int32], longest: int) -> NDArray[np.int32]:
    """Medians under all odd windows up to ``longest``, zeros beyond the ends: (n,) -> (1 + longest // 2, n).

    Row r has window 2r + 1. The window grows by one value on each side; it is kept sorted, and values so far from its
    middle that no longer window can have them as its median are dropped.
    """
    half, n = longest // 2, len(values)
    padded = np.concatenate([np.zeros(half, np.int32), values, np.zeros(half, np.int32)])
    medians = np.empty((half + 1, n), np.int32)
    buffers = np.empty((2, half + 4, min(n, _CHUNK)), np.int32)
    for start in range(0, n, _CHUNK):
        count = min(_CHUNK, n - start)
        centre = start + half
        window, other = buffers[0, :1, :count], buffers[1]
        window[0] = medians[0, start : start + count] = padded[centre : centre + count]
        spare = buffers[0]
        for radius in range(1, half + 1):
            for shift in (-radius, radius):
                new = padded[centre + shift : centre + shift + count]
                size = len(window)
                wider = other[: size + 1, :count]
                np.minimum(window, new, out=wider[:size])
                wider[size] = new
                np.maximum(wider[1:], window, out=wider[1:])
                window, other, spare = wider, spare, other
            surplus = (len(window) - 1) // 2 - (half - radius)
            if surplus > 0:
                window = window[surplus:-surplus]
            medians[radius, start : start + count] = window[len(window) // 2]
    return medians


class References:
    """The reference events of a class and the frames of the flat sequence whose onset would match them."""

    def __init__(
        self, recordings: Sequence[Recording], label: str, hop: int, rate: int, collar: float, gap: int
    ) -> None:
        self.count = 0
        self._collar = collar
        alone: list[NDArray[np.int64]] = []
        self._crowds: list[tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]] = []
        offset = gap
        for r in recordings:
            onsets = np.array(sorted(e.onset for e in r.events if e.label == label))
            self.count += len(onsets)
            times = np.minimum(np.arange(len(r.probabilities)) * hop / rate, r.duration)
            close = np.abs(onsets[:, None] - times) <= collar
            # A frame near two events can match either: such events are matched together, all others on their own.
            for group in _groups(close):
                frames = np.flatnonzero(close[group].any(axis=0))
                if len(group) == 1:
                    alone.append(offset + frames)
                else:
                    self._crowds.append((onsets[group], offset + frames, times[frames]))
            offset += len(r.probabilities) + gap
        # Frame 0 lies in a gap and never starts an event, so it can fill the rows up.
        self._alone = np.zeros((len(alone), max(map(len, alone), default=0)), np.int64)
        for row, frames in zip(self._alone, alone, strict=True):
            row[: len(frames)] = frames

    def hits(self, before: NDArray[np.int32], ceiling: NDArray[np.int32]) -> list[Keys]:
        """Bounds of the thresholds at which reference events are found; arguments as of :func:`event_keys`."""
        keys = []
        if self._alone.size:
            # The union of each row's intervals: sorted by start, a piece ends where none reaches the next start.
            low, high = before[self._alone], ceiling[self._alone]
            low = np.where(high > low, low, np.iinfo(np.int32).max)
            order = np.argsort(low, axis=1)
            low, high = np.take_along_axis(low, order, 1), np.take_along_axis(high, order, 1)
            reach = np.maximum.accumulate(np.where(low < high, high, 0), axis=1)
            real = low != np.iinfo(np.int32).max
            first = real & np.concatenate([np.ones((len(low), 1), bool), low[:, 1:] > reach[:, :-1]], axis=1)
            last = real & np.concatenate([first[:, 1:] | ~real[:, 1:], np.ones((len(low), 1), bool)], axis=1)
            keys += [_pack(low[first], _HIT_STARTS), _pack(reach[last], _HIT_ENDS)]
        for onsets, frames, times in self._crowds:
            low, high = before[frames], ceiling[frames]
            found = 0
            for threshold in np.unique(np.concatenate([low, high])[np.tile(high > low, 2)]):
                now = _match(onsets, times[(low <= threshold) & (threshold < high)], self._collar)
                kind = _HIT_STARTS if now > found else _HIT_ENDS
                keys.append(_pack(np.full(abs(now - found), threshold, np.int32), kind))
                found = now
        return keys


def ceilings(filtered: NDArray[np.int32], reached: NDArray[np.bool_]) -> NDArray[np.int32]:
    """For each frame t the bound below which a threshold lets a run from t get to the first frame that is ``reached``.

    That is the least value of ``filtered`` from t to that frame; the last frame is taken as reached.
    """
    # A running minimum from the right that starts anew at each reached frame: such frames' keys are smaller than all
    # that lie to their right.
    backwards = filtered[::-1].astype(np.int64)
    level = np.cumsum(reached[::-1]) << 32
    least: NDArray[np.int32] = (np.minimum.accumulate(backwards - level) + level)[::-1].astype(np.int32)
    return least


def event_keys(before: NDArray[np.int32], ceiling: NDArray[np.int32]) -> list[Keys]:
    """Bounds of the thresholds at which each frame starts an event: value of the frame before, and ``ceilings``."""
    rising = ceiling > before
    return [_pack(before[rising], _EVENT_STARTS), _pack(ceiling[rising], _EVENT_ENDS)]


def _groups(close: NDArray[np.bool_]) -> list[list[int]]:
    """Rows of ``close`` (events in order of time, frames) joined where they share a frame."""
    groups: list[list[int]] = []
    for row in range(len(close)):
        if groups and (close[row] & close[row - 1]).any():
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def _match(onsets: NDArray[np.float64], times: NDArray[np.float64], collar: float) -> int:
    """Size of the largest one-to-one matching: the collar is the same for all, so the earliest that fits is best."""
    matched = event = 0
    for time in times.tolist():
        while event < len(onsets) and onsets[event] < time and abs(onsets[event] - time) > collar:
            event += 1
        if event < len(onsets) and abs(onsets[event] - time) <= collar:
            matched += 1
            event += 1
    return matched


def _pack(thresholds: NDArray[np.int32], kind: int) -> Keys:
    # 1.0 has the bits 3F800000, so two bits are free.
    return thresholds.astype(np.uint32) << np.uint32(2) | np.uint32(kind)


def best_range(
    keys: Sequence[Keys], reference: int, objective: Objective
) -> tuple[Counts, float, float, tuple[float, float]]:
    """Counts, range of thresholds and rank (less is better) of the best place among interval bounds."""
    at_zero = _pack(np.zeros(1, np.int32), _EVENT_STARTS), _pack(np.zeros(1, np.int32), _EVENT_ENDS)
    bounds = np.sort(np.concatenate([*at_zero, *keys]))
    kind, values = bounds & np.uint32(3), bounds >> np.uint32(2)
    events = np.cumsum((kind == _EVENT_STARTS).astype(np.int32) - (kind == _EVENT_ENDS))
    hits = np.cumsum((kind == _HIT_STARTS).astype(np.int32) - (kind == _HIT_ENDS))
    settled = np.flatnonzero(np.append(values[1:] != values[:-1], True))  # the sums hold from a value's last bound on
    events, hits, values = events[settled], hits[settled], values[settled]
    errors, f1 = reference + events - 2 * hits, 2 * hits / (reference + events)
    first, second = (errors, -f1) if objective == "error_rate" else (-f1, errors)
    best = first == first.min()
    best &= second == second[best].min()
    # Neighbouring values that are equally good form one range.
    edges = np.flatnonzero(np.diff(np.concatenate([[False], best, [False]])))
    lows = values[edges[::2]].astype(np.uint32).view(np.float32)
    highs = np.append(values.astype(np.uint32).view(np.float32), np.float32(1))[edges[1::2]]
    widest = int(np.argmax(highs - lows))
    at = edges[2 * widest]
    n, hit = int(events[at]), int(hits[at])
    counts = Counts(reference, n, hit, 0, reference - hit, n - hit)
    return counts, float(lows[widest]), float(highs[widest]), (float(first[at]), float(second[at]))


def inside(low: float, high: float) -> float:
    """A threshold in [low, high) that float32 holds exactly, in the middle where there is room."""
    middle = float(np.float32((low + high) / 2))
    return middle if middle < high else low
