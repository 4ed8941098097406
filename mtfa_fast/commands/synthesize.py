"""``mtfa-fast synthesize``: test and training mixtures after the DCASE 2017 Task 2 recipe."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from .common import count, say, usage_errors
from .options import ClassesOption, EbrOption, SourcesOption


def synthesize(
    sources: SourcesOption,
    output: Annotated[str, Parameter(help="Folder below which mixture_data/... appears.")],
    /,
    *,
    split: Annotated[str, Parameter(help="Source lists to draw from: train or test.")] = "train",
    classes: ClassesOption = None,
    mixtures_per_class: Annotated[int, Parameter(alias="-n", help="Mixtures of 30 s for each class.")] = 500,
    event_presence_prob: Annotated[float, Parameter(help="Probability that a mixture holds its event.")] = 0.5,
    ebr: EbrOption = None,
    seed: Annotated[int, Parameter(help="Same seed, sources and options: same bytes.")] = 42,
    replicate_quirk: Annotated[
        bool, Parameter(help="Draw as the official synthesizer does, its known slip included.")
    ] = False,
    hard: Annotated[
        bool, Parameter(help="Harder scenes: filtered backgrounds, two at once, sudden other sounds, changed events.")
    ] = False,
    distractors: Annotated[
        str | None, Parameter(help="With --hard: folder of recordings without the classes, for the sudden sounds.")
    ] = None,
    held_out: Annotated[
        float | None,
        Parameter(help="Only of this share of the recordings, which train holds out as --validation-fraction."),
    ] = None,
    held_out_seed: Annotated[int, Parameter(help="The --seed of that training run.")] = 0,
    jobs: Annotated[int, Parameter(alias="-j", help="Mixtures made at a time.")] = 2,
    overwrite: Annotated[bool, Parameter(help="Replace other mixtures of the same parameters.")] = False,
) -> int:
    """Mix events into backgrounds: audio, event lists and recipes in the official layout.

    The folder's name is the official hash of the parameters. A run that was interrupted goes on. Prints the folder.
    """
    with usage_errors():
        from ..data.distractors import Distractors
        from ..data.recipes import MixtureParameters, load_sources
        from ..data.sources import SourceSet
        from ..data.synthesis import synthesize as run
        from .progress import bar

        ratios = {"ebrs": tuple(ebr)} if ebr else {}
        parameters = MixtureParameters(mixtures_per_class, event_presence_prob, seed=seed, hard=hard, **ratios)
        recordings = load_sources(sources, split)
        if held_out is not None:  # cut as for a network of the same classes, because the classes change the cut
            found = SourceSet.load(sources, split, tuple(dict.fromkeys(classes or recordings.classes)))
            recordings = found.cut(held_out, held_out_seed)[1]
        with bar() as progress:
            done = run(
                recordings,
                output,
                parameters,
                classes=classes,
                replicate_quirk=replicate_quirk,
                jobs=jobs,
                overwrite=overwrite,
                distractors=Distractors.load(distractors) if distractors else None,
                progress=progress,
            )
    left = f", {done.screened} left out because their background holds the class" if done.screened else ""
    say(f"{count(done.written, 'mixture')} written, {done.kept} already there{left}")
    print(done.folder)
    return 0
