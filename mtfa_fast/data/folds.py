"""Folds by place: every recording is held out once, with whatever shares its place, its maker or its recording.

What counts is the metadata.csv beside the sources (its columns ``group`` and ``source_id``), never the file: two
recordings that share a value of either are in one fold, in events, backgrounds and distractors alike. The folds
depend on the material alone, not on a seed, so that runs of all seeds hold out the same.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from ..arguments import require, require_int
from .distractors import Distractors
from .sources import EventSource, Origin, SourceSet


@dataclass(frozen=True)
class Fold:
    """What one fold trains on, and what it holds out. Distractors are None where it has none."""

    kept: SourceSet
    held: SourceSet
    kept_others: Distractors | None = None
    held_others: Distractors | None = None


@dataclass(frozen=True)
class _Item:
    what: str  # that is to be spread over the folds: a class, the backgrounds, a kind of distractors
    name: str  # for messages
    origin: Origin


def fold(sources: SourceSet, others: Distractors | None, count: int, number: int) -> Fold:
    """Fold ``number`` (1 to ``count``) of the material.

    Each class, the backgrounds and each kind of distractors are spread as evenly as their groups allow. ValueError
    for a file whose group is not known, and for a class or backgrounds of fewer groups than folds.
    """
    require_int("folds", count, 2)
    require_int("fold", number, 1)
    require(number <= count, "fold", number, f"1 to {count}, the number of folds")
    items = [
        *(_Item(f"events of {e.label}", str(e.path), Origin(e.group, e.recording)) for e in _events(sources)),
        *(_Item("backgrounds", str(b.path), Origin(b.group, b.recording)) for b in sources.backgrounds),
    ]
    must = {item.what for item in items}
    for kind, paths in enumerate(others.kinds if others else ()):
        assert others
        items += [_Item(f"distractors {kind}", str(p), others.origins.get(p, Origin(str(p)))) for p in paths]
    for item in items:
        if not item.origin.recording:
            raise ValueError(
                f"folds: {item.name}: its source is not known, allowed: files that a metadata.csv with a column group "
                "or source_id names"
            )
    place = _spread(items, count, must)
    held = [p == number for p in place]
    n, m = len(_events(sources)), len(sources.backgrounds)
    rest, out = (_only(sources, [h == want for h in held[: n + m]]) for want in (False, True))
    if not others:
        return Fold(rest, out)
    chosen = {p for p, h in zip((p for kind in others.kinds for p in kind), held[n + m :], strict=True) if h}
    return Fold(rest, out, others.only(lambda p: p not in chosen), others.only(lambda p: p in chosen))


def _events(sources: SourceSet) -> list[EventSource]:
    return [e for events in sources.events.values() for e in events]


def _only(sources: SourceSet, flags: Sequence[bool]) -> SourceSet:
    """Events and backgrounds whose flag is set; the flags are in the order of the classes, the backgrounds last."""
    left = iter(flags)
    events = {label: tuple(e for e in own if next(left)) for label, own in sources.events.items()}
    return dataclasses.replace(sources, events=events, backgrounds=tuple(b for b in sources.backgrounds if next(left)))


def _spread(items: Sequence[_Item], count: int, must: set[str]) -> list[int]:
    """The fold of each item. The largest groups are placed first, each where least of its kind lies."""
    members = _components(items)
    total = Counter(item.what for item in items)
    shares = [{what: n / total[what] for what, n in Counter(items[i].what for i in group).items()} for group in members]
    names = [min(items[i].origin.group for i in group) for group in members]
    # Not by the file's name: a pack has others, and the same folds.
    order = sorted(range(len(members)), key=lambda g: (-sum(shares[g].values()), names[g]))
    load = [defaultdict[str, float](float) for _ in range(count)]
    place = [0] * len(items)
    for g in order:
        best = min(
            range(count), key=lambda f: (sum(load[f][w] * s for w, s in shares[g].items()), sum(load[f].values()))
        )
        for what, share in shares[g].items():
            load[best][what] += share
        for i in members[g]:
            place[i] = best + 1
    for what in sorted(must):
        if any(not part[what] for part in load):
            groups = sum(what in share for share in shares)
            raise ValueError(
                f"folds: {what} come from {groups} place{'s' * (groups != 1)} or makers that share nothing, allowed: "
                f"at least {count} for {count} folds, apart from those that other classes or the backgrounds hold"
            )
    return place


def _components(items: Sequence[_Item]) -> list[list[int]]:
    """Indices of the items that hang together by a shared group or recording, in order of their first."""
    parent = list(range(len(items)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = i = parent[parent[i]]
        return i

    first: dict[str, int] = {}
    for i, item in enumerate(items):
        for key in item.origin:
            parent[root(i)] = root(first.setdefault(key, i))
    found = defaultdict[int, list[int]](list)
    for i in range(len(items)):
        found[root(i)].append(i)
    return list(found.values())
