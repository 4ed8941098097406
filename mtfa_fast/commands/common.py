"""What the commands share: errors that end a run, and how things are told to a person."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


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


class Patience:
    """Says what goes on where that takes long: after 2 s, and when it took twice as long. Call it with what is done."""

    def __init__(self, what: str) -> None:
        self._what, self._start, self._after = what, time.monotonic(), 2.0

    def __call__(self, done: int) -> None:
        taken = time.monotonic() - self._start
        if taken >= self._after:
            say(f"{self._what}: {done} so far")
            self._after = 2 * taken


@contextmanager
def audio_warnings() -> Iterator[None]:
    """What is wrong with recordings that are used all the same, each as one line, once."""
    from ..audio.errors import AudioWarning

    said = set[str]()
    with warnings.catch_warnings():
        warnings.simplefilter("always", AudioWarning)
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *rest: Any, **named: Any) -> None:
            if not issubclass(category, AudioWarning):
                usual(message, category, *rest, **named)
            elif str(message) not in said:
                said.add(str(message))
                say(f"warning: {message}")

        warnings.showwarning = show
        yield


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
