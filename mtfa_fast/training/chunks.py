"""Where a run's chunks come from: mixed on the fly, or cut from finished mixtures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from ..data.batches import Chunks
from ..data.copies import require_no_copies
from ..data.distractors import Distractors
from ..data.folds import fold
from ..data.layout import open_mixture_set
from ..data.more_events import add_events
from ..data.opening import require_recordings
from ..data.pack import Pack
from ..data.recorded import RecordedChunks, cut_mixtures
from ..data.sources import SPLITS, SourceAudio, SourceSet
from .config import TrainConfig
from .plan import Planner, chunk_samples
from .sampler import ChunkSampler
from .sounds import SoundBank


def open_chunks(config: TrainConfig, device: torch.device) -> tuple[Chunks, Chunks, str]:
    """Training and validation chunks, from different source recordings unless nothing is held out; and what identifies
    the recordings, empty for finished mixtures."""
    if config.recorded:
        return (*recorded_chunks(config), "")
    sources, others, audio = read_material(config)
    kept = held = sources
    if config.folds:
        split = fold(sources, others, config.folds, config.fold)
        kept, held, others = split.kept, split.held, split.kept_others
    elif config.validation_fraction:
        kept, held = sources.cut(config.validation_fraction, config.seed)
    if config.more_events:
        kept = add_events(kept, config.more_events)
    common: dict[str, Any] = {
        "features": config.config.features,
        "frames": config.chunk_frames,
        "ebrs": config.ebrs,
        "seed": config.seed,
    }
    if not Path(config.sources).is_file():  # a packed file was read whole when it was written
        needed = [e.path for s in (kept, held) for events in s.events.values() for e in events]
        needed += [b.path for s in (kept, held) for b in s.backgrounds]
        require_recordings(needed + [path for kind in (others.kinds if others else ()) for path in kind])
    samples = chunk_samples(config.chunk_frames, config.config.features)
    bank = SoundBank.load(kept, audio, samples, device, others, balanced=config.augment.balance_sources)
    held_bank = bank if held == kept and not others else SoundBank.load(held, audio, samples, device)
    if config.folds:
        require_no_copies(bank.waves(), held_bank.waves())
    planner = Planner(bank.catalogue, presence=config.presence, augment=config.augment, **common)
    validation = ChunkSampler(Planner(held_bank.catalogue, presence=0.5, **common), held_bank, config.batch_size)
    training = ChunkSampler(planner, bank, config.batch_size, config.hard_share)
    return training, validation, f"{bank.digest} {held_bank.digest}"


def read_material(config: TrainConfig) -> tuple[SourceSet, Distractors | None, SourceAudio]:
    """Lists of what a run may use, and what reads it."""
    classes, rate = config.config.class_names, config.config.features.sample_rate
    used = config.augment.distractors or config.augment.background_mix
    if Path(config.sources).is_file():
        for name in ("more_sources", "distractors"):
            if given := getattr(config, name):
                raise ValueError(f"{name}: got {given!r}, allowed: nothing beside a packed file, which holds its own")
        pack = Pack.open(config.sources)
        return pack.sources(classes), pack.distractors(rate) if used else None, pack.audio(rate)
    sources = SourceSet.join((config.sources, *config.more_sources), config.split, classes)
    others = Distractors.load(config.distractors, rate) if config.distractors else None
    return sources, others, SourceAudio(rate, cache_bytes=0)


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
