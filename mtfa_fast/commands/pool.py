"""``mtfa-fast pool``: out-of-fold probabilities, for decisions on recordings that the networks have not heard."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .common import UsageError, say, usage_errors
from .options import DeviceOption, EbrOption, JobsOption, PrecisionOption, SourcesOption, ThreadsOption
from .outputs import OverwriteOption, require_writable


def pool(
    sources: SourcesOption,
    more_sources: Annotated[list[str] | None, Parameter(help="Further folders, joined as in training.")] = None,
    /,
    *,
    weights: Annotated[
        list[str], Parameter(help="Of fold 1, 2, ... of a training with --folds, in this order; repeat for each.")
    ],
    output: Annotated[str, Parameter(alias="-o", help="File (.npz) that tune and evaluate read.")],
    folds: Annotated[
        int | None, Parameter(help="That training had; the weights are of the first. Default: as many as weights.")
    ] = None,
    distractors: Annotated[
        str | None, Parameter(help="Folder of distractors that training had: they are a part of the folds.")
    ] = None,
    mixtures_per_class: Annotated[int, Parameter(alias="-n", help="Mixtures of 30 s for each class and fold.")] = 100,
    ebr: EbrOption = None,
    seed: Annotated[int, Parameter(help="Of the mixtures.")] = 42,
    hard: Annotated[bool, Parameter(help="Harder scenes, as of synthesize.")] = False,
    jobs: JobsOption = 2,
    threads: ThreadsOption = None,
    precision: PrecisionOption = "auto",
    device: DeviceOption = "cpu",
    overwrite: OverwriteOption = False,
) -> int:
    """Run each fold's weights over mixtures and bare backgrounds of what their training held out, into one file.

    The folds are training's: give the same SOURCES and --distractors. Nothing else is written.
    """
    if not Path(output).absolute().parent.is_dir():
        raise UsageError(f"--output: folder {str(Path(output).parent)!r} does not exist")
    require_writable("--output", output, inputs=weights, overwrite=overwrite)
    if folds is not None and folds < len(weights):
        raise UsageError(f"--folds: got {folds}, allowed: at least {len(weights)}, the number of weights")
    with usage_errors():
        from ..data.distractors import Distractors
        from ..data.folds import fold
        from ..data.mixing import EBRS
        from ..data.probabilities import ProbabilitySet, Recording
        from ..data.recipes import MixtureParameters
        from ..data.sources import SourceAudio, SourceSet
        from ..data.synthesis import SAMPLE_RATE
        from ..detector import Detector
        from ..scoring.pooling import held_out
        from .progress import bar

        parameters = MixtureParameters(mixtures_per_class, seed=seed, hard=hard, ebrs=tuple(ebr or EBRS))
        detectors = [Detector.from_pretrained(w, device=device, precision=precision, threads=threads) for w in weights]
        config = detectors[0].config
        for name, other in zip(weights, detectors, strict=True):
            if other.config.class_names != config.class_names or other.config.features != config.features:
                raise ValueError(f"weights: {name} has other classes or features than {weights[0]}, allowed: the same")
        recordings = SourceSet.join((sources, *(more_sources or ())), "train", config.class_names)
        others = Distractors.load(distractors) if distractors else None
        parts = [fold(recordings, others, folds or len(weights), k) for k in range(1, len(weights) + 1)]
        audio = SourceAudio(SAMPLE_RATE)
        total = len(parts) * len(config.classes) * mixtures_per_class + sum(len(p.held.backgrounds) for p in parts)
        found: list[Recording] = []
        with bar() as progress:
            for number, (part, detector) in enumerate(zip(parts, detectors, strict=True), 1):
                detect = partial(detector, sample_rate=SAMPLE_RATE)
                for recording in held_out(part, number, detect, parameters, audio, jobs=jobs):
                    found.append(recording)
                    progress(len(found), total)
        kept = ProbabilitySet(config, tuple(found))
        kept.save(output)
    hours = sum(r.duration for r in kept.backgrounds) / 3_600
    say(f"{len(kept.mixtures)} mixtures, {hours:.2f} hours of backgrounds")
    print(output)
    return 0
