"""One self-contained HTML page of a recording: pictures, probabilities and events, the audio playing under a cursor."""

from __future__ import annotations

import base64
import hashlib
import math
import os
from collections.abc import Callable, Iterator
from html import escape
from importlib.resources import files
from pathlib import PurePath
from string import Template
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..events.span import LabelledSpan
from ..files import write_beside
from . import images
from .sound import sound_element
from .view import View, columns_of, decision

AudioFormat = Literal["opus", "flac", "none"]
AUDIO_FORMATS: tuple[AudioFormat, ...] = get_args(AudioFormat)
_HEARD = 0.3  # seconds around an event that are played with it


def page(view: View, *, audio: AudioFormat = "opus") -> str:
    """The page as HTML text: spectrogram, mask overlay, probabilities with thresholds, events, playable audio.

    It refers to nothing outside itself, and its content policy forbids that it does. ``audio``: ``"opus"`` is
    small (some 8 kB a second), ``"flac"`` exact and heard by old Safari, too; mono either way, as the
    network hears it. ValueError for another format.
    """
    if audio not in AUDIO_FORMATS:
        raise ValueError(f"audio: got {audio!r}, allowed: {', '.join(AUDIO_FORMATS)}")
    template, style, script = (files(__package__).joinpath(f"page.{kind}").read_text("utf-8") for kind in _PARTS)
    # What stands between the tags, line break included, is what a browser hashes.
    digest = base64.b64encode(hashlib.sha256(f"\n{script}".encode()).digest()).decode()
    return Template(template).substitute(
        policy=f"default-src 'none'; img-src data:; media-src data:; "
        f"style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        style=style,
        script=script,
        title=escape(view.title),
        facts=escape(_facts(view)),
        start=f"{view.start:.6g}",
        end=f"{view.end:.9g}",
        left=repr(view.first * view.config.features.frame_seconds),
        column=repr(_frames_a_column(view) * view.config.features.frame_seconds),
        zoom=f"{max(0.0, math.log2(view.end - view.start)):.2f}",  # up to a second across
        layers=_layers(view),
        kind="silent" if audio == "none" else "playing",
        axis="\n".join(_axis(view)),
        lanes="\n".join(_lanes(view)),
        audio="" if audio == "none" else sound_element(view.wave, view.config.features.sample_rate, audio),
        verdict=_verdict(view),
        table=_table(view),
        version=__version__,
    )


_PARTS = ("html", "css", "js")


def save_page(view: View, path: str | os.PathLike[str], *, audio: AudioFormat = "opus") -> None:
    """Write :func:`page`: complete or not at all. ValueError for a name that does not end in .html."""
    if PurePath(path).suffix.lower() != ".html":
        raise ValueError(f"path: got {os.fspath(path)!r}, allowed: a name that ends in .html")
    text = page(view, audio=audio)
    with write_beside(path) as file:
        file.write(text)


def _facts(view: View) -> str:
    count = len(view.result)
    shown = f"{view.start:.2f} s to {view.end:.2f} s of " if view.end - view.start < view.result.duration else ""
    parts = [f"{shown}{view.result.duration:.2f} s", f"{count} event{'s' * (count != 1)} detected"]
    if (frames := _frames_a_column(view)) > 1:
        parts.append(f"one column is {frames} frames of {view.config.features.frame_seconds * 1000:g} ms")
    return ", ".join(parts)


def _frames_a_column(view: View) -> int:
    return columns_of(view.probabilities, np.max)[1]


def _layers(view: View) -> str:
    """Switches of the picture with the legends of its colours."""
    _, low, high = view.decibels()
    parts = [
        '<label><input id="show-spectrogram" type="checkbox" checked> Spectrogram</label>',
        _legend(f"{low:.0f}", images.css_gradient(images.magma()), f"{high:.0f} dB"),
    ]
    if view.masks:
        low, high = view.mask_limits()
        options = "".join(f'<option value="{s}">{_scale(s)}</option>' for s in range(len(view.masks)))
        parts += [
            '<label><input id="mask" type="checkbox"> Mask</label>',
            f'<label>Scale <select id="scale">{options}</select></label>',
            '<label>Opacity <input id="opacity" type="range" min="0" max="1" step="0.01" value="0.6"></label>',
            _legend(f"{low:.2f}", images.css_gradient(images.veil()), f"{high:.2f}"),
        ]
    return "\n".join(parts)


def _scale(scale: int) -> str:
    return f"1/{2**scale}" if scale else "full"


def _legend(low: str, gradient: str, high: str) -> str:
    return f'<span class="legend">{low} <span class="scale" style="background-image:{gradient}"></span> {high}</span>'


def _hertz(hz: int) -> str:
    return f"{hz // 1000} kHz" if hz >= 1000 else f"{hz} Hz"


def _axis(view: View) -> Iterator[str]:
    """What stands on the left of each lane."""
    bands = view.log_mel.shape[1]
    ticks = "".join(
        f'<span style="bottom:{(position + 0.5) / bands * 100:.3f}%" data-hz="{hz}">{_hertz(hz)}</span>'
        for position, hz in view.hz_ticks(0.06)
    )
    yield f'<div class="lane spectrogram">{ticks}</div>'
    decisions = {c.name: decision(c) for c in view.config.classes}
    rows = '<span class="row detected">detected</span>'
    if view.reference is not None:
        rows += '<span class="row reference">annotation</span>'
    for k, label in enumerate(view.labels):
        name = f'<b><i class="swatch" aria-hidden="true"></i><span>{escape(label)}</span></b>'
        if label in decisions:
            name += f'<span class="value" id="value{k}"></span><small>{decisions[label]}</small>'
        yield f'<div class="{_lane_class(view, label)}" style="--colour:{view.colour(label)}">{name}{rows}</div>'


def _lanes(view: View) -> Iterator[str]:
    values, low, high = view.decibels()
    alt = "Log-mel spectrogram, frequency upwards"
    picture = _image(view, values, 0, np.max, (low, high), images.magma(), f'id="spectrogram" alt="{alt}"')
    if view.masks:
        limits = view.mask_limits()
        for scale, mask in enumerate(view.masks):
            about = f'class="mask" data-scale="{scale}" alt="Attention mask, {_scale(scale)} resolution" hidden'
            picture += _image(view, mask, scale, np.mean, limits, images.veil(), about)
    yield f'<div class="lane spectrogram">{picture}</div>'
    classes = view.config.class_names
    for k, label in enumerate(view.labels):
        content = _curve(view, k) if label in classes else ""
        for kind, events in (("detected", view.result.events), ("reference", view.reference or ())):
            content += "".join(_box(view, event, kind) for event in events if event.label == label)
        yield f'<div class="{_lane_class(view, label)}" style="--colour:{view.colour(label)}">{content}</div>'


def _lane_class(view: View, label: str) -> str:
    return "lane class" if label in view.config.class_names else "lane class only-events"


def _image(
    view: View,
    values: NDArray[np.float32],
    scale: int,
    reduce: Callable[..., NDArray[np.float32]],
    limits: tuple[float, float],
    palette: images.Palette,
    attributes: str,
) -> str:
    columns, group = columns_of(values, reduce)
    data = base64.b64encode(images.png(images.indices(columns, *limits), palette)).decode()
    place = _place(view, len(columns) * group * 2**scale)
    return f'<img {attributes} style="{place}" src="data:image/png;base64,{data}">'


def _curve(view: View, k: int) -> str:
    """Probability as a closed shape, one point in the middle of each column, 1000 down to 0 from bottom to top."""
    peaks, group = columns_of(np.nan_to_num(view.probabilities[:, k]), np.max)
    heights = (1000 * (1 - peaks)).round().astype(int)
    columns = len(heights)
    points = [(0, 1000), (0, heights[0]), *((i + 0.5, h) for i, h in enumerate(heights))]
    points += [(columns, heights[-1]), (columns, 1000)]
    kind = view.config.classes[k]
    level = f"{1000 * (1 - kind.threshold):g}"
    return (
        f'<svg role="img" aria-label="Probability of {escape(kind.name)} over time, {decision(kind)}" '
        f'viewBox="0 0 {columns} 1000" preserveAspectRatio="none" style="{_place(view, columns * group)}">'
        f'<polygon data-value="value{k}" points="{" ".join(f"{x:g},{y}" for x, y in points)}"/>'
        f'<line x1="0" x2="{columns}" y1="{level}" y2="{level}"/></svg>'
    )


def _box(view: View, event: LabelledSpan, kind: str) -> str:
    span = view.span(event)
    if span is None:
        return ""
    left, right = ((t - view.start) / (view.end - view.start) * 100 for t in span)
    what = f"{'annotated' if kind == 'reference' else kind} {event.label}, {event.onset:.2f} s to {event.offset:.2f} s"
    return (
        f'<div class="event {kind}" data-onset="{event.onset:.6g}" title="{escape(what)}" '
        f'style="left:{left:.5f}%;width:{right - left:.5f}%"></div>'
    )


def _place(view: View, frames: int) -> str:
    """Where something stands that begins with the view's first frame; it may reach beyond the lane, which cuts it."""
    seconds, hop = view.end - view.start, view.config.features.frame_seconds
    left = (view.first * hop - view.start) / seconds
    return f"left:{left * 100:.5f}%;width:{frames * hop / seconds * 100:.5f}%"


def _verdict(view: View) -> str:
    if view.reference is None:
        return ""
    hits = len(view.matches())
    wrong, missed = len(view.result) - hits, len(view.reference) - hits
    return (
        f"<p>Against the annotation (same label, onset within 0.5 s, whole recording): {hits} found, "
        f"{wrong} false alarm{'s' * (wrong != 1)}, {missed} missed.</p>"
    )


def _table(view: View) -> str:
    """Events in order of onset, each with a button that plays it."""
    matches = view.matches() if view.reference is not None else {}
    found = set(matches.values())
    rows: list[tuple[LabelledSpan, str, str]] = []
    for i, e in enumerate(view.result.events):
        verdict = "" if view.reference is None else "found" if i in found else "false alarm"
        rows.append((e, f"{e.score:.3f}", verdict))
    for i, r in enumerate(view.reference or ()):
        if i not in matches:
            rows.append((r, "", "missed"))
    rows = [row for row in sorted(rows, key=lambda row: row[0].onset) if view.span(row[0])]
    if not rows:
        return "<p>None.</p>"
    names = "".join(f'<th class="number">{name}</th>' for name in ("onset", "offset", "score"))
    last = "<th>against the annotation</th>" if view.reference is not None else ""
    body = "\n".join(_row(view, *row) for row in rows)
    return f'<div class="wide"><table>\n<tr><th></th><th>label</th>{names}{last}</tr>\n{body}\n</table></div>'


def _row(view: View, event: LabelledSpan, score: str, verdict: str) -> str:
    label = escape(event.label)
    last = f"<td>{verdict}</td>" if view.reference is not None else ""
    return (
        f'<tr><td><button type="button" class="hear" data-from="{max(view.start, event.onset - _HEARD):.3f}" '
        f'data-to="{min(view.end, event.offset + _HEARD):.3f}" '
        f'aria-label="Play {label} at {event.onset:.2f} seconds">▶</button></td>'
        f'<td><i class="swatch" style="--colour:{view.colour(event.label)}"></i>{label}</td>'
        f'<td class="number">{event.onset:.2f} s</td><td class="number">{event.offset:.2f} s</td>'
        f'<td class="number">{score}</td>{last}</tr>'
    )
