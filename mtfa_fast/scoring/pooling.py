"""Out-of-fold scores: each fold's network over what its training held out, in one set of probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..data.annotations import Annotation
from ..data.folds import Fold
from ..data.probabilities import Recording
from ..data.recipes import Draw, MixtureParameters, draw
from ..data.scenes import HardScenes
from ..data.sources import BackgroundSource, SourceAudio
from ..data.synthesis import mixture
from ..events.result import Result

Detect = Callable[[NDArray[np.float32]], Result]  # of a wave at SAMPLE_RATE


def held_out(
    fold: Fold,
    number: int,
    detect: Detect,
    parameters: MixtureParameters,
    audio: SourceAudio,
    *,
    jobs: int = 1,
    progress: Callable[[int], None] | None = None,
) -> Iterator[Recording]:
    """Mixtures of what the fold holds out, by the recipe of ``parameters``, then its bare backgrounds.

    Nothing is written. Raises as :func:`.data.synthesis.mixture` and whatever ``detect`` raises.
    """
    held = fold.held
    scenes = HardScenes(held, audio, parameters.seed, fold.held_others) if parameters.hard else None

    def of_mixture(name: str, what: Draw) -> Recording:
        wave, recipe, _ = mixture(what, audio, held.split, scenes)
        found, events, ebr = detect(wave), list[Annotation](), None
        if recipe["event_present"]:
            onset = recipe["event_start_in_mixture_seconds"]
            events.append(Annotation(recipe["event_class"], onset, onset + recipe["event_length_seconds"]))
            ebr = float(recipe["ebr"])
        return Recording(name, found.probabilities, found.duration, tuple(events), what.label, ebr)

    def of_background(name: str, source: BackgroundSource) -> Recording:
        found = detect(audio.background(source))
        return Recording(name, found.probabilities, found.duration, place=source.group)

    work: list[Callable[[], Recording]] = []
    for label, drawn in draw(held, parameters).items():
        work += [partial(of_mixture, f"fold{number}/{label}/{what.number}", what) for what in drawn]
    bare = [b for b in held.backgrounds if not b.marks & set(held.classes)]
    work += [partial(of_background, f"fold{number}/{i}/{b.path.name}", b) for i, b in enumerate(bare)]
    with ThreadPoolExecutor(jobs, thread_name_prefix="mtfa-pool") as pool:
        for done, recording in enumerate(pool.map(lambda job: job(), work)):
            if progress:
                progress(done + 1)
            yield recording
