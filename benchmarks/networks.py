"""Both networks, the paper's and the shipped one: what everybody makes of the second, and each instruction set of both.

Their tables, too: rows of the shipped network say beside their times what the arithmetic costs in detection.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from benchmarks.contest import Contest
from benchmarks.tables import NOTHING, Results, cells_of_time, ranking, time_of
from mtfa_fast import _core
from mtfa_fast.config import Config
from mtfa_fast.measuring.contestants import Contestant, Ours
from mtfa_fast.measuring.rows import Row
from mtfa_fast.measuring.text import is_ours

PART = "network"


def shipped_rows(contest: Contest) -> list[Row]:
    """Spectrogram to probabilities; torch.compile, which is not the fastest of any precision, is left out."""
    small = contest.shipped
    rows = small.compare([*small.ours, *small.quick_peers()], PART, frames=small.plan.frames)
    return [_of(small, row) for row in rows]


def instruction_set_rows(contest: Contest) -> list[Row]:
    """Ours held to each instruction set, in bf16 where it multiplies bf16 and in int8, beside ONNX Runtime."""
    found = []
    for each in (contest, contest.shipped):
        ours: list[Contestant] = []
        for isa in _core.available_isas():
            ours.append(Ours(each.weights, "bf16" if _core.peak_flops(isa, True, 1) else "fp32", each.threads, isa=isa))
            ours.append(Ours(each.weights, "int8", each.threads, isa=isa))
        others = [peer for peer in each.peers if peer.name.startswith("ONNX")]
        rows = each.compare([*ours, *others], PART, frames=each.plan.frames, rounds=each.plan.least)
        found += rows if each is contest else [_of(each, row) for row in rows]
    return found


def _of(contest: Contest, row: Row) -> Row:
    """Named after its network, so that nobody takes it for the paper's."""
    return dataclasses.replace(row, part=f"{row.part}, {contest.weights.config.network.channels} channels")


def shipped_table(results: Results, scores: dict[str, Any] | None, config: Config) -> str:
    """Markdown, ends with a newline; empty where the section was not measured.

    ``scores``: of ``benchmarks.eight_bit``, for these weights; None: none.
    """
    section, rows = results.section("shipped"), results.rows("shipped")
    if section is None:
        return ""
    judged = {row["name"]: row for row in scores["rows"]} if scores else {}
    return "".join(f"{text}\n" for text in _shipped_lines(rows, judged, section, scores, config))


def _shipped_lines(
    rows: list[Row], judged: dict[str, Any], section: dict[str, Any], scores: dict[str, Any] | None, config: Config
) -> Iterator[str]:
    channels = rows[0].part.rpartition(", ")[2]
    columns = ["whole network", "times real time", "error", "ER", "F1 %", "same events"]

    def cells(row: Row) -> list[str]:
        score = judged.get(row.name)
        scored = [f"{score['error_rate']:.3f}", f"{100 * score['f1']:.1f}", f"{score['identical']}"] if score else None
        return cells_of_time(row, config) + (scored or [NOTHING] * 3)

    yield from ranking(f"the shipped network, {channels}", columns, rows, cells)
    yield ""
    note = (
        f"*{section['device']}, {section['threads']} threads, {section['date'][:10]}, commit {section['commit']}. "
        "Error: root mean square against float64, relative."
    )
    if scores:
        note += (
            f" ER, F1 and clips with the events of our fp32: of {scores['mixtures']} test mixtures, 8-bit steps of all "
            f"chosen on the same {scores['calibration']}."
        )
    yield note + "*"


def instruction_set_table(results: Results) -> str:
    """Markdown, ends with a newline: a row for each instruction set; empty where the section was not measured."""
    section, rows = results.section("instruction_sets"), results.rows("instruction_sets")
    if section is None:
        return ""
    parts = list(dict.fromkeys(row.part for row in rows))
    columns = []
    for part in parts:
        channels = part.partition(", ")[2] or f"{Config().network.channels} channels"
        columns += [f"{channels}: float", "int8", "takes"]
    lines = [f"| instruction set, 8-bit products by | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    found = {(row.part, row.name): row for row in rows}
    names = list(dict.fromkeys(row.name.split()[2] for row in rows if is_ours(row)))
    for name in [*names, "ONNX Runtime"]:
        cells, how = list[str](), ""
        for part in parts:
            mine = [row for (where, who), row in found.items() if where == part and _is_of(who, name)]
            plain = next((row for row in mine if row.precision != "int8"), None)
            int8 = next((row for row in mine if row.precision == "int8"), None)
            if int8 and is_ours(int8):
                how = int8.settings.split(", ")[1].removeprefix("products by ")
            ratio = int8.ratio(plain) if int8 and plain else None
            cells += [
                f"{time_of(plain)} ({plain.precision})" if plain else NOTHING,
                time_of(int8),
                str(ratio or NOTHING),
            ]
        lines.append(f"| {name}{f', `{how}`' if how else ''} | {' | '.join(cells)} |")
    lines += [
        "",
        f"*{section['device']}, {section['threads']} threads, {section['date'][:10]}, commit {section['commit']}. "
        "Takes: float, times int8.*",
    ]
    return "\n".join(lines) + "\n"


def _is_of(who: str, name: str) -> bool:
    return who.endswith(f" {name}") or who.startswith(f"{name} ")
