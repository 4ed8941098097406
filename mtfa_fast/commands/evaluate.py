"""``mtfa-fast evaluate``: error rate and F1 of a detector, or of event lists, on annotated mixtures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from .common import UsageError, say, show_table, usage_errors
from .detect import describe, parse_thresholds
from .options import (
    ClassesOption,
    CollarOption,
    DeviceOption,
    JobsOption,
    PrecisionOption,
    SubsetOption,
    ThreadsOption,
    ThresholdOption,
    WeightsOption,
)
from .outputs import OverwriteOption, require_writable

if TYPE_CHECKING:
    from ..data.layout import Mixture
    from ..data.probabilities import ProbabilitySet
    from ..scoring.metrics import Criterion
    from ..scoring.scores import Evaluation


def evaluate(
    mixtures: Annotated[
        str, Parameter(help="Folder of mixtures with annotations (as synthesize writes), or a file of --keep.")
    ],
    /,
    *,
    weights: WeightsOption = "rare-events",
    events: Annotated[
        list[str] | None, Parameter(help="Score these event lists of some system and run nothing; repeat for several.")
    ] = None,
    subset: SubsetOption = None,
    classes: ClassesOption = None,
    threshold: ThresholdOption = None,
    collar: CollarOption = 0.5,
    offset: Annotated[bool, Parameter(help="Offsets count, too.")] = False,
    output: Annotated[str | None, Parameter(alias="-o", help="JSON file with all figures.")] = None,
    keep: Annotated[
        str | None, Parameter(help="File (.npz) for the frame probabilities: to evaluate again, or to tune, at once.")
    ] = None,
    jobs: JobsOption = 2,
    threads: ThreadsOption = None,
    precision: PrecisionOption = "auto",
    device: DeviceOption = "cpu",
    overwrite: OverwriteOption = False,
) -> int:
    """Score detections by the protocol of DCASE 2017 Task 2: event-based, onset only.

    Prints a table of error rate and F1 for each class. Exit code 1: some mixtures could not be read, and the figures
    are those of the others.
    """
    stored = os.path.isfile(mixtures)
    if keep and (events or stored):
        raise UsageError("--keep: got a file, but no network runs; allowed: with a folder of mixtures and weights")
    if stored:
        only_with_a_folder({"--events": events, "--subset": subset, "--class": classes})
    if events and threshold:
        raise UsageError("--threshold: got one with --events; allowed: without, the lists are decided")
    for name, path in (("--output", output), ("--keep", keep)):
        if path and not Path(path).absolute().parent.is_dir():
            raise UsageError(f"{name}: folder {str(Path(path).parent)!r} does not exist")
        require_writable(name, path, inputs=[mixtures, weights, *(events or [])], overwrite=overwrite)
    failed = 0
    with usage_errors():
        from ..files import write_json
        from ..scoring.evaluation import evaluate_lists
        from ..scoring.metrics import Criterion

        criterion = Criterion(collar, offset=offset)
        facts: dict[str, Any] = {"mixtures": mixtures}
        if stored:
            scores = _stored(mixtures, threshold or [], criterion, facts)
        else:
            chosen = listed(mixtures, subset, None if events else classes)  # a list may name the other classes' files
            if events:
                facts["event_lists"] = events
                scores = evaluate_lists(events, chosen, classes=classes, criterion=criterion, facts=facts)
            else:
                options = {"device": device, "precision": precision, "threads": threads}
                scores, kept = run_detector(chosen, weights, options, threshold or [], jobs, criterion, facts)
                if keep:
                    kept.save(keep)
                failed = len(chosen) - len(kept.recordings)
    show_table(scores.table())
    if output:
        write_json(output, scores.to_dict())
    return 1 if failed else 0


def only_with_a_folder(options: dict[str, object]) -> None:
    """UsageError for an option that a file of probabilities would leave without effect."""
    for name, value in options.items():
        if value:
            raise UsageError(f"{name}: got one with a file of --keep; allowed: with a folder of mixtures")


def listed(folder: str, subset: str | None, classes: list[str] | None) -> list[Mixture]:
    """The mixtures that the command line means. Raises as ``open_mixture_set`` and ``MixtureSet.mixtures``."""
    from ..data.layout import open_mixture_set
    from ..data.sources import SPLITS

    return open_mixture_set(folder, SPLITS.get(subset, subset) if subset else None).mixtures(classes)


def run_detector(
    mixtures: list[Mixture],
    weights: str,
    options: dict[str, Any],
    thresholds: list[str],
    jobs: int,
    criterion: Criterion,
    facts: dict[str, Any],
) -> tuple[Evaluation, ProbabilitySet]:
    """Detect in all mixtures with a progress bar; scores, and the frame probabilities.

    A mixture that cannot be read is reported; the others are kept and scored.
    """
    from ..detector import Detector
    from ..events.result import Result, decide
    from ..scoring.evaluation import evaluate as run
    from .progress import bar

    detector = Detector.from_pretrained(weights, **options)
    levels = parse_thresholds(thresholds, detector.config)
    decide(detector.config, threshold=levels)  # a wrong one is refused before the work

    def detect(path: Path) -> Result:
        return detector(path).with_(threshold=levels)

    facts = facts | {"weights": weights, "engine": detector.explain()}

    def failed(path: Path, error: Exception) -> None:
        say(f"error: {describe(str(path), error)}")

    with bar() as progress:
        scores, kept = run(
            detect, mixtures, criterion=criterion, jobs=jobs, progress=progress, facts=facts, failed=failed
        )
    if number := len(mixtures) - len(kept.recordings):
        say(f"{number} of {len(mixtures)} mixtures could not be read; the figures are those of the others")
    return scores, kept


def _stored(path: str, thresholds: list[str], criterion: Criterion, facts: dict[str, Any]) -> Evaluation:
    from ..data.probabilities import ProbabilitySet
    from ..events.result import decide
    from ..scoring.evaluation import evaluate_probabilities

    kept = ProbabilitySet.load(path)
    config = decide(kept.config, threshold=parse_thresholds(thresholds, kept.config))
    return evaluate_probabilities(kept, config, criterion=criterion, facts=facts)
