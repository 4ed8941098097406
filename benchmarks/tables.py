"""One device's results as Markdown: the README's tables and sentences, and what was searched for each peer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.results_files import Section, load, rows_of
from mtfa_fast.checking.comparison import Check
from mtfa_fast.config import Config
from mtfa_fast.measuring.rows import Row, fastest
from mtfa_fast.measuring.text import is_ours, of_peak

START, END = "<!-- benchmark table: start -->", "<!-- benchmark table: end -->"
NOTHING = "–"


class Results:
    """One device's sections; those that were not measured are empty."""

    def __init__(self, folder: Path, device: str) -> None:
        self.folder, self.device = folder, device
        self.headline = self.section("headline")
        if self.headline is None:
            raise FileNotFoundError(f"{folder / device}: no headline.json; run python -m benchmarks.run")

    def section(self, name: str) -> Section | None:
        return load(self.folder, self.device, name)

    def rows(self, section: str, part: str | None = None) -> list[Row]:
        return rows_of(self.section(section), part)


def render(results: Results, config: Config | None = None) -> str:
    """Markdown, ends with a newline."""
    return "\n".join(
        [
            *_network(results, config or Config()),
            "",
            *_others(results),
            "",
            *_footnotes(results),
            "",
        ]
    )


def proof(results: Results, config: Config | None = None) -> str:
    """The sentence of the README's first paragraph, each precision beside its like; ends with a newline."""
    rows, head = results.rows("headline", "network"), results.headline
    assert head is not None
    clauses = []
    for precision in ("bf16", "fp32", "int8"):
        alike = [row for row in rows if row.precision == precision]
        ours, other = fastest(alike, among=is_ours), fastest(alike, among=lambda row: not is_ours(row))
        if ours and other:
            clauses.append(f"in **{time_of(ours)}** in {precision} (next best: {other.name}, {ours.ratio(other)})")
    seconds = rows[0].frames * (config or Config()).features.frame_seconds
    listed = " and ".join(filter(None, [", ".join(clauses[:-1]), *clauses[-1:]]))
    return (
        f"{seconds:.0f} s of audio go through the paper's network {listed}: {head['device']}, "
        f"{head['threads']} threads, no GPU.\n"
    )


def accuracy(scores: dict[str, Any]) -> str:
    """What the shipped weights reach, in a sentence; ends with a newline."""
    classes: dict[str, dict[str, Any]] = scores["classes"]
    files, events = (sum(row[what] for row in classes.values()) for what in ("files", "events"))
    each = ", ".join(f"{label} {100 * row['f1']:.0f}" for label, row in classes.items())
    return (
        "The [shipped weights](#the-shipped-weights-and-limits) reach a mean F1 of "
        f"**{100 * scores['f1']:.0f} %** ({each}) and an error rate of **{scores['error_rate']:.2f}** on {files} "
        f"mixtures of 30 s from recordings that training did not hear, {events} of them with an event, 6 dB below to "
        "6 dB above the background; onsets within 0.5 s.\n"
    )


def render_search(results: Results) -> str:
    """Markdown of what was tried for each peer, ends with a newline; empty where nothing was."""
    section, rows = results.section("search"), results.rows("search")
    if section is None:
        return ""
    lines = ["| library | settings | network | takes |", "| --- | --- | ---: | ---: |"]
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.name.partition(": ")[0], []).append(row)
    for library, tried in groups.items():
        best = fastest(tried)
        for row in sorted(tried, key=lambda row: row.times.median if row.times else float("inf")):
            ratio = (best.ratio(row) if best and row is not best else None) or NOTHING
            what = row.name.partition(": ")[2]
            lines.append(f"| {library} | {what} | {time_of(row) if row.times else row.refused} | {ratio} |")
    lines += [
        "",
        f"*{section['device']}, {section['threads']} threads, {section['date'][:10]}, {rows[0].frames} frames, "
        f"load average before: {section['load']:.1f}. Takes: times the fastest of the same library and precision.*",
    ]
    return "\n".join(lines) + "\n"


def _network(results: Results, config: Config) -> Iterator[str]:
    rows = results.rows("headline", "network")
    assert results.headline is not None
    peaks = results.headline["rooflines"]
    parts = {part: {row.name: row for row in results.rows("stages", part)} for part in ("trunk", "recurrent")}
    seconds = rows[0].frames * config.features.frame_seconds
    columns = ["convolutions", "recurrent part", "whole network", "times real time", "of peak", "error"]

    def cells(row: Row) -> list[str]:
        found = [time_of(parts[part].get(row.name)) for part in parts] + cells_of_time(row, config)
        reached = of_peak(row, peaks, config)
        found.insert(-1, NOTHING if math.isnan(reached) else f"{reached:.0%}")
        return found

    title = f"{seconds:.0f} s as {rows[0].frames} x {config.features.mel_bands} spectrogram"
    yield from ranking(title, columns, rows, cells, before=len(parts))


def ranking(
    title: str, columns: list[str], rows: list[Row], cells: Callable[[Row], list[str]], *, before: int = 0
) -> Iterator[str]:
    """Contestants by their time, ours in bold, each compared with our own in the end; ``before``: columns that stay
    empty before the words of one that was refused."""
    bases = base_rows(rows)
    columns = columns + [f"to our {base.precision}" for base in bases]
    yield f"| {title} | {' | '.join(columns)} |"
    yield f"| --- |{' ---: |' * len(columns)}"
    for row in sorted(rows, key=lambda row: row.times.median if row.times else float("inf")):
        name = f"**{row.name}**" if is_ours(row) else row.name
        if row.times is None or row.check is None:
            yield f"| {name} |{' |' * before} {row.refused} |{' |' * (len(columns) - before - 1)}"
            continue
        ratios = [str((base.ratio(row) if row is not base else None) or NOTHING) for base in bases]
        yield f"| {name} | {' | '.join(cells(row) + ratios)} |"


def base_rows(rows: list[Row]) -> list[Row]:
    """Whom the others are compared with: our fastest that is not in 8 bits, and ours in 8 bits."""
    found = [
        fastest([row for row in rows if (row.precision == "int8") is int8], among=is_ours) for int8 in (False, True)
    ]
    return [row for row in found if row]


def cells_of_time(row: Row, config: Config) -> list[str]:
    """Of a row that has a time: it, how many times real time that is, and the error."""
    assert row.times is not None and row.check is not None
    seconds = row.batch * row.frames * config.features.frame_seconds
    shown = f"{relative_error(row.check):.0e}".replace("-", "\N{NON-BREAKING HYPHEN}")
    return [time_of(row), f"{seconds / row.times.median:.0f}", shown]


def relative_error(check: Check) -> float:
    return check.error if check.relative is None else check.relative


def _others(results: Results) -> Iterator[str]:
    yield "| | ours | best of the others | takes |"
    yield "| --- | ---: | ---: | ---: |"
    for what, section, part in (
        ("wave file of 30 s to events", "headline", "wave to events"),
        ("samples to log-mel, 30 s", "stages", "log-mel"),
        ("training step", "training", "training step"),
        ("training step, 32 channels, 16 chunks", "training", "training step, 32 channels"),
        ("process start to first answer", "cold", "cold start"),
    ):
        yield from _pair(what, results.rows(section, part))
    yield from _memory(results)


def _pair(what: str, rows: list[Row]) -> Iterator[str]:
    ours = fastest(rows, among=is_ours)
    other = fastest(rows, among=lambda row: not is_ours(row))
    if ours and other:
        ratio = ours.ratio(other) or NOTHING
        yield f"| {what} | {time_of(ours)} ({ours.precision}) | {time_of(other)} ({other.name}) | {ratio} |"


def _memory(results: Results) -> Iterator[str]:
    clip = [row for row in results.rows("memory", "memory") if row.memory is not None]
    ours, others = ([row for row in clip if is_ours(row) is mine] for mine in (True, False))
    if ours and others:
        least = min(others, key=lambda row: row.memory or 0.0)
        yield f"| memory added by one clip | {_memory_of(ours[0])} | {_memory_of(least)} ({least.name}) | |"
    for row in results.rows("memory", "long recording"):
        minutes = row.frames * 0.02 / 60
        if row.memory is not None and row.times is not None:
            what = f"recording of {minutes:.0f} min, streamed: memory and time"
            yield f"| {what} | {_memory_of(row)}, {row.times.median:.1f} s | | |"


def _footnotes(results: Results) -> Iterator[str]:
    head = results.headline
    assert head is not None
    versions = ", ".join(f"{name} {version}" for name, version in head["versions"].items())
    roof = head["rooflines"]
    others: dict[str, list[str]] = {}  # sections of another day's code, by its commit
    for name in ("stages", "training", "cold", "memory"):
        section = results.section(name)
        if section is not None and section["commit"] != head["commit"]:
            others.setdefault(section["commit"], []).append(name)
    older = "; ".join(f"{', '.join(names)}: {commit}" for commit, names in others.items())
    commits = f"commit {head['commit']} ({older})" if older else f"commit {head['commit']}"
    yield (
        f"*{head['device']}, {head['threads']} threads, {head['date'][:10]}, {commits}; {versions}. "
        f"Peaks measured in the same run: {roof['fp32'] / 1e9:.0f} GFLOP/s in float32, "
        f"{roof['bf16'] / 1e9:.0f} in bf16, {roof['copy'] / 1e9:.0f} GB/s copied. "
        "Of peak: in the contestant's precision, counted as direct convolutions; Winograd's do fewer multiplications. "
        "Medians of runs in turns; error: root mean square against float64, relative; "
        f"to our: times our fastest in that precision. 8-bit steps of all: from the same sounds. "
        f"Load average before: {head['load']:.1f}.*"
    )
    missing = head.get("missing") or {}
    if missing:
        yield f"*Not compared: {'; '.join(f'{name}: {reason}' for name, reason in missing.items())}.*"


def time_of(row: Row | None) -> str:
    if row is None or row.times is None:
        return NOTHING
    milliseconds = 1e3 * row.times.median
    return f"{milliseconds:.3g} ms" if milliseconds < 1000 else f"{milliseconds:.0f} ms"


def _memory_of(row: Row) -> str:
    return f"{(row.memory or 0.0) / 1e6:.0f} MB"


def replaced(text: str, tables: str, start: str = START, end: str = END) -> str:
    """``text`` with what stands between the markers replaced. ValueError where the markers are not there once each."""
    if text.count(start) != 1 or text.count(end) != 1:
        raise ValueError(
            f"page: got {text.count(start)} and {text.count(end)} markers, allowed: one {start} and one {end}"
        )
    before, rest = text.split(start)
    return f"{before}{start}\n{tables}{end}{rest.split(end)[1]}"
