"""The recordings of an experiment: checked before the work, identified by a hash, mixed once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..audio import files as audio
from ..data.layout import Mixture, MixtureSet, open_mixture_set
from ..data.recipes import MIXTURE_SECONDS, MixtureParameters, load_sources
from ..data.sources import SourceSet
from ..data.synthesis import SEGMENT_TOLERANCE, Progress, synthesize
from ..files import file_digest
from .config import Table1Config


def read_sources(config: Table1Config) -> tuple[SourceSet, SourceSet]:
    """The train and the test split, every file looked at.

    ValueError naming the class, list or file that an experiment could not use: a class without events, an empty
    list, a file that cannot be read, an event beyond its file's end, a background that is too short, too few
    recordings to hold some out.
    """
    train, test = (SourceSet.load(config.sources, split, config.classes) for split in ("train", "test"))
    for sources, seconds in ((train, config.background_seconds), (test, MIXTURE_SECONDS)):
        for background in sources.backgrounds:
            length = audio.stated_duration(background.path)
            if length < seconds:
                raise ValueError(f"{background.path}: background of {length:.3f} s, allowed: at least {seconds:g} s")
        for event in (e for events in sources.events.values() for e in events):
            length = audio.stated_duration(event.path)
            if event.start >= length or event.end > length + SEGMENT_TOLERANCE:
                raise ValueError(
                    f"{event.path}: segment {event.start:g} to {event.end:g} s reaches beyond the file's {length:.3f} s"
                )
    for seed in [config.data_seed] if config.mixtures else config.seeds:
        train.cut(config.validation_fraction, seed)
    return train, test


def facts(sources: SourceSet) -> dict[str, Any]:
    """What was used, in numbers and as one hash over source lists and file contents."""
    root, split = sources.folder, sources.split
    lists = [f"cv_setup/events_{split}.yaml", f"cv_setup/bgs_{split}.yaml", "metadata.csv"]
    lists += [f"{folder}bg_screening.csv" for folder in ("", "bgs/", "backgrounds/")]
    paths = {root / name for name in lists if (root / name).is_file()}
    paths |= {e.path for events in sources.events.values() for e in events}
    paths |= {b.path for b in sources.backgrounds}
    return {
        "sha256": digest((path.relative_to(root).as_posix(), path) for path in paths),
        "events": {label: len(events) for label, events in sources.events.items()},
        "backgrounds": len(sources.backgrounds),
    }


def digest(files: Iterable[tuple[str, Path]]) -> str:
    """SHA-256 over names and contents of files, in the order of the names."""
    total = hashlib.sha256()
    for name, path in sorted(files):
        total.update(f"{name}\0{file_digest(path)}\n".encode())
    return total.hexdigest()


def shared_files(train: SourceSet, test: SourceSet) -> list[str]:
    """Files that both splits list: what was learned by heart would be scored."""

    def names(sources: SourceSet) -> set[str]:
        paths = {e.path for events in sources.events.values() for e in events} | {b.path for b in sources.backgrounds}
        return {path.relative_to(sources.folder).as_posix() for path in paths}

    return sorted(names(train) & names(test))


def mix_test(config: Table1Config, progress: Progress | None) -> list[Mixture]:
    """The test set, made where it is not there yet. Which mixtures it has does not depend on the chosen classes."""
    return _mixtures(
        load_sources(config.sources, "test"), f"{config.output}/test", config.test_parameters, config, progress,
        replicate_quirk=config.replicate_quirk,
    )  # fmt: skip


def mix_training(
    config: Table1Config, train: SourceSet, progress: Progress | None
) -> tuple[list[Mixture], list[Mixture]]:
    """Mixtures to learn from and to validate on, of different recordings, made where they are not there yet."""
    kept, held = train.cut(config.validation_fraction, config.data_seed)
    counts = config.mixtures, config.validation_mixtures
    learned, validated = (
        _mixtures(sources, f"{config.output}/{name}", config.training_parameters(count), config, progress)
        for sources, name, count in zip((kept, held), ("train", "validation"), counts, strict=True)
    )
    return learned, validated


def evaluation_mixtures(config: Table1Config) -> tuple[list[Mixture], str]:
    """The finished mixtures of ``config.evaluation`` and their hash."""
    found = open_mixture_set(config.evaluation)
    mixtures = found.mixtures(config.classes)
    for label in config.classes:
        if not any(m.events for m in mixtures if m.label == label):
            raise ValueError(f"{found.folder}: no mixture holds an event of class {label!r}")
    annotations = "".join(f"{m.path.name} {m.label} {list(map(tuple, m.events))}\n" for m in mixtures)
    content = digest((m.path.name, m.path) for m in mixtures)
    return mixtures, hashlib.sha256((annotations + content).encode()).hexdigest()


def _mixtures(
    sources: SourceSet,
    folder: str,
    parameters: MixtureParameters,
    config: Table1Config,
    progress: Progress | None,
    *,
    replicate_quirk: bool = False,
) -> list[Mixture]:
    made = MixtureSet(Path(folder) / "mixture_data" / sources.split / parameters.hash, sources.split)
    if set(config.classes) <= set(made.classes):  # a class's event list is written when its mixtures are complete
        try:
            return made.mixtures(config.classes)
        except ValueError:
            pass  # some were deleted: they are made again
    synthesize(
        sources,
        folder,
        parameters,
        classes=config.classes,
        replicate_quirk=replicate_quirk,
        jobs=config.threads or 2,
        progress=progress,
    )
    return made.mixtures(config.classes)
