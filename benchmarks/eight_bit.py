"""What 8 bits cost in detection: ours and each peer's on annotated mixtures, every one calibrated on the same sounds.

python -m benchmarks.eight_bit MIXTURES                         steps from the example recording and made-up sounds
python -m benchmarks.eight_bit MIXTURES --calibration FOLDER    from recordings, as mtfa-fast quantize takes them

Writes results/eight-bit.json after each contestant; the same command goes on with what is missing. Of the shipped
weights: the paper's network has none.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contest import example
from benchmarks.results_files import RESULTS
from benchmarks.search import ONNX_RUNTIME_INT8, OPENVINO_INT8
from mtfa_fast import _core
from mtfa_fast.audio import files
from mtfa_fast.audio.features import log_mel
from mtfa_fast.checking.comparison import PROBABILITY_PERCENTILE, relative_error
from mtfa_fast.commands.discover import discover
from mtfa_fast.commands.evaluate import listed
from mtfa_fast.commands.quantize import read_sounds
from mtfa_fast.data.layout import Mixture
from mtfa_fast.data.probabilities import ProbabilitySet
from mtfa_fast.engine.quantization import calibrate
from mtfa_fast.events.result import Result
from mtfa_fast.files import write_json
from mtfa_fast.measuring import calibration
from mtfa_fast.measuring.contestants import Call, Contestant, Ours
from mtfa_fast.measuring.machine import commit, cpu_model
from mtfa_fast.measuring.quantized_peers import OnnxRuntimeInt8, OpenVinoInt8
from mtfa_fast.scoring.evaluation import evaluate
from mtfa_fast.weights import Weights

SCORES = RESULTS / "eight-bit.json"
IDENTITY = "weights", "mixtures_md5", "steps_from", "device"  # rows of another are not gone on with


def fingerprint(weights: Weights) -> str:
    """Of the tensors, whatever steps and metadata lie beside them."""
    found = hashlib.sha256()
    for name in sorted(weights.tensors):
        found.update(name.encode() + weights.tensors[name].tobytes())
    return found.hexdigest()[:16]


def scores_of(weights: Weights, path: Path = SCORES) -> dict[str, Any] | None:
    """The scores in the file if they are these weights', else None."""
    scores = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    return scores if scores and scores["weights"] == fingerprint(weights) else None


def contestants(
    weights: Weights, threads: int, sounds: Sequence[np.ndarray], variants: bool
) -> dict[str, Callable[[], Contestant]]:
    """Who is scored, by name and not made yet. ``variants``: the peers in other settings, too."""
    found: dict[str, Callable[[], Contestant]] = {
        "mtfa-fast int8": lambda: Ours(weights, "int8", threads),
        "OpenVINO int8": lambda: OpenVinoInt8(weights, threads, sounds),
        "ONNX Runtime int8": lambda: OnnxRuntimeInt8(weights, threads, sounds),
    }
    for what, options in (OPENVINO_INT8 if variants else {}).items():
        found[f"OpenVINO int8: {what}"] = lambda options=options: OpenVinoInt8(weights, threads, sounds, **options)  # type: ignore[misc]
    for what, options in (ONNX_RUNTIME_INT8 if variants else {}).items():
        found[f"ONNX Runtime int8: {what}"] = lambda options=options: OnnxRuntimeInt8(  # type: ignore[misc]
            weights, threads, sounds, **options
        )
    return found


def answers(contestant: Contestant, weights: Weights, mixtures: list[Mixture]) -> tuple[dict[str, Any], ProbabilitySet]:
    """Error rate, F1 and the rest of ``scoring.evaluate`` as a row; and the frame probabilities."""
    config = weights.config.features

    @cache
    def of_length(frames: int) -> Call:
        return contestant.prepare("network", 1, frames)

    def detect(path: Path) -> Result:
        wave = files.read(path, config.sample_rate)
        given = log_mel(wave, config, window=weights.tensors["features.window"], mel=weights.tensors["features.mel"])
        found = of_length(len(given))(given[None])[0].astype(np.float32)
        return Result(np.clip(found, 0, 1), weights.config, path.name, len(wave) / config.sample_rate)

    scores, kept = evaluate(detect, mixtures)
    content = scores.to_dict()
    classes = {label: {key: row[key] for key in KEPT} for label, row in content["classes"].items()}
    row = {"version": contestant.version, "settings": contestant.settings}
    return row | {"error_rate": content["error_rate"], "f1": content["f1"], "classes": classes}, kept


KEPT = "error_rate", "f1", "events", "detections", "correct"


def against(kept: ProbabilitySet, exact: ProbabilitySet) -> dict[str, Any]:
    """How far the probabilities are off, and in how many mixtures the events are the same to the frame."""
    got, want = (np.concatenate([r.probabilities for r in one.recordings]) for one in (kept, exact))
    events = [[(e.label, e.onset, e.offset) for e in result] for one in (kept, exact) for result in one.results()]
    half = len(events) // 2
    return {
        "error": relative_error(got, want),
        "off": float(np.percentile(np.abs(got - want), PROBABILITY_PERCENTILE)),
        "identical": sum(a == b for a, b in zip(events[:half], events[half:], strict=True)),
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mixtures", help="folder of annotated mixtures, as mtfa-fast synthesize writes")
    parser.add_argument("--calibration", help="folder of recordings; default: the example and made-up sounds")
    parser.add_argument("--minutes", type=float, default=4.5, help="of --calibration, as of quantize: %(default)s")
    parser.add_argument("--weights", default="rare-events", help="default: %(default)s")
    parser.add_argument("--variants", action="store_true", help="the peers in other settings of theirs, too")
    parser.add_argument("--threads", type=int, help="default: the cores this process may use")
    parser.add_argument("--out", type=Path, default=SCORES, help="default: benchmarks/results/eight-bit.json")
    options = parser.parse_args(arguments)
    threads, given = options.threads or _core.default_threads(), Weights.load(options.weights)
    mixtures = listed(options.mixtures, None, None)
    if options.calibration:
        found = discover([options.calibration], recursive=True).recordings
        sounds, _ = read_sounds(found, given.config, 60 * options.minutes)
        if not sounds:
            parser.error(f"--calibration: got {options.calibration!r}, allowed: a folder with recordings")
        heard = f"{len(sounds)} recordings"
    else:
        sounds, heard = calibration.sounds(given, [example(given)]), "the example recording and made-up sounds"
    weights = calibrate(given, sounds, threads=threads)
    plain, exact = _timed("mtfa-fast fp32", lambda: answers(Ours(weights, "fp32", threads), weights, mixtures))
    content: dict[str, Any] = {
        "weights": fingerprint(weights),
        "mixtures": len(mixtures),
        "mixtures_md5": hashlib.md5("\n".join(sorted(m.path.name for m in mixtures)).encode()).hexdigest(),
        "calibration": heard,
        "steps_from": hashlib.sha256(b"".join(sound.tobytes() for sound in sounds)).hexdigest()[:16],
        "device": cpu_model(),
        "commit": commit(),
        "rows": [{"name": "mtfa-fast fp32"} | plain | against(exact, exact)],
    }
    before = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
    alike = all(before.get(key) == content[key] for key in IDENTITY)
    done = {row["name"]: row for row in before["rows"]} if alike else {}
    for name, make in contestants(weights, threads, sounds, options.variants).items():
        try:
            contestant = make()
        except ImportError as error:
            print(f"{name}: not installed ({error.name})", file=sys.stderr)
            continue
        row = done.get(name)
        if not row or (row["version"], row["settings"]) != (contestant.version, contestant.settings):
            scored, kept = _timed(name, lambda contestant=contestant: answers(contestant, weights, mixtures))  # type: ignore[misc]
            row = {"name": name} | scored | against(kept, exact)
        content["rows"].append(row)
        write_json(options.out, content)
    for row in content["rows"]:
        print(
            f"{row['name']:<70} ER {row['error_rate']:.3f}  F1 {100 * row['f1']:.1f} %  error {row['error']:.1e}  "
            f"99.9 % {row['off']:.3f}  same events {row['identical']} of {len(mixtures)}"
        )
    return 0


def _timed(
    name: str, work: Callable[[], tuple[dict[str, Any], ProbabilitySet]]
) -> tuple[dict[str, Any], ProbabilitySet]:
    start = time.perf_counter()
    done = work()
    print(f"  {name} after {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    return done


if __name__ == "__main__":
    sys.exit(main())
