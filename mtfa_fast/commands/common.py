"""What the commands share: errors that end a run, and how things are told to a person."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


class UsageError(Exception):
    """The command cannot start as it was written: exit code 2, nothing done."""


@contextmanager
def usage_errors() -> Iterator[None]:
    """What the library refuses by name is the command's mistake."""
    try:
        yield
    except (ValueError, FileNotFoundError, ImportError) as error:
        raise UsageError(str(error)) from error


def say(message: str) -> None:
    """One line for the person at the terminal; stdout is for results."""
    print(message, file=sys.stderr, flush=True)


def show_table(table: object) -> None:
    """A rich table on stdout; in a file or pipe it is as wide as it needs to be."""
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 200).print(table)


def count(number: int, one: str, many: str = "") -> str:
    """``"1 recording"``, ``"2 recordings"``."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def clock(seconds: float) -> str:
    """``"3.2 s"``, ``"12.5 min"``, ``"3.0 h"``."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6_000 else f"{seconds / 3_600:.1f} h"
