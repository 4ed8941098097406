"""Misses against false alarms an hour, a line for each class, through matplotlib."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import PurePath

from ..files import write_beside
from .figure import FIGURE_SUFFIXES, require_matplotlib


def save_operating_curve(
    curves: Mapping[str, Sequence[Mapping[str, float | None]]],
    at: Mapping[str, float],
    path: str | os.PathLike[str],
) -> None:
    """Draw what :func:`.scoring.background.curve` found; ``at``: false alarms an hour at the decision, by class.

    ValueError for another suffix than FIGURE_SUFFIXES, and where no class has both misses and false alarms.
    """
    suffix = PurePath(path).suffix
    if suffix not in FIGURE_SUFFIXES:
        raise ValueError(f"figure: got {os.fspath(path)!r}, allowed: a file in {', '.join(FIGURE_SUFFIXES)}")
    lines = {
        label: [
            (r, 100 * m)
            for row in rows
            if (r := row["false_alarms_per_hour"]) is not None and (m := row["missed"]) is not None
        ]
        for label, rows in curves.items()
    }
    if not any(lines.values()):
        raise ValueError("figure: got backgrounds without mixtures, allowed: both, for misses and false alarms")
    require_matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 3.6), layout="constrained")
    axes = figure.subplots()
    for label, points in lines.items():
        if points:
            (line,) = axes.plot(*zip(*points, strict=True), label=label, linewidth=1.2)
            axes.axvline(at[label], color=line.get_color(), linewidth=0.6, linestyle=":")
    axes.set(xlabel="false alarms an hour (dotted: at the decision)", ylabel="missed events in %", ylim=(0, 100))
    axes.set_xscale("symlog", linthresh=1.0)
    axes.set_xlim(left=0)
    axes.grid(color="0.85", linewidth=0.6)
    axes.legend(frameon=False)
    with write_beside(path, "wb") as file:
        figure.savefig(file, format=suffix[1:], dpi=160)
