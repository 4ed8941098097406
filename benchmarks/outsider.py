"""What a user has without us: YAMNet's own classes with its best decisions, on the recordings that ours is scored on.

python -m benchmarks.outsider --model MODEL --python PYTHON --scores yamnet.npz --validation MIXTURES --test MIXTURES \\
    --background FOLDER --kept test.npz --kept-backgrounds backgrounds.npz

MODEL and PYTHON are those of benchmarks/yamnet.py: TensorFlow is in that environment, not in this one. Which of
AudioSet's classes stand for one of ours, the place of an event within a patch, threshold and median filter are chosen
on the validation mixtures (mtfa-fast synthesize SOURCES MIXTURES -n 100 --seed 77), as ours are on the train split.
Ours come from files of mtfa-fast evaluate --keep; on backgrounds that its training has heard, from one of mtfa-fast
pool. Writes results/outsider.json. Where the file of --scores exists, YAMNet does not run again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results_files import RESULTS
from mtfa_fast.config import ClassConfig, Config, FeatureConfig
from mtfa_fast.data.layout import Mixture, open_mixture_set
from mtfa_fast.data.places import recordings_by_place
from mtfa_fast.data.probabilities import ProbabilitySet, Recording
from mtfa_fast.files import write_json
from mtfa_fast.measuring.machine import environment
from mtfa_fast.scoring.background import background
from mtfa_fast.scoring.evaluation import evaluate_probabilities
from mtfa_fast.scoring.scores import Evaluation
from mtfa_fast.scoring.tuning import Choice, tune

FILE = RESULTS / "outsider.json"
SCRIPT = Path(__file__).with_name("yamnet.py")
HALF = 3_840  # samples at 16 kHz: half of the 0.48 s between patches, in which an event's place is chosen
SHIFTS = range(5)  # halves of a hop from a patch's begin to the event's; a patch has four
FEATURES = FeatureConfig(sample_rate=16_000, window_length=15_360, hop=HALF, fft_length=16_384, mel_bands=64)
SETS: dict[str, tuple[tuple[str, ...], ...]] = {
    "babycry": (
        ("Baby cry, infant cry",),
        ("Baby cry, infant cry", "Crying, sobbing"),
        ("Baby cry, infant cry", "Crying, sobbing", "Whimper"),
    ),
    "glassbreak": (
        ("Shatter",),
        ("Shatter", "Glass"),
        ("Shatter", "Breaking"),
        ("Shatter", "Glass", "Breaking"),
        ("Shatter", "Glass", "Breaking", "Chink, clink", "Smash, crash"),
    ),
    "gunshot": (
        ("Gunshot, gunfire",),
        ("Gunshot, gunfire", "Machine gun", "Fusillade", "Artillery fire", "Cap gun"),
        ("Gunshot, gunfire", "Machine gun", "Fusillade", "Artillery fire", "Cap gun", "Explosion"),
        ("Gunshot, gunfire", "Explosion", "Burst, pop", "Whip", "Firecracker", "Fireworks", "Cap gun"),
    ),
}


@dataclasses.dataclass(frozen=True)
class Heard:
    """What YAMNet answered for some recordings: scores (patches, 521) each, and what that cost."""

    scores: list[np.ndarray]
    seconds: list[float]
    names: list[str]
    cost: dict[str, float]

    def part(self, first: int, last: int | None) -> Heard:
        return Heard(self.scores[first:last], self.seconds[first:last], self.names, self.cost)


def hear(files: Sequence[Path], options: argparse.Namespace) -> Heard:
    """Runs benchmarks/yamnet.py over ``files``, or reads what an earlier run of it kept."""
    out = Path(options.scores)
    if not out.exists():
        listed = out.with_suffix(".txt")
        listed.write_text("".join(f"{path.absolute()}\n" for path in files), encoding="utf-8")
        command = [options.python, str(SCRIPT), options.model, str(listed), str(out)]
        subprocess.run([*command, *(["--as-they-are"] if options.as_they_are else [])], check=True)
    with np.load(out) as data:
        parts = np.split(data["scores"], np.cumsum(data["patches"])[:-1])
        if len(parts) != len(files):
            raise SystemExit(f"{out}: holds {len(parts)} recordings, allowed: {len(files)}; remove it")
        hours = data["seconds"].sum() / 3_600
        cost = {
            "cpu_seconds_per_hour": float(data["cpu_seconds"]) / hours,
            "load_cpu_seconds": float(data["load_cpu_seconds"]),
            "peak_bytes": float(data["peak_bytes"]),
        }
        return Heard(parts, data["seconds"].tolist(), data["names"].tolist(), cost)


def columns(heard: Heard, chosen: dict[str, tuple[tuple[str, ...], int]]) -> list[np.ndarray]:
    """Probabilities (frames, classes) on the finer grid: for each class its set's largest score, its shift later."""
    found = []
    for scores in heard.scores:
        frames = np.zeros((2 * len(scores) + SHIFTS.stop, len(chosen)), np.float32)
        for k, (names, shift) in enumerate(chosen.values()):
            best = scores[:, [heard.names.index(name) for name in names]].max(axis=1)
            frames[shift : shift + 2 * len(best), k] = np.repeat(best, 2)
        found.append(frames)
    return found


def kept(
    heard: Heard,
    chosen: dict[str, tuple[tuple[str, ...], int]],
    config: Config,
    mixtures: Sequence[Mixture] = (),
    places: Sequence[tuple[Path, str]] = (),
) -> ProbabilitySet:
    """The answers as a set that tune and evaluate understand; ``mixtures`` first, then ``places``."""
    named = [(m.path.name, m.events, m.label, m.ebr, "") for m in mixtures]
    named += [(str(path), (), None, None, place) for path, place in places]
    rows = zip(named, columns(heard, chosen), heard.seconds, strict=True)
    return ProbabilitySet(
        config,
        tuple(
            Recording(name, p, seconds, events, label, ebr, place)
            for (name, events, label, ebr, place), p, seconds in rows
        ),
    )


def choose(heard: Heard, mixtures: Sequence[Mixture]) -> dict[str, tuple[tuple[str, ...], int, Choice]]:
    """For each class the set, shift and decision with the lowest error rate on the validation mixtures."""
    start = Config(features=FEATURES, classes=tuple(ClassConfig(label, 0.5, 1) for label in SETS))
    best: dict[str, tuple[tuple[str, ...], int, Choice]] = {}
    for number in range(max(map(len, SETS.values()))):
        for shift in SHIFTS:
            sets = {label: (options[min(number, len(options) - 1)], shift) for label, options in SETS.items()}
            tuning = tune(kept(heard, sets, start, mixtures), longest_filter=9)
            for choice in tuning.choices:
                label = choice.label
                if label not in best or choice.counts.error_rate < best[label][2].counts.error_rate:
                    best[label] = (*sets[label], choice)
    return best


def ours(files: Sequence[Path]) -> None:
    """Child: the shipped network over ``files`` with one thread; prints what it cost."""
    from mtfa_fast import Detector

    detector = Detector.from_pretrained(threads=1)
    loaded, seconds = time.process_time(), 0.0
    for path in files:
        seconds += detector(path).duration
    print(json.dumps({
        "cpu_seconds_per_hour": (time.process_time() - loaded) / seconds * 3_600,
        "load_cpu_seconds": loaded,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }))  # fmt: skip


def cost_of_ours(files: Iterable[Path]) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.outsider", "--ours", *map(str, files)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def row(scores: Evaluation, rates: dict[str, float]) -> dict[str, Any]:
    found = scores.to_dict()
    return {
        "error_rate": found["error_rate"],
        "f1": found["f1"],
        "classes": {
            label: {name: one[name] for name in ("error_rate", "f1", "recall", "precision")}
            | {"false_alarms_per_hour": rates.get(label)}
            for label, one in found["classes"].items()
        },
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model")
    parser.add_argument("--python", help="of the environment that has TensorFlow")
    parser.add_argument("--validation", help="folder of mixtures on which decisions are chosen")
    parser.add_argument("--test", help="folder of mixtures that are scored")
    parser.add_argument("--scores", help="file (.npz) for YAMNet's answers; where it exists no network runs")
    parser.add_argument("--as-they-are", action="store_true", help="leave the recordings as loud as they are")
    parser.add_argument("--background", action="append", default=[], help="folder of recordings without events")
    parser.add_argument("--kept", help="file of mtfa-fast evaluate TEST --keep: ours on the test mixtures")
    parser.add_argument(
        "--kept-backgrounds", help="file of evaluate --background --keep, or of pool: ours on backgrounds"
    )
    parser.add_argument("--ours", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.ours:
        ours([Path(path) for path in options.ours])
        return 0
    validation, test = (open_mixture_set(f, None).mixtures(list(SETS)) for f in (options.validation, options.test))
    places = [(path, place) for folder in options.background for path, place in recordings_by_place(folder)]
    whole = hear([*(m.path for m in (*validation, *test)), *(path for path, _ in places)], options)
    first = len(validation)
    found = choose(whole.part(0, first), validation)
    rate = float(np.mean([choice.counts.error_rate for _, _, choice in found.values()]))
    print(f"validation: error rate {rate:.3f}", flush=True)
    chosen = {label: (names, shift) for label, (names, shift, _) in found.items()}
    config = Config(
        features=FEATURES,
        classes=tuple(ClassConfig(c.label, c.threshold, c.filter_frames) for _, _, c in found.values()),
    )
    heard = kept(whole.part(first, None), chosen, config, test, places)
    scores, empty = evaluate_probabilities(heard), background(heard)
    rates = {label: empty.per_hour(label) for label in SETS} if places else {}
    ours_heard = ProbabilitySet.load(options.kept)
    bare = background(ProbabilitySet.load(options.kept_backgrounds), ours_heard.config)
    content = {
        "section": "outsider",
        **environment(1),
        "mixtures": {"validation": len(validation), "test": len(test)},
        "rows": [
            {"name": "YAMNet", "validation_error_rate": rate, "as_they_are": options.as_they_are,
             **row(scores, rates), **whole.cost,
             "background_hours": empty.hours,
             "decisions": {label: {"classes": names, "later_seconds": shift * HALF / 16_000, "threshold": c.threshold,
                                   "filter_frames": c.filter_frames} for label, (names, shift, c) in found.items()}},
            {"name": "mtfa-fast",
             **row(evaluate_probabilities(ours_heard), {label: bare.per_hour(label) for label in SETS}),
             **cost_of_ours(m.path for m in test[:40]),
             "background_hours": bare.hours},
        ],
    }  # fmt: skip
    write_json(FILE, content)
    print(table(json.loads(FILE.read_text("utf-8"))))
    return 0


def table(content: dict[str, Any]) -> str:
    """Markdown, a line for each of the two; false alarms are of an hour of backgrounds and of a class."""
    heads = ["", "ER", "F1", *(f"ER {c}" for c in SETS), *(f"false alarms / h {c}" for c in SETS), "CPU", "memory"]
    lines = [f"| {' | '.join(heads)} |", f"| --- |{' ---: |' * (len(heads) - 1)}"]
    for one in content["rows"]:
        found = [one["classes"][label] for label in SETS]
        cells = [one["name"], f"{one['error_rate']:.2f}", f"{100 * one['f1']:.0f} %"]
        cells += [f"{c['error_rate']:.2f}" for c in found]
        cells += ["–" if c["false_alarms_per_hour"] is None else f"{c['false_alarms_per_hour']:.1f}" for c in found]
        cells += [f"{one['cpu_seconds_per_hour']:.0f} s / h", f"{one['peak_bytes'] / 1e6:.0f} MB"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
