"""Frame probabilities as the score files of sed_scores_eval: tab separated, ``onset``, ``offset``, a column a class.

One file a recording, a row a frame without gaps, so that thresholds can be swept (PSDS, curves) without this package.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..files import write_beside
from .result import Result

_ROWS = 1 << 12  # made at a time
_IN_A_COLUMN = str.maketrans("\t\r\n\\", "    ")  # sed_scores_eval takes no backslash, a tab would be two columns


def write_scores(result: Result, path: str | os.PathLike[str]) -> None:
    """Write all frames of a recording: complete or not at all. The numbers are float32, to be read back as they are.

    The last frame is as long as all others, and so may end up to a hop behind the recording: sed_scores_eval takes no
    frame without length. Raises OSError.
    """
    with write_beside(path) as file:
        file.writelines(_lines(result))


def _lines(result: Result) -> Iterator[str]:
    names = (name.translate(_IN_A_COLUMN) for name in result.config.class_names)
    yield "\t".join(["onset", "offset", *names]) + "\n"
    hop, rate = result.config.features.hop, result.config.features.sample_rate
    for first in range(0, len(result.probabilities), _ROWS):
        for frame, row in enumerate(result.probabilities[first : first + _ROWS].tolist(), first):
            times = f"{frame * hop / rate:.6f}\t{(frame + 1) * hop / rate:.6f}"
            yield times + "".join(f"\t{p:.9g}" for p in row) + "\n"
