"""Every recording that a long run will need is opened before it starts, not in the middle of the night."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..audio import files as audio

_NAMED = 3


def require_recordings(paths: Iterable[Path]) -> None:
    """ValueError naming those that cannot be opened, each once. Headers alone are read."""
    broken = []
    for path in dict.fromkeys(paths):
        try:
            audio.stated_rate(path)
        except (OSError, ValueError) as error:
            broken.append(str(error) if str(path) in str(error) else f"{path}: {error}")
    if broken:
        more = f"; and {len(broken) - _NAMED} more" if len(broken) > _NAMED else ""
        raise ValueError(f"recordings that cannot be read: {'; '.join(broken[:_NAMED])}{more}")
