"""``mtfa-fast detect``: recordings in, a table of events out."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from .common import UsageError, clock, count, say
from .discover import Recording, discover
from .options import (
    ChannelOption,
    DeviceOption,
    MemoryOption,
    PrecisionOption,
    StartOption,
    ThreadsOption,
    ThresholdOption,
    WeightsOption,
)
from .outputs import OverwriteOption

if TYPE_CHECKING:
    from ..config import Config
    from ..detector import Detector
    from .sink import Sink

LONG_SECONDS = 120.0  # of audio; below, no progress bar is worth its flicker
MANY = 1000  # recordings, whose number is progress enough: their headers would be read for minutes first


def detect(
    files: Annotated[
        list[str],
        Parameter(
            help="Recordings, folders or quoted patterns such as 'day*/*.wav'; -: standard input.",
            allow_leading_hyphen=True,
        ),
    ],
    /,
    *,
    weights: WeightsOption = "rare-events",
    format: Annotated[
        Literal["table", "tsv", "csv", "json", "audacity", "raven", "parquet"] | None,
        Parameter(help="Default: by the suffix of --output; csv for a folder; a table on the terminal."),
    ] = None,
    output: Annotated[
        str | None,
        Parameter(
            alias="-o",
            help="A file for all recordings, or a folder (one that exists, or ends in a slash) for a file each.",
        ),
    ] = None,
    scores: Annotated[
        str | None,
        Parameter(help="Folder for every frame's probabilities, a TSV of sed_scores_eval for each recording."),
    ] = None,
    resume: Annotated[
        bool, Parameter(help="Go on with an interrupted run of the same command; ends with the same bytes.")
    ] = False,
    overwrite: OverwriteOption = False,
    start: StartOption = None,
    threshold: ThresholdOption = None,
    channel: ChannelOption = "mean",
    recursive: Annotated[bool, Parameter(alias="-r", help="Search the folders below a folder, too.")] = False,
    jobs: Annotated[
        int | None, Parameter(alias="-j", help="Recordings worked on at a time; default: 2, with a GPU one a core.")
    ] = None,
    threads: ThreadsOption = None,
    memory: MemoryOption = None,
    precision: PrecisionOption = "auto",
    device: DeviceOption = "cpu",
) -> int:
    """Find sound events in recordings and print them as a table.

    A recording that cannot be read is reported and the others go on. What stops a run leaves what is finished in
    OUTPUT.partial.SUFFIX, or in the folder, for --resume. Exit code 0: all recordings were read;
    1: some were not; 2: nothing was done, because the command itself is wrong.
    """
    from ..detector import Detector
    from ..events.result import decide
    from ..files import file_digest
    from ..weights import find
    from .sink import Sink

    if jobs is not None and jobs < 1:
        raise UsageError(f"--jobs: got {jobs}, allowed: an integer >= 1")
    for file in files:
        if file.startswith("-") and file != "-":
            raise UsageError(f"Unknown option: {file} (a file of that name: ./{file})")
    found = discover(files, recursive=recursive)
    for problem in found.problems:
        say(f"error: {problem}")
    if len(files) > 1 or len(found.recordings) != 1 or found.skipped:
        say(f"found {found.describe()}")
    try:
        path = find(weights)
        times = parse_start(start, len(found.recordings))
        sink = Sink(
            found.recordings,
            output,
            format,
            inputs=[str(path)],
            overwrite=overwrite,
            resume=resume,
            times=None if times is None else bool(times),
            scores=scores,
        )
        detector = Detector.from_pretrained(
            path, device=device, precision=precision, threads=threads, channel=channel, memory=memory
        )
        levels = parse_thresholds(threshold or [], detector.config)
        settings: dict[str, Any] = {"weights": file_digest(path), "engine": _arithmetic(detector), "format": format}
        settings["channel"] = channel
        settings |= {name: given for name, given in (("start", start), ("scores", scores)) if given}
        settings |= {"decisions": [c.to_dict() for c in decide(detector.config, threshold=levels).classes]}
    except (ValueError, OSError, ImportError) as error:
        raise UsageError(str(error)) from error
    failed = len(found.problems)
    if found.recordings:
        failed += run(detector, sink.begin(settings), sink, levels, jobs, times)
    return 1 if failed else 0


def parse_thresholds(texts: list[str], config: Config) -> dict[str, float]:
    """``["0.3", "gunshot=0.5"]`` -> threshold per class; what names a class wins. ValueError naming the text."""
    general: dict[str, float] = {}
    named: dict[str, float] = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            raise ValueError(f"threshold: got {text!r}, allowed: a number or CLASS=number") from None
        if equals:
            named[name] = value
        else:
            general = dict.fromkeys(config.class_names, value)
    return general | named


def parse_start(text: str | None, recordings: int) -> datetime | Literal[False] | None:
    """``--start``: a time, False for ``none``, None where it is not given. ValueError for several recordings."""
    if text is None or text == "none":
        return None if text is None else False
    if recordings > 1:
        raise ValueError(
            f"--start: got one for {recordings} recordings, allowed: with one; of several, their names or bext chunks "
            "say when each began"
        )
    from ..audio.clock import parse

    return parse(text)


def run(
    detector: Detector,
    recordings: list[Recording],
    sink: Sink,
    levels: dict[str, float],
    jobs: int | None,
    clock_start: datetime | Literal[False] | None = None,
) -> int:
    """Detect and write, report what fails; how many recordings failed."""
    by_path = {recording.path: recording for recording in recordings}
    failed = events = 0
    seconds, start = 0.0, time.perf_counter()
    with _progress(recordings) as bar, sink:
        for path, answer in detector.detect_files(by_path, jobs=jobs, progress=lambda _, done: bar.heard(done)):
            bar.finished()
            if isinstance(answer, Exception):
                failed += 1
                say(f"error: {describe(str(path), answer)}")
                continue
            result = answer.with_(threshold=levels)
            if clock_start is not None:
                result = replace(result, start=clock_start or None)
            try:
                sink.add(by_path[str(path)], result)
            except OSError as error:
                if not sink.goes_on:
                    raise
                failed += 1  # a name that is too long, a full disk: the others are still wanted
                say(f"error: {describe(str(path), error)} (output)")
                continue
            events += len(result)
            seconds += result.duration
    taken = time.perf_counter() - start
    read = count(len(recordings) - failed, "recording")
    done = f"{read} ({clock(seconds)}), {count(events, 'event')}, in {clock(taken)}"
    say(f"{done}; {failed} failed" if failed else done)
    return failed


def _arithmetic(detector: Detector) -> dict[str, object]:
    """What of an engine its results depend on to the last bit, which the number of threads is not."""
    return {name: value for name, value in detector.explain().items() if name not in ("threads", "reasons")}


def describe(path: str, error: Exception) -> str:
    """An error in one line that names the file."""
    if isinstance(error, OSError) and error.strerror:
        return f"{path}: {error.strerror}"
    text = str(error) or type(error).__name__
    return text if path in text else f"{path}: {text}"


class _Bar:
    """How far a run is: by seconds of sound, of many recordings by their number."""

    def __init__(self, show: Callable[[float, float], None], seconds: float, recordings: int) -> None:
        self._show, self._by_number = show, not seconds
        self._done, self._total = 0.0, seconds or recordings
        self._lock = threading.Lock()

    def heard(self, seconds: float) -> None:  # called by several workers
        self._advance(0.0 if self._by_number else seconds)

    def finished(self) -> None:
        self._advance(float(self._by_number))

    def _advance(self, step: float) -> None:
        with self._lock:
            self._done += step
            self._show(self._done, self._total)


@contextmanager
def _progress(recordings: list[Recording]) -> Iterator[_Bar]:
    """A bar with a time estimate on stderr, where that is a terminal and there is much to do."""
    seconds = _stated_seconds(recordings) if sys.stderr.isatty() and len(recordings) < MANY else 0.0
    if not sys.stderr.isatty() or (len(recordings) < MANY and seconds < LONG_SECONDS):
        yield _Bar(lambda done, total: None, 0.0, 1)
        return
    from .progress import bar

    with bar(rows_on_stdout=True) as show:
        yield _Bar(show, seconds, len(recordings))


def _stated_seconds(recordings: list[Recording]) -> float:
    from ..audio.files import stated_duration

    total = 0.0
    for recording in recordings:
        if not os.path.isfile(recording.path):  # a pipe can be read once
            continue
        try:
            total += stated_duration(recording.path)
        except (OSError, ValueError):  # reported when it is that recording's turn
            continue
    return total
