"""Scores of a detector on a set of annotated mixtures, after the protocol of DCASE 2017 Task 2.

A class is scored over the mixtures of that class alone, and there its own detections alone; mixtures without
event count through their false alarms. Onset only, collar 0.5 s (section 3.1 of the paper). The ranking figure is the
mean of the classes' error rates.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import chosen, require_int
from ..config import ClassConfig, Config
from ..data.annotations import by_name_of, read_annotations
from ..data.layout import Mixture
from ..data.probabilities import ProbabilitySet, Recording
from ..events.result import Result
from ..events.span import LabelledSpan
from .metrics import ONSET_ONLY, Criterion
from .scores import Evaluation, class_score

Progress = Callable[[int, int], None]  # recordings done, of how many


def evaluate(
    detect: Callable[[Path], Result],
    mixtures: Sequence[Mixture],
    *,
    criterion: Criterion = ONSET_ONLY,
    jobs: int = 1,
    progress: Progress | None = None,
    facts: Mapping[str, Any] | None = None,
    failed: Callable[[Path, Exception], None] | None = None,
) -> tuple[Evaluation, ProbabilitySet]:
    """Run a detector (``Detector`` is one) over mixtures -> scores, and the frame probabilities for :mod:`.tuning`.

    ``jobs`` recordings at a time. The first recording that fails ends the run with its error, because scores
    without it would be others; where ``failed`` is given, it is told and the others are scored, and the names are
    among the facts as ``failed``. The last one's error is raised where all fail. ValueError for no mixtures or no
    jobs, and for a class that the detector lacks.
    """
    if not mixtures:
        raise ValueError("mixtures: got none, allowed: at least one")
    require_int("jobs", jobs, 1)
    recordings: list[Recording] = []
    broken: list[str] = []
    config: Config | None = None
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="mtfa-evaluate")
    try:
        futures = [pool.submit(detect, mixture.path) for mixture in mixtures]
        for mixture, future in zip(mixtures, futures, strict=True):
            try:
                result = future.result()
            except (OSError, ValueError, RuntimeError) as error:
                if failed is None or len(broken) + 1 == len(mixtures):
                    raise
                broken.append(mixture.path.name)
                failed(mixture.path, error)
                continue
            config = config or result.config
            _require_class(mixture.label, config)
            p = np.ascontiguousarray(result.probabilities, dtype=np.float32)
            recordings.append(
                Recording(mixture.path.name, p, result.duration, mixture.events, mixture.label, mixture.ebr)
            )
            if progress:
                progress(len(recordings) + len(broken), len(mixtures))
    finally:
        pool.shutdown(cancel_futures=True)
    assert config is not None
    kept = ProbabilitySet(config, tuple(recordings))
    known = {**(facts or {}), **({"failed": broken} if broken else {})}
    return evaluate_probabilities(kept, criterion=criterion, facts=known), kept


def evaluate_probabilities(
    kept: ProbabilitySet,
    config: Config | None = None,
    *,
    criterion: Criterion = ONSET_ONLY,
    facts: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Scores of stored probabilities under ``config``'s decisions (default: the set's own)."""
    config = config or kept.config
    detections = {result.source: result.events for result in kept.results(config)}
    labels = {r.label for r in kept.mixtures}
    wanted = config.class_names if None in labels else [c for c in config.class_names if c in labels]
    scores = {
        label: class_score(
            label, [(r.name, r.events, r.ebr, r.duration) for r in kept.of_class(label)], detections, criterion
        )
        for label in wanted
    }
    decisions = {c.pop("name"): c for c in map(ClassConfig.to_dict, config.classes)}
    known = {"files_md5": _digest(r.name for r in kept.mixtures), "decisions": decisions}
    return Evaluation(scores, criterion, {**known, **(facts or {})})


def evaluate_lists(
    paths: Iterable[str | os.PathLike[str]],
    mixtures: Sequence[Mixture],
    *,
    classes: Iterable[str] | None = None,
    criterion: Criterion = ONSET_ONLY,
    facts: Mapping[str, Any] | None = None,
) -> Evaluation:
    """Scores of event lists that some system wrote. A mixture that no list names has no detections.

    Files are told apart by their bare names, a list without a file column by its own. ``classes``: those to score,
    default all of ``mixtures``. ValueError for lists that name a file which is not among ``mixtures``, for a class
    without mixtures, or for no mixtures.
    """
    if not mixtures:
        raise ValueError("mixtures: got none, allowed: at least one")
    labels = list(dict.fromkeys(m.label for m in mixtures))
    wanted = chosen("classes", classes, labels)
    detections: dict[str, list[LabelledSpan]] = {}
    names = {m.path.name for m in mixtures}
    for path in paths:
        for name, events in by_name_of(read_annotations(path), names).items():
            detections.setdefault(name, []).extend(events)
    unknown = [name for name in detections if name not in names]
    if unknown:
        raise ValueError(
            f"event lists: got {unknown[0]!r} ({len(unknown)} of {len(detections)} files), "
            f"allowed: the mixtures, such as {mixtures[0].path.name!r}"
        )
    scores = {}
    for label in wanted:
        own = [(m.path.name, m.events, m.ebr, math.nan) for m in mixtures if m.label == label]
        scores[label] = class_score(label, own, detections, criterion)
    scored = [m.path.name for m in mixtures if m.label in wanted]
    return Evaluation(scores, criterion, {"files_md5": _digest(scored), **(facts or {})})


def _digest(names: Iterable[str]) -> str:
    """Says which set was scored, wherever it lay: a mixture's name tells its content."""
    return hashlib.md5("\n".join(sorted(names)).encode(), usedforsecurity=False).hexdigest()


def _require_class(label: str, config: Config) -> None:
    if label not in config.class_names:
        raise ValueError(f"mixtures: got class {label!r}, allowed: the detector's {', '.join(config.class_names)}")
