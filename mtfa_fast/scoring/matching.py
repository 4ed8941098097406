"""One-to-one matching of reference events and detections: as many pairs as possible."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def maximum_matching(edges: NDArray[np.bool_]) -> dict[int, int]:
    """Largest one-to-one matching of rows and columns of ``edges`` (R, E), by Hopcroft and Karp: row -> column.

    Several matchings can be largest, and the number of substitutions depends on the choice. Rows and columns
    are therefore visited in the order that sed_eval uses, which makes the choice the same.
    """
    rows_of: dict[int, list[int]] = {}  # columns in the order of their first row
    for row, column in np.argwhere(edges).tolist():
        rows_of.setdefault(column, []).append(row)
    match: dict[int, int] = {}
    for column, rows in rows_of.items():
        free = next((row for row in rows if row not in match), None)
        if free is not None:
            match[free] = column
    while True:
        taken = set(match.values())
        origin: dict[int, int | None] = {column: None for column in rows_of if column not in taken}
        layer, reached = list(origin), {}  # reached: row -> columns that lead to it
        ends: list[int] = []  # free rows at the end of a shortest augmenting path
        while layer and not ends:
            found: dict[int, list[int]] = {}
            for column in layer:
                for row in rows_of[column]:
                    if row not in reached:
                        found.setdefault(row, []).append(column)
            reached.update(found)
            ends = [row for row in found if row not in match]
            layer = [match[row] for row in found if row in match]
            origin.update((match[row], row) for row in found if row in match)
        if not ends:
            return match
        for row in ends:
            _augment(row, match, reached, origin)


def _augment(end: int, match: dict[int, int], reached: dict[int, list[int]], origin: dict[int, int | None]) -> None:
    """Walk back from the free row ``end`` to a free column and flip the path; without recursion, for long chains."""
    path: list[tuple[int, int]] = []
    pending = [(end, iter(reached.pop(end, [])))]
    while pending:
        row, columns = pending[-1]
        column = next((c for c in columns if c in origin), None)
        if column is None:
            pending.pop()
            if path:
                path.pop()
            continue
        path.append((row, column))
        before = origin.pop(column)
        if before is None:
            match.update(path)
            return
        pending.append((before, iter(reached.pop(before, []))))
