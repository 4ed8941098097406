r"""Writes the scores of the shipped weights into their model card, and draws the reliability plot.

mtfa-fast synthesize RECORDINGS test_mixtures --split test -n 100 --seed 2026
mtfa-fast evaluate test_mixtures --precision fp32 --output benchmarks/results/rare-events.json --keep test32.npz
mtfa-fast evaluate test_mixtures --precision int8 --keep test8.npz
mtfa-fast synthesize RECORDINGS further_mixtures --split test -n 100 --seed 2027
mtfa-fast evaluate further_mixtures --precision fp32 --output benchmarks/results/rare-events-further.json
mtfa-fast pool RECORDINGS MORE --distractors MORE/distractors --folds 4 --weights rare-events -n 200 --hard --seed 7 \
    --output held.npz      # of the fold that training held out
mtfa-fast evaluate held.npz --output benchmarks/results/rare-events-places.json
python docs/make_model_card.py test32.npz test8.npz
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from mtfa_fast import Weights
from mtfa_fast.data.probabilities import ProbabilitySet
from mtfa_fast.files import write_beside
from mtfa_fast.scoring.evaluation import evaluate_probabilities
from mtfa_fast.scoring.scores import Evaluation

DOCS = Path(__file__).resolve().parent
CARD = DOCS.parent / "mtfa_fast" / "weights" / "rare-events.md"
SCORES = DOCS.parent / "benchmarks" / "results" / "rare-events.json"
FURTHER, PLACES = (SCORES.with_stem(f"rare-events-{name}") for name in ("further", "places"))
COLOURS = ("#0072B2", "#D55E00", "#009E73")  # Okabe and Ito: told apart by colour-blind readers


def score_table(scores: dict[str, Any]) -> str:
    classes: dict[str, dict[str, Any]] = scores["classes"]
    ebrs = sorted({float(ebr) for row in classes.values() for ebr in row["by_ebr"]})
    config = Weights.load("rare-events").config
    decisions = {c.name: f"{c.threshold:.3f}, {c.filter_frames}, {c.minimum_score:g}" for c in config.classes}
    head = ["class", "threshold, filter, minimum score", "mixtures", "events", "ER", "F1 %", "missed", "false"]
    lines = [head + [f"ER at {ebr:+g} dB" for ebr in ebrs] + ["false alarms / h of background"]]
    for label, row in classes.items():
        line = [
            label,
            decisions[label],
            row["files"],
            row["events"],
            f"{row['error_rate']:.2f}",
            f"{100 * row['f1']:.1f}",
            row["events"] - row["correct"],
            row["detections"] - row["correct"],
        ]
        line += [f"{row['by_ebr'][f'{ebr:g}']['error_rate']:.2f}" for ebr in ebrs]
        lines.append([*line, f"{row['false_alarms_per_hour']:.0f}"])
    mean = ["**mean**", "", "", "", f"**{scores['error_rate']:.2f}**", f"**{100 * scores['f1']:.1f}**"]
    lines.append(mean + [""] * (len(ebrs) + 3))
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines) + "\n"


def precision_text(exact: ProbabilitySet, fast: ProbabilitySet) -> str:
    """What 8 bits make of the same mixtures with the same decisions."""
    pairs = list(zip(fast.recordings, exact.recordings, strict=True))
    ours, theirs = (np.concatenate([pair[i].probabilities for pair in pairs]) for i in range(2))
    thresholds = np.array([c.threshold for c in exact.config.classes])
    turned = np.abs(theirs - thresholds)[(ours > thresholds) != (theirs > thresholds)]
    same = sum(
        [(e.label, e.onset, e.offset) for e in a] == [(e.label, e.onset, e.offset) for e in b]
        for a, b in zip(fast.results(), exact.results(), strict=True)
    )
    scores, usual = evaluate_probabilities(fast), np.quantile(np.abs(ours - theirs), 0.999)
    return (
        f"The table is in float32. With `--precision int8` the mean ER is {scores.error_rate:.3f} and F1 "
        f"{100 * scores.f1:.1f} %; probabilities differ by\n{usual:.4f} at the 99.9th "
        f"percentile of all frames, and {same} of the {len(pairs)} clips have the same events to the frame.\n"
        f"{turned.size} frames of {ours.size} are decided otherwise, the farthest {turned.max(initial=0):.4f} from its "
        "threshold.\n"
    )


def further_text(scores: dict[str, Any]) -> str:
    mixtures = sum(row["files"] for row in scores["classes"].values())
    return (
        f"On {mixtures} further mixtures of the test split (seed 2027), looked at once behind all choices, ER is "
        f"{scores['error_rate']:.3f}\nand F1 {100 * scores['f1']:.1f} %.\n"
    )


def places_text(scores: dict[str, Any]) -> str:
    heard = scores["background"]
    rates = ", ".join(f"{name} {rate:.1f}" for name, rate in heard["false_alarms_per_hour"].items())
    return (
        f"On {60 * heard['hours']:.0f} minutes of {len(heard['places'])} places without any event, which training did "
        f"not hear but decisions were chosen on,\nfalse alarms an hour: {rates}.\n"
    )


def put(text: str, mark: str, content: str) -> str:
    """``text`` with what stands between the marks replaced."""
    start, end = f"<!-- {mark}: start -->\n", f"<!-- {mark}: end -->\n"
    before, rest = text.split(start)
    return before + start + content + end + rest.split(end)[1]


def draw_reliability(scores: Evaluation, path: Path) -> None:
    """How many of the events with such a score are right, in tenths of the score; a mark's area is their number."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "mtfa-fast"  # the same file for the same numbers
    import matplotlib.pyplot as plt

    together = scores.outcomes
    assert together is not None
    figure, axes = plt.subplots(figsize=(5, 4.4), layout="constrained")
    axes.plot([0, 1], [0, 1], color="0.6", linestyle="--", label="score = share")
    lines = [("all", "0.2", together)]
    lines += [
        (label, c, s.outcomes) for c, (label, s) in zip(COLOURS, scores.classes.items(), strict=True) if s.outcomes
    ]
    for label, colour, outcomes in lines:
        bins = outcomes.bins
        across, up, size = ([one[name] for one in bins] for name in ("score", "right", "events"))
        if label == "all":
            axes.plot(across, up, color=colour, label=f"all, {len(outcomes)} events")
        axes.scatter(
            across, up, s=[6 + 2 * n for n in size], color=colour, alpha=0.7, label=None if label == "all" else label
        )
    axes.set(xlabel="score", ylabel="share of events that are right", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(
        f"expected calibration error {together.error:.3f} (by chance {together.error_by_chance:.3f})", fontsize=9
    )
    axes.legend(loc="upper left", fontsize=8)
    figure.savefig(path, metadata={"Date": None})


def main(exact: str, fast: str) -> None:
    kept = ProbabilitySet.load(exact)
    text = put(CARD.read_text(), "scores", score_table(json.loads(SCORES.read_text())))
    text = put(text, "precision", precision_text(kept, ProbabilitySet.load(fast)))
    text = put(text, "further", further_text(json.loads(FURTHER.read_text())))
    with write_beside(CARD, "w") as file:
        file.write(put(text, "places", places_text(json.loads(PLACES.read_text()))))
    draw_reliability(evaluate_probabilities(kept), DOCS / "reliability.svg")


if __name__ == "__main__":
    main(*sys.argv[1:])
