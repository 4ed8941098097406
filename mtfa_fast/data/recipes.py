"""What goes into every mixture of DCASE 2017 Task 2: parameters, drawing, and the recipes that record it.

One random stream per subset draws class after class. The drawing, the parameter hash and the recipes' hash, which
is part of a mixture's name, are those of the official synthesizer.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..arguments import require, require_int
from .mixing import CLASSES, EBRS
from .sources import BackgroundSource, EventSource, SourceSet, classes_of

MIXTURE_SECONDS = 30.0
MAX_MIXTURES = 10**6  # a class
MAX_SEED = 2**32 - 1  # of NumPy's old generator, which the official recipe draws with

Recipe = dict[str, Any]


@dataclass(frozen=True)
class MixtureParameters:
    """The four official parameters, which name the folder, and ``hard``. The defaults are those of the DCASE sets."""

    mixtures_per_class: int = 500
    event_presence_prob: float = 0.5
    ebrs: tuple[float, ...] = EBRS  # dB
    seed: int = 42
    hard: bool = False  # in the scenes of data.scenes instead of the bare backgrounds

    def __post_init__(self) -> None:
        require_int("mixtures_per_class", self.mixtures_per_class, 1, MAX_MIXTURES)
        presence = self.event_presence_prob
        require(0 <= presence <= 1, "event_presence_prob", presence, "0 <= probability <= 1")
        finite = len(self.ebrs) > 0 and all(map(math.isfinite, self.ebrs))
        require(finite, "ebrs", self.ebrs, "at least one finite number of dB")
        require_int("seed", self.seed, 0, MAX_SEED)

    @property
    def text(self) -> str:
        """YAML of the parameters as the official synthesizer writes it: sorted keys, whole numbers without a point."""
        import yaml

        values = {
            "ebrs": [int(e) if float(e).is_integer() else float(e) for e in self.ebrs],
            "event_presence_prob": float(self.event_presence_prob),
            "mixtures_per_class": self.mixtures_per_class,
            "seed": self.seed,
        } | ({"hard": True} if self.hard else {})
        return str(yaml.safe_dump(values, default_flow_style=None))

    @property
    def hash(self) -> str:
        """MD5 of :attr:`text`; 20b255387a2d0cddc0a3dff5014875e7 for the official parameters."""
        return hashlib.md5(self.text.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Draw:
    """What goes into one mixture. Without an event ``ebr`` is -inf and ``onset`` 0."""

    label: str
    number: int
    background: BackgroundSource
    event: EventSource | None = None
    onset: float = 0.0  # seconds
    ebr: float = -math.inf  # dB


def load_sources(folders: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], subset: str) -> SourceSet:
    """Source lists with every class that they name, the official three first: the order of drawing.

    ``subset``: "devtrain" or "devtest" ("train", "test"). ValueError as of :meth:`SourceSet.join`.
    """
    roots = [folders] if isinstance(folders, str | os.PathLike) else folders
    names: list[str] = []
    for root in roots:
        names += [name for name in classes_of(root, subset) if name not in names]
    order = [c for c in CLASSES if c in names] + [n for n in names if n not in CLASSES]
    return SourceSet.join(roots, subset, tuple(order) or CLASSES)


def draw(sources: SourceSet, parameters: MixtureParameters, *, replicate_quirk: bool = False) -> dict[str, list[Draw]]:
    """The mixtures of every class of ``sources``, in order. No audio is read.

    ``replicate_quirk``: as in the official sets, an event that was drawn several times for a class starts in
    all these mixtures where its last draw put it. Otherwise every mixture has an onset of its own.
    ValueError for an event longer than a mixture.
    """
    n = parameters.mixtures_per_class
    present_count = round(n * parameters.event_presence_prob)
    rng = np.random.RandomState(parameters.seed)  # the official draws come from this very stream
    drawn = {}
    for label, events in sources.events.items():
        for event in events:
            if event.seconds > MIXTURE_SECONDS:
                raise ValueError(
                    f"{event.path}: event of {event.seconds:.3f} s, allowed: at most {MIXTURE_SECONDS:g} s"
                )
        event_of = rng.choice(len(events), present_count)
        background_of = rng.choice(len(sources.backgrounds), n)
        present = rng.permutation(np.arange(n) < present_count)
        onsets = [(MIXTURE_SECONDS - events[i].seconds) * rng.rand() for i in event_of]
        if replicate_quirk:
            last = dict(zip(event_of.tolist(), onsets, strict=True))
            onsets = [last[i] for i in event_of.tolist()]
        ebrs = rng.choice(np.array(parameters.ebrs, dtype=np.float64), present_count)
        mixtures = [Draw(label, k, sources.backgrounds[b]) for k, b in enumerate(background_of)]
        for k, i, onset, ebr in zip(np.flatnonzero(present), event_of, onsets, ebrs, strict=True):
            mixtures[k] = Draw(label, int(k), mixtures[k].background, events[i], float(onset), float(ebr))
        drawn[label] = mixtures
    return drawn


def recipe_hash(recipe: Recipe) -> str:
    """MD5 of a recipe's YAML text, without the fields that are derived from it; part of the file's name."""
    import yaml

    bare = {k: v for k, v in recipe.items() if k not in ("mixture_audio_filename", "annotation_string")}
    # PyYAML's default of 2017, which put such a mapping between braces
    text: str = yaml.safe_dump(bare, default_flow_style=None)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def read_recipes(path: Path) -> list[Recipe]:
    """A file of recipes. ValueError naming it where it is no list of recipes."""
    import yaml

    try:
        recipes = yaml.load(path.read_text("utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read as recipes ({error})") from None
    needed = {"bg_path", "event_present", "mixture_audio_filename"}
    if not isinstance(recipes, list) or not all(isinstance(r, dict) and needed <= set(r) for r in recipes):
        raise ValueError(f"{path}: allowed: a list of recipes, each with {', '.join(sorted(needed))}")
    return recipes


def recipes_path(folder: Path, subset: str, label: str) -> Path:
    """The recipes of a class in a folder of mixtures."""
    return folder / "meta" / f"mixture_recipes_{subset}_{label}.yaml"


def event_list_path(folder: Path, subset: str, label: str) -> Path:
    """The event list of a class in a folder of mixtures."""
    return folder / "meta" / f"event_list_{subset}_{label}.csv"
