"""Folders of finished DCASE 2017 Task 2 mixtures: found, checked, and read with their annotations.

Three shapes hold a set as a folder with ``audio/`` and ``meta/``:

======================================================== ========================================================
``[data/]mixture_data/<subset>/<hash>/``                 the stand-alone sets, the evaluation set, our own
``generated_data/mixtures_<subset>_<hash>/``             the baseline system's
any folder with ``audio/`` and ``meta/event_list_*.csv`` a set that was moved elsewhere
======================================================== ========================================================
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ..files import is_hidden
from .annotations import Annotation, by_name, read_annotations
from .mixing import CLASSES
from .recipes import Recipe, event_list_path, read_recipes, recipes_path
from .sources import read_screening

_DATA_SETS = ("TUT-rare-sound-events-2017-development", "TUT-rare-sound-events-2017-evaluation")
_PLACES = ("", "data", *_DATA_SETS, *(f"{name}/data" for name in _DATA_SETS))
_EVENT_LIST = re.compile(r"event_list_([^_]+)_(.+)\.csv")


@dataclass(frozen=True)
class Mixture:
    """One recording of a set. It belongs to class ``label`` even where it holds no event.

    ``ebr``: event-to-background ratio in dB; None without an event or a recipe.
    """

    path: Path
    label: str
    events: tuple[Annotation, ...] = ()
    ebr: float | None = None


@dataclass(frozen=True)
class MixtureSet:
    """A folder of mixtures. ``screening``: the bg_screening.csv that goes with it, if any."""

    folder: Path
    subset: str
    screening: Path | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Classes with an event list, the official three first."""
        found = {m[2] for p in (self.folder / "meta").glob("event_list_*.csv") if (m := _EVENT_LIST.fullmatch(p.name))}
        return tuple(c for c in CLASSES if c in found) + tuple(sorted(found - set(CLASSES)))

    def mixtures(self, classes: Iterable[str] | None = None) -> list[Mixture]:
        """Mixtures of ``classes`` (default: all) in the order of the event lists.

        Where a screening is known, mixtures over a background that itself holds their class are left out, as the
        official patch does. ValueError naming what is missing: a class, an event list, or audio that it lists.
        """
        wanted = self.classes if classes is None else tuple(dict.fromkeys(classes))
        unknown = [c for c in wanted if c not in self.classes]
        if unknown or not wanted:
            raise ValueError(
                f"{self.folder}: no event list of {', '.join(unknown) or 'any class'}, "
                f"there are {', '.join(self.classes) or 'none'}"
            )
        found = [mixture for label in wanted for mixture in self._of_class(label)]
        missing = [m.path for m in found if not m.path.is_file()]
        if missing:
            raise ValueError(f"{self.folder}: {_examples(missing, len(found))} listed but not in audio/")
        return found

    def _of_class(self, label: str) -> list[Mixture]:
        path = self._list_path(label)
        lists = by_name(read_annotations(path))
        recipes = self._recipes(label)
        marks = read_screening(self.screening) if self.screening else {}
        found = []
        for name, events in lists.items():
            recipe = recipes.get(name, {})
            if label in marks.get(str(recipe.get("bg_path", "")).removeprefix("audio/"), ()):
                continue
            wrong = [e.label for e in events if e.label != label]
            if wrong:
                raise ValueError(f"{path}: {name}: got an event of {wrong[0]!r}, allowed: {label}")
            spans = tuple(Annotation(e.label, e.onset, e.offset) for e in events)
            ebr = recipe.get("ebr") if spans else None
            found.append(Mixture(self.folder / "audio" / name, label, spans, None if ebr is None else float(ebr)))
        return found

    def _list_path(self, label: str) -> Path:
        return event_list_path(self.folder, self.subset, label)

    def _recipes(self, label: str) -> dict[str, Recipe]:
        """Recipes by the mixture's file name; none where the set came without them."""
        path = recipes_path(self.folder, self.subset, label)
        recipes = read_recipes(path) if path.is_file() else []
        return {Path(str(r["mixture_audio_filename"])).name: r for r in recipes}


def find_mixture_sets(root: str | os.PathLike[str]) -> list[MixtureSet]:
    """Every set at ``root``: one set's folder, a data set's folder, the folder above it, or synthesize's output.

    ValueError saying what was looked for where there is none; FileNotFoundError for no folder.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    if own := _set_at(root):
        return [own]
    candidates = [
        folder
        for place in _PLACES
        for pattern in ("mixture_data/*/*", "generated_data/mixtures_*")
        for folder in sorted((root / place).glob(pattern))
        if folder.is_dir() and not is_hidden(folder.relative_to(root / place))
    ]
    sets = [found for folder in candidates if (found := _set_at(folder))]
    if not sets:
        hint = ""
        if any((root / place / "source_data").is_dir() for place in _PLACES):
            hint = "; it holds source data, of which mtfa-fast synthesize makes mixtures"
        if candidates:
            hint = f"; {candidates[0]} has no event lists: its synthesis or extraction was not finished"
        raise ValueError(
            f"{root}: no set of mixtures, allowed: a folder with audio/ and meta/event_list_*.csv, or one that holds "
            f"such folders as mixture_data/<subset>/<hash> or generated_data/mixtures_<subset>_<hash>{hint}"
        )
    return sets


def open_mixture_set(root: str | os.PathLike[str], subset: str | None = None) -> MixtureSet:
    """The one set at ``root``, or the one of ``subset`` ("devtrain", "devtest", "evaltest"). ValueError if several."""
    sets = find_mixture_sets(root)
    chosen = [s for s in sets if subset in (None, s.subset)]
    if not chosen:
        raise ValueError(f"{root}: no {subset} mixtures, there are {', '.join(sorted({s.subset for s in sets}))}")
    if len(chosen) > 1:
        raise ValueError(
            f"{root}: several sets, allowed: one of the folders {', '.join(str(s.folder) for s in chosen)}"
        )
    return chosen[0]


def _set_at(folder: Path) -> MixtureSet | None:
    lists = [m for p in sorted((folder / "meta").glob("event_list_*.csv")) if (m := _EVENT_LIST.fullmatch(p.name))]
    if not lists:
        return None
    # stand-alone: the data folder is three levels up; baseline: the data set's folder is two levels up
    above = list(folder.absolute().parents)[:3]
    places = [base / place for base in above for place in ("source_data/bgs", "data/source_data/bgs")]
    screening = next((p for place in places if (p := place / "bg_screening.csv").is_file()), None)
    return MixtureSet(folder, lists[0][1], screening)


def _examples(paths: list[Path], total: int) -> str:
    return f"{len(paths)} of {total} mixtures (first {paths[0].name})"
