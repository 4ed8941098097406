"""``mtfa-fast tune``: the best decision for each class on annotated mixtures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from .common import UsageError, say, show_table, usage_errors
from .evaluate import listed, only_with_a_folder, run_detector
from .options import (
    ClassesOption,
    CollarOption,
    DeviceOption,
    JobsOption,
    PrecisionOption,
    SubsetOption,
    ThreadsOption,
    WeightsOption,
)
from .outputs import OverwriteOption, require_writable

if TYPE_CHECKING:
    from ..config import Config
    from ..scoring.calibration import Fitted
    from ..scoring.tuning import Tuning


def tune(
    mixtures: Annotated[
        str, Parameter(help="Folder of mixtures with annotations, or a file of evaluate --keep: no network runs then.")
    ],
    /,
    *,
    weights: WeightsOption = "rare-events",
    output: Annotated[
        str | None,
        Parameter(alias="-o", help="Weight file (.safetensors) with the chosen decisions; may be --weights' own."),
    ] = None,
    subset: SubsetOption = None,
    classes: ClassesOption = None,
    objective: Annotated[Literal["error_rate", "f1"], Parameter(help="What is to be best.")] = "error_rate",
    longest_filter: Annotated[int, Parameter(help="Median filters up to so many frames, odd.")] = 101,
    only: Annotated[
        Literal["decisions", "calibration"] | None,
        Parameter(help="Choose the decisions alone, or fit the scores alone to the decisions that are there."),
    ] = None,
    scores: Annotated[
        bool, Parameter(help="Also choose the score that an event must reach, in steps of 0.05 (not in the paper).")
    ] = False,
    collar: CollarOption = 0.5,
    jobs: JobsOption = 2,
    threads: ThreadsOption = None,
    precision: PrecisionOption = "auto",
    device: DeviceOption = "cpu",
    overwrite: OverwriteOption = False,
) -> int:
    """Find the decisions with the best score, exactly, over all thresholds and filter lengths, and calibrate scores.

    An event's score is then the share of such events that are right. Use mixtures that neither training nor the test
    uses (a file of pool, for one). Prints the choices; writes a weight file only with --output.
    Exit code 1: some mixtures could not be read, and the choices are those of the others.
    """
    if output and not (Path(output).suffix == ".safetensors" and Path(output).absolute().parent.is_dir()):
        raise UsageError(f"--output: got {output!r}, allowed: a .safetensors file in a folder that exists")
    require_writable("--output", output, inputs=[mixtures], overwrite=overwrite)
    stored, failed = os.path.isfile(mixtures), 0
    if stored:
        only_with_a_folder({"--subset": subset})
    with usage_errors():
        from ..data.probabilities import ProbabilitySet
        from ..scoring.calibration import calibrate
        from ..scoring.metrics import Criterion
        from ..scoring.tuning import Tuning, apply, weights_of
        from ..scoring.tuning import tune as run
        from ..weights import find
        from .progress import bar

        path = find(weights)  # before the work, not after it
        if stored:
            kept = ProbabilitySet.load(mixtures)
        else:
            options = {"device": device, "precision": precision, "threads": threads}
            chosen = listed(mixtures, subset, classes)
            kept = run_detector(chosen, weights, options, [], jobs, Criterion(collar), {})[1]
            failed = len(chosen) - len(kept.recordings)
        fitted: tuple[Fitted, ...] = ()
        if only == "calibration":
            tuning = Tuning((), weights_of(kept.config, path).config)
        else:
            with bar() as progress:
                tuning = run(
                    kept,
                    classes=classes,
                    longest_filter=longest_filter,
                    minimum_scores=[i / 20 for i in range(20)] if scores else [0.0],
                    objective=objective,
                    collar=collar,
                    progress=progress,
                )
            _show(kept.config, tuning)
        if only != "decisions":
            fitted = calibrate(kept, tuning.config, classes=classes, criterion=Criterion(collar))
            _show_calibration(fitted)
        if output:
            apply(tuning, path, output, fitted=fitted)
            say(f"written to {output}")
    return 1 if failed else 0


def _show_calibration(fitted: tuple[Fitted, ...]) -> None:
    from rich.table import Table

    from ..config import ClassConfig
    from ..events.result import score_of
    from ..scoring.calibration import LEAST_EVENTS

    table = Table(title="Scores: the share of such events that are right")
    for name in (
        "class",
        "fitted to",
        "events",
        "right",
        "0.5 means",
        "0.9 means",
        "0.99 means",
        "error before",
        "after",
        "by chance",
    ):
        table.add_column(name, justify="left" if name == "class" else "right")
    for f in fitted:
        name, right = f.label, int(f.before.right.sum())
        if f.calibration is None:
            say(f"{name}: {f.fitted_to} events, allowed: at least {LEAST_EVENTS}; its scores stay as they are")
            continue
        kind = ClassConfig(name, calibration=f.calibration)
        means = (f"{score_of(kind, peak):.2f}" for peak in (0.5, 0.9, 0.99))
        errors = (f.before.error, f.held_out.error, f.held_out.error_by_chance)
        table.add_row(name, str(f.fitted_to), str(len(f.before)), str(right), *means, *(f"{e:.3f}" for e in errors))
    show_table(table)


def _show(before: Config, tuning: Tuning) -> None:
    from rich.table import Table

    table = Table(title="Best decisions (before)")
    for name in ("class", "threshold", "equally good", "filter", "score", "ER", "F1 %"):
        table.add_column(name, justify="left" if name == "class" else "right")
    old = {c.name: c for c in before.classes}
    for c in tuning.choices:
        table.add_row(
            c.label,
            f"{c.threshold:.4f} ({old[c.label].threshold:g})",
            f"{c.low:.4f} to {c.high:.4f}",
            f"{c.filter_frames} ({old[c.label].filter_frames})",
            f"{c.minimum_score:g} ({old[c.label].minimum_score:g})",
            f"{c.counts.error_rate:.3f}",
            f"{100 * c.counts.f1:.1f}",
        )
    show_table(table)
