"""What a person sees of a training run: a bar in a terminal, one line an epoch everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Report = Callable[[dict[str, Any]], None]


@contextmanager
def shown(console: Console | None = None) -> Iterator[Report]:
    """A ``report`` for :func:`mtfa_fast.training.train` that writes to ``console``, by default standard error."""
    console = console or Console(stderr=True)
    columns = (
        TextColumn("step"),
        MofNCompleteColumn(),
        BarColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("training", total=None, loss=float("nan"))
        smooth: float | None = None

        def report(facts: dict[str, Any]) -> None:
            nonlocal smooth
            if "paused" in facts:
                console.print(f"paused at step {facts['paused']} of {facts['total']}: the same command goes on")
                return
            if "epoch" in facts:
                mark = " *" if facts["epoch"] == facts["best_epoch"] else ""
                console.print(
                    f"epoch {facts['epoch']:4d}  training loss {facts['training_loss']:.4f}  "
                    f"validation loss {facts['validation_loss']:.4f}{mark}  {facts['seconds']:.0f} s",
                    highlight=False,
                )
                return
            smooth = facts["loss"] if smooth is None else 0.95 * smooth + 0.05 * facts["loss"]
            bar.update(task, total=facts["total"], completed=facts["step"], loss=smooth)

        yield report
