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
    from ..scoring.background import Background
    from ..scoring.metrics import Criterion
    from ..scoring.scores import Evaluation


def evaluate(
    mixtures: Annotated[
        str | None,
        Parameter(help="Folder of mixtures with annotations (as synthesize writes), or a file of --keep or pool."),
    ] = None,
    /,
    *,
    background: Annotated[
        str | None, Parameter(help="Folder of recordings without events: false alarms an hour, a row for each place.")
    ] = None,
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
    figure: Annotated[
        str | None, Parameter(help="Picture (.png, .svg, .pdf) of misses against false alarms an hour.")
    ] = None,
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

    Prints a table of error rate and F1 for each class, and with backgrounds one of their false alarms. The JSON file
    then holds the misses against the false alarms an hour at many thresholds, as well. Exit code 1: some mixtures
    could not be read, and the figures are those of the others.
    """
    if mixtures is None and background is None:
        raise UsageError("MIXTURES: got none, allowed: mixtures, --background, or both")
    stored = mixtures is not None and os.path.isfile(mixtures)
    if background and (events or stored):
        raise UsageError("--background: got a folder, but no network runs; allowed: with weights alone")
    if keep and (events or stored):
        raise UsageError("--keep: got a file, but no network runs; allowed: with a folder of mixtures and weights")
    if stored:
        only_with_a_folder({"--events": events, "--subset": subset, "--class": classes})
    if events and threshold:
        raise UsageError("--threshold: got one with --events; allowed: without, the lists are decided")
    for name, path in (("--output", output), ("--keep", keep), ("--figure", figure)):
        if path and not Path(path).absolute().parent.is_dir():
            raise UsageError(f"{name}: folder {str(Path(path).parent)!r} does not exist")
        require_writable(name, path, inputs=[*filter(None, [mixtures, weights]), *(events or [])], overwrite=overwrite)
    failed = 0
    with usage_errors():
        from ..files import write_json
        from ..scoring.evaluation import evaluate_lists
        from ..scoring.metrics import Criterion

        criterion = Criterion(collar, offset=offset)
        facts: dict[str, Any] = {"mixtures": mixtures}
        scores: Evaluation | None = None
        kept: ProbabilitySet | None = None
        if mixtures and stored:
            scores, kept = _stored(mixtures, threshold or [], criterion, facts)
        elif mixtures:
            chosen = listed(mixtures, subset, None if events else classes)  # a list may name the other classes' files
            if events:
                facts["event_lists"] = events
                scores = evaluate_lists(events, chosen, classes=classes, criterion=criterion, facts=facts)
            else:
                options = {"device": device, "precision": precision, "threads": threads}
                scores, kept = run_detector(chosen, weights, options, threshold or [], jobs, criterion, facts)
                failed = len(chosen) - len(kept.recordings)
        if background:
            options = {"device": device, "precision": precision, "threads": threads}
            kept = listen(background, weights, options, threshold or [], jobs, kept)
        if keep and kept:
            kept.save(keep)
        content = scores.to_dict() if scores else facts | {"weights": weights}
        places = _backgrounds(kept, criterion, figure, content, bool(output)) if kept and kept.backgrounds else None
        if figure and not places:
            raise UsageError("--figure: got a picture, but there are no backgrounds; allowed: with --background")
    if scores and scores.classes:
        show_table(scores.table())
    if places:
        show_table(places.table())
    if output:
        write_json(output, content)
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


def listen(
    folder: str, weights: str, options: dict[str, Any], thresholds: list[str], jobs: int, kept: ProbabilitySet | None
) -> ProbabilitySet:
    """``kept``, or a new set, with the recordings of a folder of backgrounds."""
    from concurrent.futures import ThreadPoolExecutor

    from ..data.places import recordings_by_place
    from ..data.probabilities import ProbabilitySet, Recording
    from ..detector import Detector
    from ..events.result import decide
    from .progress import bar

    files = recordings_by_place(folder)
    detector = Detector.from_pretrained(weights, **options)
    config = decide(detector.config, threshold=parse_thresholds(thresholds, detector.config))
    found = list(kept.recordings if kept else ())
    with bar() as progress, ThreadPoolExecutor(jobs) as pool:
        results = pool.map(lambda file: detector(file[0]), files)
        for number, ((path, place), result) in enumerate(zip(files, results, strict=True), 1):
            name = path.relative_to(folder).as_posix()
            found.append(Recording(name, result.probabilities, result.duration, place=place))
            progress(number, len(files))
    return ProbabilitySet(config, tuple(found))


def _backgrounds(
    kept: ProbabilitySet, criterion: Criterion, figure: str | None, content: dict[str, Any], thorough: bool
) -> Background:
    """False alarms on the set's backgrounds; where they are asked for, the curve in ``content`` and in a picture."""
    from ..scoring.background import background, curve
    from .progress import bar

    found = background(kept)
    content["background"] = found.to_dict()
    if figure or thorough:
        with bar() as progress:
            content["curve"] = curve(kept, criterion=criterion, progress=progress)
    if figure:
        from ..visualization.operating import save_operating_curve

        save_operating_curve(content["curve"], {c: found.per_hour(c) for c in found.classes}, figure)
    return found


def _stored(
    path: str, thresholds: list[str], criterion: Criterion, facts: dict[str, Any]
) -> tuple[Evaluation, ProbabilitySet]:
    from ..data.probabilities import ProbabilitySet
    from ..events.result import decide
    from ..scoring.evaluation import evaluate_probabilities

    kept = ProbabilitySet.load(path)
    config = decide(kept.config, threshold=parse_thresholds(thresholds, kept.config))
    scores = evaluate_probabilities(kept, config, criterion=criterion, facts=facts)
    return scores, ProbabilitySet(config, kept.recordings)
