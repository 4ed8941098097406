"""``mtfa-fast bulk``: an archive of any size to a dataset of events, on this machine or on a Ray cluster."""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, redirect_stdout
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from .common import UsageError, clock, count, say, usage_errors
from .detect import parse_thresholds
from .discover import described
from .options import ChannelOption, PrecisionOption, ThresholdOption, WeightsOption

if TYPE_CHECKING:
    from ..bulk import Report, Summary

ERRORS_SAID = 20  # of recordings that could not be read; all stand in DEST/files


def bulk(
    source: Annotated[str, Parameter(help="Folder of recordings, searched with all below it: a path or a URI.")],
    dest: Annotated[str, Parameter(help="Folder for the datasets, a path or a URI: events/ and files/, as Parquet.")],
    /,
    *,
    address: Annotated[
        str | None, Parameter(help="Of a Ray cluster: auto, or HOST:PORT. Default: Ray within this process.")
    ] = None,
    workers: Annotated[int | None, Parameter(help="Processes that listen; default: as many as fit.")] = None,
    cpus: Annotated[int | None, Parameter(help="Of a worker, and as many threads; default: 1, with a GPU 4.")] = None,
    device: Annotated[Literal["cpu", "cuda"], Parameter(help="Of a worker; cuda: one GPU each (torch).")] = "cpu",
    weights: WeightsOption = "rare-events",
    threshold: ThresholdOption = None,
    channel: ChannelOption = "mean",
    precision: PrecisionOption = "auto",
    memory: Annotated[
        float | None,
        Parameter(
            help="GB of a recording's frames (100 kB a second) that a worker keeps in memory; those of a longer one go "
            "to a temporary file. Default: 0.25."
        ),
    ] = None,
    partition: Annotated[
        int | None, Parameter(help="Recordings kept at a time, which is what a killed worker loses; default: 1000.")
    ] = None,
) -> int:
    """Find the events of an archive: one Parquet dataset of them, one of the recordings heard.

    The same command goes on with what an interrupted one did not finish, and hears what is new, what changed and what
    could not be read before. Exit code 0: all recordings were read; 1: some were not, or a worker failed; 2: nothing
    was done, because the command itself is wrong or no Ray answers.
    """
    from ..bulk import detect
    from ..weights import Weights

    with usage_errors():
        levels = parse_thresholds(threshold or [], Weights.load(weights).config)
    told = _Told()
    options: dict[str, Any] = {} if partition is None else {"partition_files": partition}
    start = time.perf_counter()
    # stdout is for results, and Ray speaks there.
    with ExitStack() as stack, redirect_stdout(sys.stderr):
        try:
            summary = detect(
                source,
                dest,
                weights=weights,
                address=address,
                workers=workers,
                cpus=cpus,
                device=device,
                precision=precision,
                channel=channel,
                threshold=levels,
                memory=memory,
                begun=lambda summary, pool: told.begin(summary, pool, stack),
                heard=told.add,
                **options,
            )
        except (ValueError, FileNotFoundError, ImportError, ConnectionError) as error:
            raise UsageError(str(error)) from error
        except RuntimeError as error:
            say(f"error: {error}")
            return _ended(1)
        except KeyboardInterrupt:
            _ended(1)
            raise
    for problem in summary.problems:
        say(f"error: {problem}")
    if not told.begun:
        say(_found(summary))
    done = f"{count(summary.files, 'recording')} ({clock(summary.seconds)}), {count(summary.events, 'event')}"
    failed = f"; {summary.failed} failed, see error in {dest}/files" if summary.failed else ""
    say(f"{done}, in {clock(time.perf_counter() - start)}{failed}")
    return 1 if summary.failed or summary.problems else 0


class _Told:
    """What is said while it goes on."""

    begun = False

    def __init__(self) -> None:
        self._errors = 0
        self._show: Any = None

    def begin(self, summary: Summary, workers: int, stack: ExitStack) -> None:
        from .progress import bar

        self.begun = True
        say(f"{_found(summary)}; {count(workers, 'worker')}")
        self._show = stack.enter_context(bar())

    def add(self, report: Report, done: int, total: int) -> None:
        if report.careful:
            say(f"partition {report.partition}: a worker died at it or was stopped, it was done again")
        for error in report.errors:
            self._errors += 1
            if self._errors <= ERRORS_SAID:
                say(f"error: {error}")
        if self._errors > ERRORS_SAID >= self._errors - len(report.errors):
            say("further errors stand in the dataset of files")
        self._show(done, total)


def _found(summary: Summary) -> str:
    text = f"found {described(summary.listed, summary.skipped)}"
    return f"{text}; finished before: {summary.before}" if summary.before else text


def _ended(code: int) -> int:
    say("what is finished is kept; the same command goes on")
    return code
