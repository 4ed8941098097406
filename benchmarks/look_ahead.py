"""What a live stream's delay costs in quality: error rate and F1 of the shipped network, offline and at several delays.

python -m benchmarks.look_ahead MIXTURES    scores them, writes results/look-ahead.json and what follows from it
python -m benchmarks.look_ahead             writes the table of docs/live.md and docs/images/look-ahead.svg again

MIXTURES: mtfa-fast synthesize SOURCES MIXTURES --split test -n 100 --seed 2026
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.plots import OTHERS, OURS, _figure
from benchmarks.results_files import RESULTS
from mtfa_fast import Detector, Result
from mtfa_fast.audio.files import read
from mtfa_fast.data.layout import open_mixture_set
from mtfa_fast.files import write_beside, write_json
from mtfa_fast.live import CHUNK, LOOK_AHEAD
from mtfa_fast.measuring.machine import environment
from mtfa_fast.scoring.evaluation import evaluate

ROOT = Path(__file__).resolve().parents[1]
FILE, PAGE = RESULTS / "look-ahead.json", ROOT / "docs" / "live.md"
FIGURE = ROOT / "docs" / "images" / "look-ahead.svg"
START, END = "<!-- look-ahead table: start -->", "<!-- look-ahead table: end -->"
# Chunk and look-ahead in frames, None: offline. At 3 s three ways to split it.
SHAPES: tuple[tuple[int, int | None], ...] = (
    (CHUNK, None),
    (8, 0),
    (8, 24),
    (8, 48),
    (16, 40),
    (32, 24),
    (CHUNK, LOOK_AHEAD),
    (16, 88),
    (16, 184),
)


def score(detector: Detector, mixtures: str, chunk: int, look_ahead: int | None, jobs: int) -> dict[str, Any]:
    """One row: the decision is the weights' own, only the network's answer differs."""
    config = detector.config

    def detect(path: Path) -> Result:
        wave = read(path, config.features.sample_rate)
        stream = detector.engine.live(chunk, look_ahead)
        found = np.concatenate([stream.push(wave), stream.finish()])
        return Result(found, config, str(path), len(wave) / config.features.sample_rate)

    scores = evaluate(detect, open_mixture_set(mixtures, None).mixtures(None), jobs=jobs)[0].to_dict()
    with detector.live(sample_rate=config.features.sample_rate, chunk=chunk, look_ahead=look_ahead) as stream:
        delay = None if look_ahead is None else round(stream.delay, 3)
    row: dict[str, Any] = {"chunk": chunk, "look_ahead": look_ahead, "delay": delay}
    row |= {name: scores[name] for name in ("error_rate", "f1")}
    return row | {
        "classes": {
            label: {name: found[name] for name in ("error_rate", "f1")} for label, found in scores["classes"].items()
        }
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown; the difference is to the first row, offline. Ends with a newline."""
    classes, offline = list(rows[0]["classes"]), rows[0]
    heads = ["delay", "chunk", "look-ahead", "error rate", "to offline", "F1", *(f"ER {label}" for label in classes)]
    lines = [f"| {' | '.join(heads)} |", f"| {' | '.join('---:' for _ in heads)} |"]
    for row in rows:
        default = (row["chunk"], row["look_ahead"]) == (CHUNK, LOOK_AHEAD)
        delay = "offline" if row["delay"] is None else f"{row['delay']:.2f} s" + (" (default)" if default else "")
        shape = ("–", "–") if row["delay"] is None else (str(row["chunk"]), str(row["look_ahead"]))
        change = "–" if row is offline else f"{row['error_rate'] - offline['error_rate']:+.3f}"
        own = (f"{row['classes'][label]['error_rate']:.2f}" for label in classes)
        cells = (delay, *shape, f"{row['error_rate']:.3f}", change, f"{100 * row['f1']:.1f} %", *own)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Error rate of each class and of their mean against the delay; offline as lines across."""
    live = sorted((row for row in rows if row["delay"] is not None), key=lambda row: row["delay"])
    words = "; ".join(
        f"{row['delay']} s ({row['chunk']} + {row['look_ahead']}): {row['error_rate']:.4f}" for row in live
    )
    with _figure(path, words) as pyplot:
        axes = pyplot.subplots(figsize=(6.4, 3.4))[1]
        seconds = [row["delay"] for row in live]
        for label, marker in zip(rows[0]["classes"], "v^s", strict=False):
            rates = [row["classes"][label]["error_rate"] for row in live]
            axes.plot(seconds, rates, marker, color=OTHERS, alpha=0.6, label=label, markersize=5)
            axes.axhline(rows[0]["classes"][label]["error_rate"], color=OTHERS, alpha=0.4, lw=0.8)
        axes.plot(seconds, [row["error_rate"] for row in live], "o", color=OURS, label="mean")
        axes.axhline(rows[0]["error_rate"], color=OURS, lw=1)
        axes.set_xlabel("seconds from an event's end to its report, at most")
        axes.set_ylabel("error rate (lines: offline)")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize=8, ncols=2)


def render() -> None:
    rows = json.loads(FILE.read_text(encoding="utf-8"))["rows"]
    draw(rows, FIGURE)
    before, start, rest = PAGE.read_text(encoding="utf-8").partition(START)
    after = rest.partition(END)[2]
    with write_beside(PAGE) as file:
        file.write(f"{before}{start}\n{table(rows)}{END}{after}")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mixtures", nargs="?", help="folder of mixtures with annotations")
    parser.add_argument("--jobs", type=int, default=2)
    options = parser.parse_args(arguments)
    if options.mixtures:
        detector = Detector.from_pretrained()
        rows = []
        for chunk, look_ahead in SHAPES:
            rows.append(score(detector, options.mixtures, chunk, look_ahead, options.jobs))
            print({name: rows[-1][name] for name in ("delay", "chunk", "look_ahead", "error_rate", "f1")}, flush=True)
        facts = {"weights": "rare-events", "precision": detector.explain()["precision"], "mixtures": 300, "seed": 2026}
        write_json(FILE, environment(detector.explain()["threads"]) | facts | {"rows": rows})
    render()
    return 0


if __name__ == "__main__":
    sys.exit(main())
