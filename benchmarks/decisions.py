"""From probabilities to events in other ways than a threshold, compared on recordings that no choice was made on.

python -m benchmarks.decisions KEPT [--output FILE]     a table, and with --output a JSON file; a minute of one core

KEPT: a file of mtfa-fast pool (or evaluate --keep). Each way has its settings chosen for each class on all folds but
one, by the fewest errors, and is counted on that one: folds are those of pool (places and sources differ), otherwise
every fourth recording. The spread is the middle 90 % of 2,000 drawings of the recordings with replacement, of the
difference to the first row, recording by recording.

==================== =================================================================================================
threshold            the paper's: a threshold, a median filter of 27 frames
filter               the filter's length chosen for the class, too
score                threshold and filter of 27, and a frame of the run above a higher threshold: hysteresis, which is
                     the config's ``minimum_score``
score, filter        all three chosen
filtered score       hysteresis behind the filter: half of some filter's window lies above the higher threshold
change points        after the idea of Ebbers and others (arXiv 2406.04212): an event lasts from a steep rise of the
                     smoothed probability to the next steep fall; near ones with little between them are joined; a
                     threshold on the mean probability inside
change points, peak  the same with a threshold on the highest probability inside
==================== =================================================================================================
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.out_of_fold import command, folds
from mtfa_fast import _core
from mtfa_fast.data.probabilities import ProbabilitySet, Recording

Ints, Floats = NDArray[np.int64], NDArray[np.float32]
LOW = np.array([0.02, 0.05, *np.arange(0.1, 0.96, 0.05), 0.98], np.float32)
HIGH = np.array([0.0, *np.arange(0.1, 0.96, 0.05), 0.98, 0.99, 0.995, 0.999], np.float32)
PAPER, FILTERS = 27, (1, 9, 15, 21, 27, 35, 45, 61)
STEPS = (7, 15, 25, 41)  # frames on each side of a change
JOINS = (0.0, 0.3, 0.5, 0.7)  # two events are one where all between them is above so much of the weaker one's mean
COLLAR, DRAWS, GAP = 0.5, 2_000, 64
WAYS = ("threshold", "filter", "score", "score, filter", "filtered score", "change points", "change points, peak")


@dataclass(frozen=True)
class Track:
    """The recordings of one class behind each other, GAP zeros before each: ``p`` of the class, which recording each
    frame belongs to, and for each frame the reference event whose onset it would match, -1: none."""

    p: Floats
    recording: Ints
    reference: Ints
    counts: Ints  # reference events of each recording


def track(kept: ProbabilitySet, label: str, recordings: Sequence[Recording]) -> Track:
    column, step = kept.config.class_names.index(label), kept.config.features.frame_seconds
    parts, owner, near, counts, seen = [np.zeros(GAP, np.float32)], [np.zeros(GAP, np.int64)], [np.full(GAP, -1)], [], 0
    for i, r in enumerate(recordings):
        times = np.minimum(np.arange(len(r.probabilities)) * step, r.duration)
        onsets = sorted(e.onset for e in r.events if e.label == label)
        match = np.full(len(times) + GAP, -1)
        for onset in onsets:
            match[: len(times)][np.abs(times - onset) <= COLLAR] = seen
            seen += 1
        parts += [r.probabilities[:, column], np.zeros(GAP, np.float32)]
        owner.append(np.full(len(match), i))
        near.append(match)
        counts.append(len(onsets))
    return Track(np.concatenate(parts), np.concatenate(owner), np.concatenate(near), np.array(counts))


def errors(of: Track, first: Ints, scores: Floats, levels: Floats) -> Ints:
    """Missed and false events of each recording if those with a score >= level count: (levels, recordings)."""
    found = np.empty((len(levels), len(of.counts)), np.int64)
    for row, level in zip(found, levels, strict=True):
        at = first[scores >= level]
        hit = np.unique(of.reference[at])  # each reference event once: further detections of it are false
        references = np.repeat(np.arange(len(of.counts)), of.counts)[hit[hit >= 0]]
        row[:] = of.counts + np.bincount(of.recording[at], minlength=len(of.counts))
        row -= 2 * np.bincount(references, minlength=len(of.counts))
    return found


def runs(active: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    edges = np.flatnonzero(np.diff(active.astype(np.int8), prepend=0, append=0))
    return edges[::2], edges[1::2]


def peaks(values: Floats, first: Ints, last: Ints) -> Floats:
    """The highest value of each [first, last); the track ends in zeros, so no last is its end."""
    return np.maximum.reduceat(values, np.stack([first, last], 1).ravel())[::2] if len(first) else values[:0]


Errors = Iterator[tuple[str, Ints]]  # settings, errors of each recording


def thresholds(of: Track, filters: Sequence[int], high: Floats, behind: bool = False) -> Errors:
    """Threshold and filter, then a score: of the run's probability, or ``behind`` the filter."""
    for window in filters:
        filtered = _core.median_filter(of.p, window)
        for low in LOW:
            first, last = runs(filtered > low)
            scores = peaks(filtered if behind else of.p, first, last)
            for level, counted in zip(high, errors(of, first, scores, high), strict=True):
                if level == 0 or level > low:
                    yield f"{low:.2f}, {window}, {level:g}", counted


def change_points(of: Track, mean: bool) -> Errors:
    total = np.concatenate([[0.0], np.cumsum(of.p, dtype=np.float64)])
    for step in STEPS:
        t = np.arange(len(of.p))
        before = total[t] - total[np.maximum(t - step, 0)]
        after = total[np.minimum(t + step, len(of.p))] - total[t]
        rise = ((after - before) / step).astype(np.float32)
        top = (rise > 0.02) & (rise >= np.roll(rise, 1)) & (rise > np.roll(rise, -1))
        foot = (rise < -0.02) & (rise <= np.roll(rise, 1)) & (rise < np.roll(rise, -1))
        at = np.flatnonzero(top | foot)
        up = top[at]
        # Of several rises without a fall between them, or falls without a rise, the steepest.
        groups = np.flatnonzero(np.diff(up, prepend=~up[:1]))
        steepest = [
            first + np.argmax(np.abs(rise[part])) for first, part in zip(groups, np.split(at, groups[1:]), strict=True)
        ]
        begins, ends = (at[[i for i in steepest if up[i] == way]].astype(np.int64) for way in (True, False))
        ends = ends[ends > begins[0]] if len(begins) else ends[:0]
        begins = begins[: len(ends)]
        for join in JOINS:
            first, last = joined(of, total, begins, ends, join)
            scores = (
                ((total[last] - total[first]) / (last - first)).astype(np.float32) if mean else peaks(of.p, first, last)
            )
            for level, counted in zip(LOW, errors(of, first, scores, LOW), strict=True):
                yield f"step {step}, join {join:g}, {level:.2f}", counted


def joined(of: Track, total: NDArray[np.float64], begins: Ints, ends: Ints, share: float) -> tuple[Ints, Ints]:
    """Neighbours of one recording as one event where the least between them is above ``share`` of the weaker mean."""
    if not share:
        return begins, ends
    found: list[list[int]] = []
    for first, last in zip(begins.tolist(), ends.tolist(), strict=True):
        if found and of.recording[found[-1][0]] == of.recording[first]:
            weaker = min((total[b] - total[a]) / (b - a) for a, b in (found[-1], (first, last)))
            if of.p[found[-1][1] : first + 1].min() >= share * weaker:
                found[-1][1] = last
                continue
        found.append([first, last])
    spans = np.array(found, np.int64).reshape(-1, 2)
    return spans[:, 0], spans[:, 1]


MAKE: dict[str, Callable[[Track], Errors]] = {
    "threshold": lambda of: thresholds(of, [PAPER], HIGH[:1]),
    "filter": lambda of: thresholds(of, FILTERS, HIGH[:1]),
    "score": lambda of: thresholds(of, [PAPER], HIGH),
    "score, filter": lambda of: thresholds(of, FILTERS, HIGH),
    "filtered score": lambda of: thresholds(of, FILTERS, HIGH, behind=True),
    "change points": lambda of: change_points(of, mean=True),
    "change points, peak": lambda of: change_points(of, mean=False),
}


def held_out(found: Errors, fold: Ints) -> tuple[Ints, list[str]]:
    """Errors of each recording by the settings that are best on the other folds, and those settings."""
    settings, counted = zip(*found, strict=True)
    table = np.stack(counted)
    errors, chosen = np.empty(table.shape[1], np.int64), []
    for k in np.unique(fold):
        best = int(np.argmin(table[:, fold != k].sum(axis=1)))
        errors[fold == k] = table[best, fold == k]
        chosen.append(settings[best])
    return errors, chosen


def compare(kept: ProbabilitySet) -> dict[str, Any]:
    labels = [label for label in kept.config.class_names if any(r.events for r in kept.of_class(label))]
    rows: dict[str, dict[str, Any]] = {way: {"classes": {}} for way in WAYS}
    rng = np.random.default_rng(0)
    drawn: dict[str, list[NDArray[np.float64]]] = {way: [] for way in WAYS}
    for label in labels:
        recordings = kept.of_class(label)
        of, fold = track(kept, label, recordings), folds(recordings)
        times = rng.multinomial(len(recordings), np.full(len(recordings), 1 / len(recordings)), DRAWS)
        base: Ints | None = None
        for way in WAYS:
            counted, chosen = held_out(MAKE[way](of), fold)
            base = counted if base is None else base
            rate = counted.sum() / of.counts.sum()
            rows[way]["classes"][label] = {"error_rate": float(rate), "settings": chosen}
            drawn[way].append(times @ (counted - base) / np.maximum(times @ of.counts, 1))
    for way, row in rows.items():
        row["error_rate"] = float(np.mean([one["error_rate"] for one in row["classes"].values()]))
        row["difference"] = row["error_rate"] - rows[WAYS[0]]["error_rate"]
        row["spread"] = np.quantile(np.mean(drawn[way], axis=0), [0.05, 0.95]).tolist()
    return {"mixtures": len(kept.mixtures), "rows": rows}


def table(found: dict[str, Any]) -> Iterator[str]:
    labels = list(found["rows"][WAYS[0]]["classes"])
    yield f"| way | {' | '.join(labels)} | mean ER | to threshold | 90 % |"
    yield f"| --- |{' ---: |' * (len(labels) + 3)}"
    for way, row in found["rows"].items():
        rates = [f"{row['classes'][label]['error_rate']:.3f}" for label in labels]
        low, high = row["spread"]
        yield (
            f"| {way} | {' | '.join(rates)} | {row['error_rate']:.3f} | {row['difference']:+.3f} "
            f"| {low:+.3f} to {high:+.3f} |"
        )


main = partial(command, __doc__, compare, table)

if __name__ == "__main__":
    sys.exit(main())
