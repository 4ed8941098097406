"""The paper's figure 4 of one recording, through matplotlib: spectrogram, masks, probabilities, events."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from ..extras import needs
from ..files import write_beside
from .view import View, columns_of, decision

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from numpy.typing import NDArray

    from ..events.span import LabelledSpan

_MAKER = {".png": "Software", ".svg": "Creator", ".pdf": "Creator"}  # the field of each format that names a program
FIGURE_SUFFIXES = tuple(_MAKER)
SPECTROGRAM, MASK, PROBABILITY, ROW = 1.7, 0.85, 0.62, 0.22  # heights in inches
WIDTH, DOTS_PER_INCH = 8.0, 160
SMALL = 8  # points
_GRID: dict[str, Any] = {"color": "0.85", "linewidth": 0.6}
_STYLE = {"font.size": SMALL, "axes.titlesize": SMALL, "axes.titlepad": 3.0, "axes.linewidth": 0.6}


def figure(view: View) -> Figure:
    """Spectrogram, mask at each scale, probability of each class with its threshold, events; one time axis in seconds.

    Section 3 and figure 4 of the paper. Returns a matplotlib figure that belongs to no window and no pyplot state.
    Raises ImportError without matplotlib.
    """
    matplotlib = require_matplotlib()
    from matplotlib.figure import Figure

    classes, masks = view.config.classes, view.masks
    heights = [SPECTROGRAM, *[MASK] * len(masks), *[PROBABILITY] * len(classes), ROW * len(view.labels) + 0.1]
    with matplotlib.rc_context(_STYLE):
        drawn = Figure(figsize=(WIDTH, sum(heights) + 0.22 * len(heights) + 0.5), layout="constrained")
        drawn.get_layout_engine().set(h_pad=0.02, hspace=0.0)  # type: ignore[union-attr, call-arg]
        axes = drawn.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0].tolist()
        drawn.suptitle(view.title, fontsize=10, parse_math=False)
        _spectrogram(drawn, axes[0], view)
        if masks:
            _masks(drawn, axes[1 : 1 + len(masks)], view)
        for axis, k in zip(axes[1 + len(masks) : -1], range(len(classes)), strict=True):
            _probability(axis, view, k)
        _events(axes[-1], view)
        axes[-1].set_xlim(view.start, view.end)
        axes[-1].set_xlabel("time (s)")
    return drawn


def save_figure(view: View, path: str | os.PathLike[str]) -> None:
    """Write :func:`figure` as PNG, SVG or PDF, by the name's suffix: complete or not at all.

    ValueError for another suffix, ImportError without matplotlib.
    """
    suffix = PurePath(path).suffix.lower()
    if suffix not in FIGURE_SUFFIXES:
        raise ValueError(f"path: got {os.fspath(path)!r}, allowed: a name that ends in {', '.join(FIGURE_SUFFIXES)}")
    drawn = figure(view)
    with write_beside(path, "wb") as file:
        # Says whose file it is, so that the next run may replace it.
        drawn.savefig(file, format=suffix[1:], dpi=DOTS_PER_INCH, metadata={_MAKER[suffix]: "mtfa-fast visualize"})


def require_matplotlib() -> Any:
    """The module; ImportError naming the extra that brings it."""
    with needs("matplotlib", "figures need", " (the HTML page does not)"):
        import matplotlib
    return matplotlib


def _spectrogram(drawn: Figure, axis: Axes, view: View) -> None:
    values, low, high = view.decibels()
    image = _map(axis, view, values, 0, np.max, cmap="magma", vmin=low, vmax=high)
    axis.set_title("Input: log-mel spectrogram", loc="left")
    _hz_axis(axis, view, 0.07)
    drawn.colorbar(image, ax=axis, pad=0.01, aspect=12).set_label("dB")


def _masks(drawn: Figure, axes: list[Axes], view: View) -> None:
    low, high = view.mask_limits()
    for scale, (axis, mask) in enumerate(zip(axes, view.masks, strict=True)):
        image = _map(axis, view, mask, scale, np.mean, cmap="viridis", vmin=low, vmax=high)
        size = "full resolution" if scale == 0 else f"1/{2**scale} of the resolution"
        axis.set_title(f"Mask, mean of {view.config.network.channels} channels: {size}", loc="left")
        _hz_axis(axis, view, 0.15)
    drawn.colorbar(image, ax=axes, pad=0.01, aspect=12 * len(axes) * MASK / SPECTROGRAM).set_label("mask")


def _map(axis: Axes, view: View, values: NDArray[Any], scale: int, reduce: Callable[..., Any], **style: Any) -> Any:
    """An image whose columns last 2**scale frames, or several times that, and whose rows hold 2**scale bands."""
    hop = view.config.features.frame_seconds
    columns, group = columns_of(values, reduce)
    left = view.first * hop
    right = left + len(columns) * group * 2**scale * hop
    extent = (left, right, -0.5, view.log_mel.shape[1] - 0.5)  # band b is centred on b
    return axis.imshow(columns.T, extent=extent, origin="lower", aspect="auto", **style)


def _hz_axis(axis: Axes, view: View, gap: float) -> None:
    ticks = {position: f"{hz // 1000}k" if hz >= 1000 else str(hz) for position, hz in view.hz_ticks(gap)}
    axis.set_yticks(list(ticks), list(ticks.values()))
    axis.set_ylabel("Hz")


def _probability(axis: Axes, view: View, k: int) -> None:
    kind, hop = view.config.classes[k], view.config.features.frame_seconds
    values, group = columns_of(view.probabilities[:, k], np.max)
    times = (view.first + (np.arange(len(values)) + 0.5) * group) * hop
    colour = view.colour(kind.name)
    axis.fill_between(times, values, color=colour, alpha=0.25, linewidth=0)
    axis.plot(times, values, color=colour, linewidth=1.0, label=kind.name)
    axis.axhline(kind.threshold, color="black", linestyle=(0, (4, 3)), linewidth=0.8, label="threshold")
    axis.set_title(f"Probability: {kind.name} (dashed: {decision(kind)})", loc="left", parse_math=False)
    axis.set_ylim(0, 1.04)
    axis.set_yticks([0, 0.5, 1])
    axis.grid(axis="x", **_GRID)


def _events(axis: Axes, view: View) -> None:
    from matplotlib.patches import Patch, Rectangle

    labels = view.labels
    lists: dict[str, Sequence[LabelledSpan]] = {"detected": view.result.events, "reference": view.reference or ()}
    for kind, events in lists.items():
        for event in events:
            if span := view.span(event):
                row = labels.index(event.label) + (0.02 if kind == "reference" else -0.4)
                box = Rectangle((span[0], row), span[1] - span[0], 0.38, gid=kind, linewidth=0.8)
                _colour(box, view.colour(event.label), kind)
                axis.add_patch(box)
    axis.set_title("Events", loc="left")
    axis.set_ylim(len(labels) - 0.5, -0.5)
    axis.set_yticks(range(len(labels)), labels, parse_math=False)
    axis.tick_params(axis="y", length=0)
    axis.grid(axis="x", **_GRID)
    axis.set_axisbelow(True)
    if view.reference is not None:
        keys = [Patch(label="detected"), Patch(label="annotation")]
        for key, kind in zip(keys, lists, strict=True):
            _colour(key, "0.4", kind)
        axis.legend(
            handles=keys, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, borderaxespad=0.1
        )


def _colour(patch: Patch, colour: str, kind: str) -> None:
    """Detected events are full, annotated ones hatched: told apart without their colours."""
    patch.set_edgecolor(colour)
    if kind == "detected":
        patch.set_facecolor(colour)
    else:
        patch.set_facecolor("none")
        patch.set_hatch("//////")
