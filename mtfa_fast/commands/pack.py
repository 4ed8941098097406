"""``mtfa-fast pack``: events, backgrounds and distractors in one file, for a machine that has nothing else."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from .common import say, usage_errors
from .options import SourcesOption
from .outputs import OverwriteOption, require_writable


def pack(
    sources: SourcesOption,
    more_sources: Annotated[list[str] | None, Parameter(help="Further folders, joined.")] = None,
    /,
    *,
    output: Annotated[str, Parameter(alias="-o", help="The file: SOURCES of train, wherever it lies.")],
    split: Annotated[str, Parameter(help="Source lists to pack: train or test.")] = "train",
    distractors: Annotated[
        str | None, Parameter(help="Folder of recordings without the classes, one subfolder a kind.")
    ] = None,
    compression: Annotated[
        float, Parameter(help="Of backgrounds and distractors, 0 to 1: 0.8 is about 57 kbit/s, 0.9 about 29.")
    ] = 0.87,
    overwrite: OverwriteOption = False,
) -> int:
    """Pack the sounds of a training run, with the places and makers that its folds need, into one file.

    In Opus: events, cut to their segments, at 63 kbit/s; backgrounds and distractors at less.
    """
    require_writable("--output", output, inputs=[sources, *(more_sources or ())], overwrite=overwrite)
    with usage_errors():
        from ..data.distractors import Distractors
        from ..data.pack import write_pack
        from ..data.recipes import load_sources
        from .progress import bar

        recordings = load_sources((sources, *(more_sources or ())), split)
        others = Distractors.load(distractors) if distractors else None
        with bar() as progress:
            size = write_pack(output, recordings, others, compression=compression, progress=progress)
    say(f"{size / 1e6:.1f} MB")
    print(output)
    return 0
