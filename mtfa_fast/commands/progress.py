"""Progress bars on stderr, where that is a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextmanager
def bar(*, rows_on_stdout: bool = False) -> Iterator[Callable[[float, float], None]]:
    """Yields ``show(done, total)``; the bar disappears at the end. Silent where stderr is no terminal.

    ``rows_on_stdout``: rows printed to stdout meanwhile appear above the bar if both are one terminal; a
    piped stdout stays untouched.
    """
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.percentage:3.0f} %"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    redirect = rows_on_stdout and sys.stdout.isatty()
    with Progress(
        *columns, console=console, transient=True, redirect_stdout=redirect, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
