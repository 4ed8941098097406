"""Three plots of one device's results: speed with accuracy beside it, rates under their roofs, cost against length."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.tables import relative_error
from mtfa_fast.config import Config
from mtfa_fast.measuring.networks import operations, traffic
from mtfa_fast.measuring.rows import Row
from mtfa_fast.measuring.text import is_ours

if TYPE_CHECKING:
    from benchmarks.tables import Results

OURS, OTHERS, QUIET = "#d1495b", "#5b7c99", "#b8c4ce"
PLOTS = (("speed", "headline", "network"), ("roofline", "stages", "trunk"), ("length", "lengths", "network"))
STYLE: Any = {
    "svg.hashsalt": "mtfa-fast",  # the same numbers give the same file
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
}


def draw(results: Results, folder: Path, config: Config | None = None) -> list[Path]:
    """Write speed.svg, roofline.svg and length.svg, each if its sections were measured; the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    config = config or Config()
    drawn = []
    for name, section, part in PLOTS:
        timed = [row for row in results.rows(section, part) if row.times]
        if timed:
            with _figure(folder / f"{name}.svg", numbers(timed)) as pyplot:
                {"speed": _speed, "roofline": _roofline, "length": _length}[name](pyplot, timed, results, config)
            drawn.append(folder / f"{name}.svg")
    return drawn


def numbers(rows: list[Row]) -> str:
    """What a plot shows, as its file says in words."""
    words = []
    for row in rows:
        check = f", error {row.check.error:.2e} of {row.check.bound:.2e}" if row.check else ""
        words.append(f"{row.name}, {row.batch} x {row.frames}: {1e3 * _median(row):.4g} ms{check}")
    return "; ".join(words)


@contextmanager
def _figure(path: Path, description: str) -> Iterator[Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with pyplot.rc_context(STYLE):
        yield pyplot
        pyplot.savefig(path, bbox_inches="tight", metadata={"Date": None, "Description": description})
        pyplot.close("all")


def _colour(row: Row) -> str:
    return OURS if is_ours(row) else OTHERS


def _median(row: Row) -> float:
    assert row.times is not None
    return row.times.median


def _speed(pyplot: Any, rows: list[Row], results: Results, config: Config) -> None:
    rows = sorted(rows, key=_median, reverse=True)
    names = [row.name for row in rows]
    colours = [_colour(row) for row in rows]
    figure, (left, right) = pyplot.subplots(
        1, 2, sharey=True, figsize=(9.5, 0.42 * len(rows) + 1.1), gridspec_kw={"width_ratios": [3, 1.3], "wspace": 0.08}
    )
    bars = left.barh(names, [1e3 * _median(row) for row in rows], color=colours)
    left.bar_label(bars, fmt="%.0f ms", padding=4)
    left.margins(x=0.16)  # room for the labels
    left.set_xlabel("ms, less is better")
    seconds = rows[0].frames * config.features.frame_seconds
    threads = results.headline["threads"] if results.headline else "?"
    left.set_title(f"{seconds:.0f} s of audio, spectrogram to probabilities, {threads} CPU threads", loc="left")
    right.scatter([relative_error(row.check) for row in rows if row.check], names, color=colours, zorder=3)
    for row in rows:
        if row.check and row.check.relative is None:  # else what is allowed is in another measure
            right.plot([row.check.bound] * 2, [rows.index(row) - 0.3, rows.index(row) + 0.3], color=QUIET, linewidth=2)
    right.set_xscale("log")
    right.set_xlabel("error against float64 (bar: allowed)")
    figure.align_xlabels()


def _roofline(pyplot: Any, rows: list[Row], results: Results, config: Config) -> None:
    stages = results.section("stages")
    assert stages is not None
    roof, work = stages["rooflines"], operations(config, rows[0].frames)["trunk"]
    rows = sorted(rows, key=_median)
    _, axes = pyplot.subplots(figsize=(9.5, 3.8))
    bars = axes.bar([row.name.replace(" ", "\n") for row in rows], [work / _median(row) / 1e9 for row in rows])
    for bar, row in zip(bars, rows, strict=True):
        bar.set_color(_colour(row))
    axes.bar_label(bars, fmt="%.0f", padding=3)
    axes.margins(y=0.12)
    for precision, size in (("fp32", 4), ("bf16", 2)):
        if not roof[precision]:
            continue
        axes.axhline(roof[precision] / 1e9, color="black", linewidth=1)
        axes.annotate(f"{precision} arithmetic peak", (1, roof[precision] / 1e9), **_AT_THE_RIGHT)
        through = work / (traffic(config, rows[0].frames, size) / roof["copy"]) / 1e9
        if through < 1.5 * max(roof["bf16"], roof["fp32"]) / 1e9:
            axes.axhline(through, color="black", linewidth=1, linestyle=":")
            axes.annotate(f"{precision}, each map through memory", (1, through), **_AT_THE_RIGHT)
    axes.set_ylabel("GFLOP/s, as direct convolutions count")
    axes.set_title("Convolutions and the roofs measured in the same run (Winograd's can exceed them)", loc="left")


_AT_THE_RIGHT: dict[str, Any] = {
    "xycoords": ("axes fraction", "data"),
    "xytext": (4, 0),
    "textcoords": "offset points",
    "va": "center",
    "fontsize": 8,
}


def _length(pyplot: Any, rows: list[Row], results: Results, config: Config) -> None:
    _, axes = pyplot.subplots(figsize=(8, 3.8))
    for name in dict.fromkeys(row.name for row in rows):
        mine = sorted((row for row in rows if row.name == name), key=lambda row: row.frames)
        seconds = [row.frames * config.features.frame_seconds for row in mine]
        cost = [_median(row) / length * 3600 for row, length in zip(mine, seconds, strict=True)]
        first = mine[0]
        axes.plot(seconds, cost, marker="o", color=_colour(first), alpha=1 if is_ours(first) else 0.55)
        axes.annotate(name, (seconds[-1], cost[-1]), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("length of the recording in seconds")
    axes.set_ylabel("seconds for an hour of audio")
    axes.set_title("Cost against length", loc="left")
