"""What a picture of one recording shows: everything computed, nothing drawn."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..audio import files as audio
from ..audio.features import log_mel, mel_centres
from ..config import ClassConfig, Config
from ..data.annotations import Annotation, by_name_of, read_annotations
from ..detector import Detector
from ..engine.tiles import STEP
from ..events.result import Result
from ..events.span import LabelledSpan
from ..scoring.matching import maximum_matching
from ..scoring.metrics import ONSET_ONLY, same_label
from ..weights import Weights
from .masks import HALO_FRAMES, mask_means

MOST_COLUMNS = 6_000  # of a picture; two minutes in full, longer recordings in columns of several frames
DB = 10 / math.log(10)  # of one unit of the natural logarithm of power
# Okabe and Ito's colours, in an order whose first members differ most from each other and from white and black.
CLASS_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
OTHER_COLOUR = "#888888"  # of labels that only the annotation knows
_HZ = (1_000, 5_000, 20_000, 200, 2_000, 10_000, 500, 100, 50)  # round frequencies, those that matter most first


@dataclass(frozen=True, eq=False)
class View:
    """One recording between ``start`` and ``end`` seconds, ready to be drawn.

    ``result``: of the whole recording. ``first``: the frame on which ``log_mel``, float32 (n, D), and ``masks``
    begin, at or before ``start``; a frame is drawn from its time to the next frame's, as events count it.
    ``masks``: means over the channels, finest scale first, float32 (ceil(n / 2**s), D / 2**s); none where not
    asked for or where the network has no mask branch. ``wave``: mono float32 from ``start`` to ``end``.
    ``reference``: the annotated events of the whole recording, None without an annotation.
    """

    result: Result
    first: int
    log_mel: NDArray[np.float32] = field(repr=False)
    masks: tuple[NDArray[np.float32], ...] = field(repr=False)
    wave: NDArray[np.float32] = field(repr=False)
    start: float
    end: float
    reference: tuple[Annotation, ...] | None = None

    @classmethod
    def of(
        cls,
        recording: str | os.PathLike[str],
        weights: Weights,
        *,
        seconds: tuple[float, float] | None = None,
        masks: bool = True,
        reference: Iterable[Annotation] | None = None,
        threshold: float | Mapping[str, float] | None = None,
        threads: int | None = None,
    ) -> View:
        """Detect in the whole file and keep what lies between the two ``seconds``, by default everything.

        ``masks`` needs torch and raises ImportError without it. ``threshold`` as in :meth:`Result.with_`. Raises
        as :class:`Detector`, and ValueError for seconds that are not 0 <= from < to with from inside the file.
        """
        if seconds is not None and not 0 <= seconds[0] < seconds[1]:
            raise ValueError(f"seconds: got {seconds[0]} to {seconds[1]}, allowed: 0 <= from < to")
        detector = Detector(weights, threads=threads)
        result = detector(recording).with_(threshold=threshold)
        start, end = seconds or (0.0, math.inf)
        if start >= result.duration:
            raise ValueError(f"seconds: got {start} to {end}, allowed: from < {result.duration:.3f}, the file's length")
        features = weights.config.features
        total, rate = len(result.probabilities), features.sample_rate
        end = min(end, result.duration)
        first = int(start * rate / features.hop) // STEP * STEP
        last = min(total, -(-math.ceil(end * rate / features.hop) // STEP) * STEP)
        low, high = max(0, first - HALO_FRAMES), min(total, last + HALO_FRAMES)
        # Frames at the ends of a piece see half a window of silence; these many more make the others exact.
        margin = -(-features.fft_length // (2 * features.hop))
        origin = max(0, low - margin)
        piece = audio.read_part(recording, rate, origin * features.hop, (high + margin) * features.hop)
        frames = log_mel(
            piece,
            features,
            window=weights.tensors["features.window"],
            mel=weights.tensors["features.mel"],
            threads=threads,
        )[low - origin : high - origin]
        means = mask_means(weights, frames, at_end=high == total) if masks else []
        offset = origin * features.hop
        return cls(
            result,
            first,
            frames[first - low : last - low],
            tuple(m[(first - low) >> s : -(-(last - low) // 2**s)] for s, m in enumerate(means)),
            piece[round(start * rate) - offset : round(end * rate) - offset],
            start,
            # Shorter than a frame, there would be no time axis.
            max(end, start + features.frame_seconds) if result.duration < features.frame_seconds else end,
            None if reference is None else tuple(reference),
        )

    @property
    def config(self) -> Config:
        return self.result.config

    @property
    def title(self) -> str:
        """The file's name, what cannot be shown of it escaped."""
        name = os.path.basename(self.result.source)
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """(n, K), the frames of ``log_mel``."""
        return self.result.probabilities[self.first : self.first + len(self.log_mel)]

    @property
    def labels(self) -> tuple[str, ...]:
        """The network's classes, then what else occurs in the annotation."""
        names = self.config.class_names
        return names + tuple(sorted({e.label for e in self.reference or ()} - set(names)))

    def colour(self, label: str) -> str:
        """``"#rrggbb"``, the same for a class in every picture of a network."""
        names = self.config.class_names
        return CLASS_COLOURS[names.index(label) % len(CLASS_COLOURS)] if label in names else OTHER_COLOUR

    def span(self, event: LabelledSpan) -> tuple[float, float] | None:
        """The part of an event that is shown, in seconds; None if nothing is."""
        if event.offset < self.start or event.onset > self.end:
            return None
        return max(event.onset, self.start), min(event.offset, self.end)

    def decibels(self) -> tuple[NDArray[np.float32], float, float]:
        """The spectrogram in dB with the limits of its colours: the quietest hundredth is cut off."""
        values = self.log_mel * np.float32(DB)
        low, high = float(np.percentile(values, 1)), float(values.max())
        return values, low, max(high, low + 1.0)

    def mask_limits(self) -> tuple[float, float]:
        """One scale of colours for the masks of all scales, which makes them comparable."""
        values = np.concatenate([m.ravel() for m in self.masks])
        low, high = np.percentile(values, [0.5, 99.5]).tolist()
        return low, max(high, low + 1e-3)

    def hz_ticks(self, gap: float) -> list[tuple[float, int]]:
        """(position in bands, Hz) of round frequencies, at least ``gap`` of the axis apart, lowest first."""
        centres = mel_centres(self.config.features)
        bands = np.arange(len(centres))
        chosen: dict[float, int] = {}
        for hz in _HZ:
            position = float(np.interp(hz, centres, bands))
            near = any(abs(position - other) < gap * len(bands) for other in chosen)
            if centres[0] <= hz <= centres[-1] and not near:
                chosen[position] = hz
        return sorted(chosen.items())

    def matches(self) -> dict[int, int]:
        """Reference event -> the detected event that matches it (section 3.1 of the paper: onset within 500 ms)."""
        reference, found = self.reference or (), self.result.events
        return maximum_matching(ONSET_ONLY.close(reference, found) & same_label(reference, found))


def reference_of(recording: str | os.PathLike[str], annotation: str | os.PathLike[str]) -> list[Annotation]:
    """The events that an event list names for a recording; lists without a file column belong to it.

    An empty list says that there are none. Raises as :func:`read_annotations`, and ValueError if the list
    names other files only.
    """
    name = os.path.basename(recording)
    lists: Mapping[str, Sequence[LabelledSpan]] = by_name_of(read_annotations(annotation, file=name), [name])
    if lists and name not in lists:
        others = ", ".join(sorted(lists)[:5]) + (f" and {len(lists) - 5} more" if len(lists) > 5 else "")
        raise ValueError(f"{os.fspath(annotation)}: names no {name}, only {others}")
    return [Annotation(e.label, e.onset, e.offset) for e in lists.get(name, ())]


def columns_of(values: NDArray[np.float32], reduce: Callable[..., Any]) -> tuple[NDArray[np.float32], int]:
    """(n, ...) -> at most MOST_COLUMNS columns, each ``reduce`` (axis=1) of as many values, and how many these are."""
    group = -(-len(values) // MOST_COLUMNS)
    padding = [(0, -len(values) % group)] + [(0, 0)] * (values.ndim - 1)
    # The last column may want values beyond the end: the last one again.
    grouped = np.pad(values, padding, mode="edge").reshape(-1, group, *values.shape[1:])
    return reduce(grouped, axis=1), group


def decision(kind: ClassConfig) -> str:
    """What stands beside a class's probability."""
    score = f", score at least {kind.minimum_score:g}" if kind.minimum_score else ""
    return f"threshold {kind.threshold:g}{score}"
