"""What the comparisons on kept probabilities share: which fold a recording is of, and their command."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mtfa_fast.data.probabilities import ProbabilitySet, Recording
from mtfa_fast.files import write_json

FOLDS = 4  # of recordings whose names say none


def folds(recordings: Sequence[Recording]) -> NDArray[np.int64]:
    """By the names that ``pool`` gives; recordings of one network, which has heard none of them, are dealt out."""
    names = [re.match(r"fold(\d+)/", r.name) for r in recordings]
    known = {found[1] for found in names if found}
    return np.array([int(found[1]) if found and len(known) > 1 else i % FOLDS for i, found in enumerate(names)])


def command(
    doc: str | None,
    compare: Callable[[ProbabilitySet], dict[str, Any]],
    table: Callable[[dict[str, Any]], Iterable[str]],
    arguments: list[str] | None = None,
) -> int:
    """``KEPT [--output FILE]``: compares, prints the table, writes what was found."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kept", help="file of mtfa-fast pool or evaluate --keep")
    parser.add_argument("--output", help="JSON file")
    options = parser.parse_args(arguments)
    found = compare(ProbabilitySet.load(options.kept))
    print("\n".join(table(found)))
    if options.output:
        write_json(options.output, found)
    return 0
