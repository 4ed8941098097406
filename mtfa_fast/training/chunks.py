"""Where a run's chunks come from: mixed on the fly, or cut from finished mixtures. Torch-free."""

from __future__ import annotations

import os
from typing import Any

from ..data.distractors import Distractors
from ..data.layout import open_mixture_set
from ..data.more_events import add_events
from ..data.opening import require_recordings
from ..data.recorded import RecordedChunks, cut_mixtures
from ..data.sampler import Chunks, ChunkSampler
from ..data.sources import SPLITS, SourceAudio, SourceSet
from .config import TrainConfig


def open_chunks(config: TrainConfig) -> tuple[Chunks, Chunks]:
    """Training and validation chunks, from different source recordings unless nothing is held out."""
    if config.recorded:
        return recorded_chunks(config)
    sources = SourceSet.load(config.sources, config.split, config.config.class_names)
    kept = held = sources
    if config.validation_fraction:
        kept, held = sources.cut(config.validation_fraction, config.seed)
    if config.more_events:
        kept = add_events(kept, config.more_events)
    audio = SourceAudio(config.config.features.sample_rate)
    common: dict[str, Any] = {
        "features": config.config.features,
        "batch_size": config.batch_size,
        "frames": config.chunk_frames,
        "ebrs": config.ebrs,
        "seed": config.seed,
    }
    others = Distractors.load(config.distractors, config.config.features.sample_rate) if config.distractors else None
    needed = [e.path for s in (kept, held) for events in s.events.values() for e in events]
    needed += [b.path for s in (kept, held) for b in s.backgrounds]
    require_recordings(needed + [path for kind in (others.kinds if others else ()) for path in kind])
    training = ChunkSampler(kept, audio, presence=config.presence, augment=config.augment, others=others, **common)
    return training, ChunkSampler(held, audio, presence=0.5, **common)


def recorded_chunks(config: TrainConfig) -> tuple[Chunks, Chunks]:
    """Training and validation chunks, from different files."""
    classes = config.config.class_names
    subset = SPLITS.get(config.split, config.split)
    kept = open_mixture_set(config.sources, subset).mixtures(classes)
    if config.validation:
        held = open_mixture_set(config.validation, subset).mixtures(classes)
    else:
        kept, held = cut_mixtures(kept, config.validation_fraction, config.seed)
    settings: dict[str, Any] = {
        "classes": classes,
        "features": config.config.features,
        "batch_size": config.batch_size,
        "frames": config.chunk_frames,
        "shift": config.chunk_shift,
        "seed": config.seed,
    }
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    return RecordedChunks(kept, **settings, processes=processes), RecordedChunks(held, **settings)
