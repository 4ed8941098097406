"""What every entry asks of its arguments, refused in one form: the argument, what was given, what is allowed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def require(condition: bool, name: str, given: object, allowed: str) -> None:
    """ValueError unless ``condition``: ``threshold: got 1.2, allowed: 0 <= threshold <= 1``."""
    if not condition:
        raise ValueError(f"{name}: got {given!r}, allowed: {allowed}")


def require_int(name: str, given: object, low: int, high: int | None = None) -> None:
    """ValueError unless ``given`` is an integer from ``low`` (to ``high``); True and False are none."""
    good = isinstance(given, int) and not isinstance(given, bool)
    good = good and given >= low and (high is None or given <= high)  # type: ignore[operator]
    require(good, name, given, f"an integer >= {low}" if high is None else f"an integer, {low} to {high}")


def chosen(name: str, wanted: Iterable[str] | None, allowed: Sequence[str]) -> list[str]:
    """``wanted`` without repetitions, by default all of ``allowed``; ValueError where there are others, or none."""
    found = list(allowed if wanted is None else dict.fromkeys(wanted))
    unknown = [one for one in found if one not in allowed]
    if unknown or not found:
        raise ValueError(f"{name}: got {', '.join(unknown) or 'none'}, allowed: {', '.join(allowed) or 'none'}")
    return found
