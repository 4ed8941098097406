"""Rows in words: a table, and what stands between a time and the machine's limits."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from ..config import Config
from .networks import operations
from .rows import Row, fastest
from .timing import QUIET

PARTS = {"trunk": "convolutions", "recurrent": "recurrent part"}
RECURRENT_LAYERS = 2  # their directions run side by side


def table(rows: Sequence[Row], config: Config) -> Iterator[str]:
    """One line for each row: median, percentiles, speed, error, and the ratio to the fastest of ours.

    What is in 8 bits is compared with ours in 8 bits, where that ran, and the rest with the rest.
    """
    base: dict[bool, Row | None] = {}
    for int8 in (False, True):
        alike = [row for row in rows if (row.precision == "int8") is int8]
        base[int8] = fastest(alike, among=is_ours) or fastest(rows, among=is_ours)
    width = max(len(row.name) for row in rows)
    batch, frames = rows[0].batch, rows[0].frames
    seconds = frames * config.features.frame_seconds
    yield f"spectrogram to probabilities, batch {batch}, {frames} frames ({seconds:.1f} s)"
    yield f"  {'':<{width}}  {'median':>9}  {'20 to 80 %':>19}  {'real time':>9}  {'error':>7}  {'allowed':>7}  to ours"
    for row in rows:
        if row.times is None or row.check is None:
            yield f"  {row.name:<{width}}  {row.refused}"
            continue
        low, middle, high = (f"{1e3 * value:.4g}" for value in row.times.percentiles)
        speed = batch * seconds / row.times.median
        best = base[row.precision == "int8"]
        ratio = best.ratio(row) if best and row is not best else None
        yield (
            f"  {row.name:<{width}}  {middle:>6} ms  {low:>6} to {high:>6} ms  {speed:8.0f}x"
            f"  {row.check.error:7.1e}  {row.check.bound:7.1e}  {ratio or ''}"
        ).rstrip()
    for row in rows:
        yield f"  {row.name:<{width}}  {row.version}: {row.settings}"


def disturbance(rows: Sequence[Row]) -> str:
    """A warning where other processes took part of the machine, else nothing."""
    others = max((row.times.others for row in rows if row.times), default=0.0)
    if not others > QUIET:
        return ""
    return f"other processes used {others:.1f} cores meanwhile: times are too long, ratios less certain"


def limits(rows: Sequence[Row], rooflines: Mapping[str, float], config: Config) -> Iterator[str]:
    """The machine's peaks, and for each of our engines where its time goes and at which share of a peak."""
    peaks = [f"{rooflines[p] / 1e9:.0f} GFLOP/s in {p}" for p in ("fp32", "bf16", "fp16") if rooflines.get(p)]
    yield f"this machine, measured just now: {', '.join(peaks)}, copies {rooflines['copy'] / 1e9:.1f} GB/s"
    for name in dict.fromkeys(row.name for row in rows if is_ours(row)):
        mine = {row.part: row for row in rows if row.name == name and row.times}
        parts = [part for part in PARTS if part in mine]
        total = sum(row.times.median for part, row in mine.items() if part in parts and row.times)
        for part in parts or [part for part in mine if part == "network"]:
            yield f"{name}: {_clause(mine[part], total, rooflines, config)}"


def _clause(row: Row, total: float, rooflines: Mapping[str, float], config: Config) -> str:
    assert row.times is not None
    share = f"{row.times.median / total:.0%} " if total else ""
    if row.part == "recurrent":
        step = 1e6 * row.times.median / row.frames / RECURRENT_LAYERS
        return f"{share}recurrent part: {step:.2f} us a step and layer, each waiting for the one before it"
    rate = operations(config, row.frames)[row.part] * row.batch / row.times.median
    done = f"{rate / 1e9:.0f} GFLOP/s as direct convolutions count"
    reached = of_peak(row, rooflines, config)
    peak = "" if math.isnan(reached) else f", {reached:.0%} of the {row.precision} peak"
    return f"{share}{PARTS.get(row.part, 'network')}: {done}{peak}"


def of_peak(row: Row, rooflines: Mapping[str, float], config: Config) -> float:
    """Arithmetic done a second, as a share of the peak in the row's precision (NaN: not measured).

    Counted as direct convolutions: Winograd's do fewer multiplications, so the share can exceed 1.
    """
    if row.times is None or not rooflines.get(row.precision):
        return float("nan")
    rate = operations(config, row.frames)[row.part] * row.batch / row.times.median
    return rate / rooflines[row.precision]


def is_ours(row: Row) -> bool:
    return row.name.startswith("mtfa-fast")


def line(row: Row) -> str:
    """One row by itself."""
    head = f"{row.part:<14} {row.batch:>3} x {row.frames:>6}  {row.name:<32}"
    if row.refused:
        return f"{head} {row.refused}"
    memory = f"  {row.memory / 1e6:.0f} MB" if row.memory is not None else ""
    times = ""
    if row.times:
        low, middle, high = (f"{1e3 * value:.4g}" for value in row.times.percentiles)
        times = f" {middle:>8} ms ({low} to {high})"
    check = f"  error {row.check.error:.1e} of {row.check.bound:.1e} {row.check.note}" if row.check else ""
    return f"{head}{times}{memory}{check}".rstrip()
