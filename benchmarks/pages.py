"""What stands between the marks of each page that shows results, from result files and nothing else.

benchmarks/results/ has what counts now; benchmarks/earlier/ what came before it, to say how far two runs differ:
``<device>/<section>.json`` of an earlier ``benchmarks.run``, and ``table1-*.json`` of smaller experiments. To renew a
result, move the file there and put the new one in its place.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.compare import WITHIN, pairs
from benchmarks.contest import Plan
from benchmarks.eight_bit import scores_of
from benchmarks.networks import instruction_set_table, shipped_table
from benchmarks.results_files import RESULTS, newest
from benchmarks.tables import Results, accuracy, proof, render, render_search, replaced
from mtfa_fast.experiments.report import NAMES, markdown
from mtfa_fast.weights import Weights

ROOT = Path(__file__).resolve().parents[1]
EARLIER = RESULTS.parent / "earlier"
SCORES = RESULTS / "rare-events.json"  # of the shipped weights, by mtfa-fast evaluate
STREAMS = RESULTS / "live-streams.json"  # by benchmarks.live
TABLE1 = RESULTS / "table1.json"  # by mtfa-fast experiment table1
WIDTH = 120  # columns of a page's lines, tables apart


def pages(results: Results) -> Iterator[tuple[Path, str]]:
    """Each page that shows results, and its text as it should be."""
    experiments = [read(path) for path in [TABLE1, *EARLIER.glob("table1-*.json")]]
    contents = {
        "README.md": {
            "benchmark table": readme_tables(results),
            "benchmark line": proof(results),
            "accuracy": accuracy(read(SCORES)),
        },
        "benchmarks/README.md": {
            "benchmark table": render_search(_last(results, "search")),
            "two runs": two_runs(EARLIER, results),
        },
        "docs/experiments.md": {"table1": markdown(experiments[0]), "budgets": budgets(experiments)},
        "docs/performance.md": {"instruction sets": instruction_set_table(_last(results, "instruction_sets"))},
        "docs/live.md": {"streams": streams_text(read(STREAMS))},
        "docs/embedding.md": {"training step": training_step(_last(results, "training"))},
    }
    for name, marks in contents.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        for mark, content in marks.items():
            text = replaced(text, wrapped(content), f"<!-- {mark}: start -->", f"<!-- {mark}: end -->")
        yield ROOT / name, text


def _last(results: Results, section: str) -> Results:
    """Of the device that measured the section last, for texts that name their device."""
    return Results(results.folder, newest(results.folder, section) or results.device)


def readme_tables(results: Results) -> str:
    """The paper's network and what is around it, then the shipped one; ends with a newline."""
    weights = Weights.load(Plan().shipped)
    shipped = shipped_table(results, scores_of(weights), weights.config)
    return render(results) + (f"\n{shipped}" if shipped else "")


def wrapped(text: str) -> str:
    """``text`` in lines of at most WIDTH columns, tables as they are; a list's item hangs."""
    lines = []
    for line in text.splitlines():
        if line.startswith("|") or len(line) <= WIDTH:
            lines.append(line)
        else:
            hang = "  " if line.startswith(("- ", "  ")) else ""
            lines += textwrap.wrap(line, WIDTH, subsequent_indent=hang, break_long_words=False, break_on_hyphens=False)
    return "".join(f"{line}\n" for line in lines)


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def two_runs(earlier: Path, results: Results) -> str:
    """How far the run before differs from this one, in a sentence; empty where there is no run before."""
    found = list(pairs(earlier, results.folder, results.device))
    called = sorted((pair for pair in found if pair.called), key=lambda pair: pair.difference)
    if not called:
        return ""
    alike = [pair for pair in called if pair.difference <= WITHIN]
    farthest = f", the farthest {100 * alike[-1].difference:.1f} % apart" if alike else ""
    text = f"Of {len(called)} ratios that both runs call, {len(alike)} agree within {100 * WITHIN:g} %{farthest}."
    for pair in reversed(called[len(alike) :]):
        ours = " and ".join(f"{1e3 * seconds:.3g} ms" for seconds in pair.base_seconds)
        text += f" {100 * pair.difference:.1f} % apart: {pair.what}, {pair.first} and {pair.second} of {ours}."
    if uncalled := sorted((pair for pair in found if not pair.called), key=lambda pair: pair.difference):
        far = uncalled[-1]
        text += (
            f" {len(uncalled)} more are ranges in one run or both, too noisy to call: their middles are at most "
            f"{100 * far.difference:.1f} % apart ({far.what}, {far.first} and {far.second})."
        )
    return text + "\n"


def budgets(experiments: list[dict[str, Any]]) -> str:
    """Average rates of all experiments on the recordings of the first, a row for each amount of training."""
    data = experiments[0]["data"]
    alike = [e for e in experiments if all(e["data"][s]["sha256"] == data[s]["sha256"] for s in ("train", "test"))]
    variants = experiments[0]["settings"]["variants"]
    columns = [f"{NAMES[variant]} {rate}" for variant in variants for rate in ("ER", "F1 %")]
    lines = [f"| steps x chunks | seeds | {' | '.join(columns)} |", f"| --- |{' ---: |' * (1 + len(columns))}"]
    for experiment in sorted(alike, key=_steps):
        rows = {row["variant"]: row for row in experiment["rows"] if row["set"] == "test"}
        cells = [f"{_steps(experiment)} x {experiment['settings']['batch_size']}"]
        cells.append(str(len(experiment["settings"]["seeds"])))
        for variant in variants:
            average = rows[variant]["average"] if variant in rows else None
            cells += ["–", "–"] if average is None else [_spread(average["error_rate"]), _spread(average["f1"], 100)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def training_step(results: Results) -> str:
    """A step of the plain modules and of the fast ones, in a list's item."""
    section, rows = results.section("training"), {row.name: row for row in results.rows("training", "training step")}
    if section is None:
        return ""
    clauses = []
    for precision in ("bf16", "fp32"):
        plain, fast = (rows.get(f"{name} {precision}") for name in ("torch", "mtfa-fast"))
        if plain and fast and plain.times and fast.times:
            clauses.append(f"{precision} {1e3 * plain.times.median:.0f} and {1e3 * fast.times.median:.0f} ms")
    chunks = next(f"{row.batch} x {row.frames}" for row in rows.values())
    return (
        f"- A training step of the paper's network, channels-last, {chunks} frames, forward, backward and Adam, plain "
        f"and fast: {', '.join(clauses)}\n  ({section['device']}, {section['threads']} threads; "
        "`python -m benchmarks.run --only training`).\n"
    )


def streams_text(found: dict[str, Any]) -> str:
    """Many live streams at once: together as fast as they can, and in real time."""
    live = found["at_real_time"]
    return (
        f"On {found['device']} ({found['threads']} threads, {found['precision']}, {found['isa']}), {found['streams']} "
        f"streams of the paper's network together are {found['live_times_real_time']:.0f} times as fast as real time, "
        f"{found['share']:.0%} of what recordings get: smaller groups of rows and a backward direction that runs over "
        f"its look-ahead again cost the rest. {live['streams']} streams at once in real time, pushed a tenth of a "
        f"second at a time, answer {live['median_milliseconds']:.0f} ms after their sound is there in the median and "
        f"{live['p99_milliseconds']:.0f} ms in 99 of 100 cases (`benchmarks.live streams`).\n"
    )


def _steps(experiment: dict[str, Any]) -> int:
    settings = experiment["settings"]
    return int(settings["steps_per_epoch"] * settings["epochs"])


def _spread(rate: dict[str, Any], scale: int = 1) -> str:
    if rate["mean"] is None:
        return "–"
    form = ".2f" if scale == 1 else ".0f"
    deviation = rate["standard_deviation"]
    spread = "" if deviation is None else f" ± {scale * deviation:{form}}"
    return f"{scale * rate['mean']:{form}}{spread}"
