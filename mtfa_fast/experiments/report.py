"""The paper's table 1 from the scores of many networks: numbers over seeds, as JSON values and as Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from ..data.mixing import CLASSES
from ..versions import versions
from .config import Network, Table1Config

NAMES = {"mtfa": "MTFA", "resatt": "ResAttRNN", "res": "ResRNN"}
# Average error rates of table 1 of arXiv 1904.00063. Its other figures are not at hand, so they are left out.
PUBLISHED: dict[str, dict[str, float]] = {
    "mtfa": {"development": 0.07, "evaluation": 0.09},
    "resatt": {"development": 0.11, "evaluation": 0.14},
    "res": {"development": 0.10, "evaluation": 0.18},
}
PACKAGES = ("numpy", "libsndfile", "torch", "soxr", "safetensors")  # on which a score may depend
SETS = {"test": "test split", "evaluation": "evaluation set"}

Scores = dict[Network, dict[str, Any]]  # of one set


def table(config: Table1Config, data: dict[str, Any], scores: dict[str, Scores]) -> dict[str, Any]:
    """Everything as JSON values. ``scores``: by set ("test", "evaluation"), those that are there so far."""
    networks = config.networks()
    return {
        "experiment": "table1",
        "settings": config.identity() | {"variants": list(config.variants), "seeds": list(config.seeds)},
        "data": data,
        "versions": versions(*PACKAGES),
        "published": {"paper": "arXiv 1904.00063", "average_error_rate": PUBLISHED},
        "unfinished": [n.name for n in networks if any(n not in found for found in scores.values())],
        "rows": [
            {"variant": variant, "set": name, **_row(config, variant, found)}
            for variant in config.variants
            for name, found in scores.items()
        ],
        "networks": [
            {
                "name": n.name,
                "variant": n.variant,
                "seed": n.seed,
                "classes": list(n.classes),
                "scores": {name: found[n] for name, found in scores.items() if n in found},
            }
            for n in networks
        ],
    }


def markdown(result: dict[str, Any]) -> str:
    """The table for people, of what :func:`table` gave."""
    classes = result["settings"]["classes"]
    head = ["network", "scored on", "seeds"]
    head += [f"{label} {rate}" for label in [*classes, "average"] for rate in ("ER", "F1 %")]
    lines = [_line(head), _line(["---", "---", *["---:"] * (len(head) - 2)])]
    for variant in result["settings"]["variants"]:
        for row in (r for r in result["rows"] if r["variant"] == variant):
            parts = [*(row["classes"][label] for label in classes), row["average"]]
            cells = [
                cell for part in parts for cell in (_spread(part["error_rate"]), _spread(part["f1"], percent=True))
            ]
            lines.append(_line([f"{NAMES[variant]}, here", SETS[row["set"]], str(len(row["seeds"])), *cells]))
        for name, rate in PUBLISHED[variant].items():
            blank = ["–"] * (2 * len(classes))
            lines.append(_line([f"{NAMES[variant]}, paper", f"DCASE 2017 {name}", "–", *blank, f"{rate:.2f}", "–"]))
    return "\n".join([*lines, "", *_notes(result)]) + "\n"


def _row(config: Table1Config, variant: str, found: Scores) -> dict[str, Any]:
    """One variant on one set: each class and their average over the seeds of which every class is scored."""
    by_seed: dict[int, dict[str, Any]] = {}
    for seed in config.seeds:
        classes: dict[str, Any] = {}
        for network, scores in found.items():
            if (network.variant, network.seed) == (variant, seed):
                classes |= {label: scores["classes"][label] for label in network.classes}
        if set(classes) == set(config.classes):
            by_seed[seed] = classes

    def over(values: Iterable[float | None]) -> dict[str, Any]:
        return _statistics([math.nan if v is None else v for v in values])

    rates = ("error_rate", "f1")
    return {
        "seeds": list(by_seed),
        "classes": {
            label: {rate: over(classes[label][rate] for classes in by_seed.values()) for rate in rates}
            for label in config.classes
        },
        "average": {
            rate: over(_mean(classes[label][rate] for label in config.classes) for classes in by_seed.values())
            for rate in rates
        },
    }


def _mean(values: Iterable[float | None]) -> float | None:
    numbers = list(values)
    known = [v for v in numbers if v is not None]
    return math.fsum(known) / len(numbers) if len(known) == len(numbers) else None


def _statistics(values: Sequence[float]) -> dict[str, Any]:
    """Mean and sample standard deviation; None where there are too few numbers for them."""
    good = bool(values) and not any(map(math.isnan, values))
    return {
        "mean": math.fsum(values) / len(values) if good else None,
        "standard_deviation": statistics.stdev(values) if good and len(values) > 1 else None,
        "values": [None if math.isnan(v) else v for v in values],
    }


def _spread(rate: dict[str, Any], *, percent: bool = False) -> str:
    if rate["mean"] is None:
        return "–"
    scale, form = (100, ".1f") if percent else (1, ".3f")
    text = format(scale * rate["mean"], form)
    deviation = rate["standard_deviation"]
    return text if deviation is None else f"{text} ± {format(scale * deviation, form)}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _notes(result: dict[str, Any]) -> list[str]:
    """Under the table: what the numbers are, and what they are not."""
    s, data = result["settings"], result["data"]
    notes = []
    if result["unfinished"]:
        notes.append(
            f"**Unfinished**: {len(result['unfinished'])} of {len(result['networks'])} networks are not scored yet; "
            "a row averages the seeds whose classes are all scored."
        )
    if data["in_both_splits"]:
        notes.append(f"**Not a test**: {data['in_both_splits']} files are in the train and in the test split.")
    notes.append(
        "ER and F1: event-based, onset within 0.5 s, each class over its own mixtures; average: mean of the classes. "
        "±: standard deviation over seeds, each with its own first weights, dropout and order of the chunks"
        + ("." if s["mixtures"] else ", and recordings held out for validation.")
    )
    notes.append(
        "Rows of the paper are over other recordings than the rows made here, unless these are the official ones, and "
        "only its average error rates are at hand."
        + ("" if set(s["classes"]) == set(CLASSES) else " They are averages over three classes, not over these.")
    )
    what = "one network for all classes" if s["one_network"] else "one network a class"
    chunks = f"{s['mixtures']} mixtures of 30 s a class" if s["mixtures"] else "chunks mixed when they were needed"
    steps = f"{s['steps_per_epoch']} steps" if s["steps_per_epoch"] else "all chunks"
    patience = f"stopped after {s['patience']} epochs without a better validation loss" if s["patience"] else "no stop"
    notes.append(
        f"Trained, each variant alike: {what}, {s['channels']} channels, {s['hidden']} GRU units, {chunks}, presence "
        f"{s['presence']:g}, chunks of {s['chunk_frames']} frames with shift {s['chunk_shift']}, batch "
        f"{s['batch_size']}, {steps} an epoch, at most {s['epochs']} epochs, {patience}, Adam {s['learning_rate']:g}, "
        f"{s['precision']}. Tested on {s['test_mixtures']} mixtures a class, seed {s['data_seed']}."
    )
    hashes = ", ".join(
        f"{name} {data[name]['sha256'][:16]}" for name in ("train", "test", "evaluation") if name in data
    )
    notes.append(f"Data (SHA-256): {hashes}. {', '.join(f'{k} {v}' for k, v in result['versions'].items())}.")
    return [line for note in notes for line in (note, "")][:-1]
