"""``mtfa-fast quantize``: the steps of 8-bit arithmetic, chosen on recordings, into a weight file."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
from cyclopts import Parameter

from .common import UsageError, clock, count, say, show_table, usage_errors
from .detect import describe
from .discover import Recording, discover
from .options import JobsOption, ThreadsOption, WeightsOption
from .outputs import OverwriteOption, require_writable

if TYPE_CHECKING:
    from ..config import Config
    from ..events.result import Result
    from ..weights import Weights

PIECE_SECONDS = 30.0  # of one recording: many short pieces show more than a few long ones


def quantize(
    weights: WeightsOption,
    recordings: Annotated[list[str], Parameter(help="Files, folders, patterns: sounds as they will be met.")],
    /,
    *,
    output: Annotated[str, Parameter(alias="-o", help="Weight file (.safetensors) to write.")],
    recursive: Annotated[bool, Parameter(alias="-r", help="Search the folders below a folder, too.")] = False,
    minutes: Annotated[float, Parameter(help="Of sound, 30 s of a recording, in an order by chance.")] = 10.0,
    check: Annotated[
        str | None, Parameter(help="Folder of annotated mixtures: prints error rate and F1 before and after.")
    ] = None,
    jobs: JobsOption = 2,
    threads: ThreadsOption = None,
    overwrite: OverwriteOption = False,
) -> int:
    """Prepare weights for --precision int8: choose the steps of 8-bit maps on real recordings.

    Prints what it chose and by how much the answers on the same recordings change. Exit code 1: some recordings could
    not be read; the file is written all the same.
    """
    if not (Path(output).suffix == ".safetensors" and Path(output).absolute().parent.is_dir()):
        raise UsageError(f"--output: got {output!r}, allowed: a .safetensors file in a folder that exists")
    require_writable("--output", output, inputs=[weights, *recordings], overwrite=overwrite)
    if not minutes > 0:
        raise UsageError(f"--minutes: got {minutes:g}, allowed: > 0")
    with usage_errors():
        from ..engine.quantization import calibrate
        from ..weights import Weights
        from .evaluate import listed
        from .progress import bar

        before = Weights.load(weights)
        mixtures = listed(check, None, None) if check else None
    found = discover(recordings, recursive=recursive)
    for problem in found.problems:
        say(f"error: {problem}")
    sounds, failed = _read(found.recordings, before.config, minutes * 60)
    if not sounds:
        raise UsageError("recordings: got none that can be read, allowed: at least one")
    seconds = sum(map(len, sounds)) * before.config.features.hop / before.config.features.sample_rate
    with bar() as show:
        done = 0

        def advance() -> None:
            nonlocal done
            done += 1
            show(done, len(sounds))

        after = calibrate(before, sounds, threads=threads, done=advance)
    what = f"{count(len(sounds), 'recording')}, {clock(seconds)}"
    after = replace(after, metadata=after.metadata | {"int8 calibration": what})
    after.save(output)
    maps = sum(name.startswith("int8.step.") for name in after.steps)
    print(f"steps of {count(maps, 'map')} and {count(len(after.steps) - maps, 'convolution')}, chosen on {what}")
    _print_change(after, sounds, threads)
    if mixtures:
        from ..data.probabilities import ProbabilitySet
        from ..scoring.metrics import Criterion
        from .evaluate import run_detector

        kept: list[ProbabilitySet] = []
        for precision in ("fp32", "int8"):
            options = {"device": "cpu", "precision": precision, "threads": threads}
            scores, answers = run_detector(mixtures, output, options, [], jobs, Criterion(), {})
            kept.append(answers)
            print(f"{precision}:")
            show_table(scores.table())
        same = _same_events(*(list(answers.results()) for answers in kept))
        print(f"identical events in {same} of {len(mixtures)} mixtures ({same / len(mixtures):.1%})")
    say(f"written to {output}")
    return 1 if failed or found.problems else 0


def _read(recordings: list[Recording], config: Config, seconds: float) -> tuple[list[np.ndarray], int]:
    """Raw log-mel of pieces until they are ``seconds`` long together, and how many recordings could not be read."""
    from ..audio import features, files

    rate, sounds, failed, left = config.features.sample_rate, list[np.ndarray](), 0, seconds
    for recording in random.Random(0).sample(recordings, len(recordings)):
        if left <= 0:
            break
        try:
            wave = files.read_part(recording.path, rate, 0, round(min(left, PIECE_SECONDS) * rate))
        except (OSError, ValueError) as error:
            say(f"error: {describe(recording.path, error)}")
            failed += 1
            continue
        if len(wave):
            sounds.append(features.log_mel(wave, config.features))
            left -= len(wave) / rate
    return sounds, failed


def _print_change(weights: Weights, sounds: list[np.ndarray], threads: int | None) -> None:
    from ..engine.cpu import CpuEngine
    from ..events.result import Result

    features = weights.config.features
    answers = []
    for precision in ("fp32", "int8"):
        engine = CpuEngine(weights, precision=precision, threads=threads)
        found = [engine.probabilities(log_mel) for log_mel in sounds]
        answers.append([Result(p, weights.config, "", len(p) * features.hop / features.sample_rate) for p in found])
    off = np.concatenate([np.abs(a.probabilities - b.probabilities) for a, b in zip(*answers, strict=True)])
    same = _same_events(*answers)
    print(
        f"int8 against fp32 on these: probabilities off by {np.sqrt(np.mean(off**2)):.4f} (root mean square), "
        f"{np.percentile(off, 99.9):.3f} (99.9 %); identical events in {same} of {count(len(sounds), 'recording')}"
    )


def _same_events(before: list[Result], after: list[Result]) -> int:
    """How many recordings have the same labels, onsets and offsets."""
    return sum(
        [(e.label, e.onset, e.offset) for e in a] == [(e.label, e.onset, e.offset) for e in b]
        for a, b in zip(before, after, strict=True)
    )
