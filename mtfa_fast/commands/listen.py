"""``mtfa-fast listen``: a pipe or a microphone in, a line for each event as soon as it is over."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from .common import UsageError, clock, count, say, usage_errors
from .detect import parse_start, parse_thresholds
from .lines import LineFormat, Lines
from .options import PrecisionOption, StartOption, ThreadsOption, ThresholdOption, WeightsOption
from .queued import Queued

if TYPE_CHECKING:
    from ..audio.incoming import Incoming
    from ..events.result import Event
    from ..live import LiveStream
    from .clips import Clips


def listen(
    source: Annotated[
        str,
        Parameter(
            help="- for standard input, a named pipe, or a recording. Without --encoding it holds a WAV.",
            allow_leading_hyphen=True,
        ),
    ] = "-",
    /,
    *,
    weights: WeightsOption = "rare-events",
    encoding: Annotated[
        str | None, Parameter(help="Bare samples without a header: s16le, s24le, s32le or f32le, with --rate.")
    ] = None,
    rate: Annotated[int | None, Parameter(help="Of bare samples or of the microphone, in Hz.")] = None,
    channels: Annotated[int | None, Parameter(help="Of bare samples or of the microphone; default: 1.")] = None,
    device: Annotated[
        str | None, Parameter(help="Listen to a microphone: part of its name, its number, or 'default'.")
    ] = None,
    format: Annotated[LineFormat, Parameter(help="Of the lines.")] = "json",
    clips: Annotated[
        str | None, Parameter(help="Folder for each event's sound, with a second before and after, as FLAC.")
    ] = None,
    start: StartOption = None,
    threshold: ThresholdOption = None,
    chunk: Annotated[int | None, Parameter(help="Frames answered at a time, a multiple of 8.")] = None,
    look_ahead: Annotated[
        int | None, Parameter(help="Frames of future behind each chunk, a multiple of 8: more is better, and later.")
    ] = None,
    threads: ThreadsOption = None,
    precision: PrecisionOption = "auto",
    on: Annotated[str, Parameter(help="What computes: cpu (C++ engine), or cuda, cuda:1, ... (torch).")] = "cpu",
) -> int:
    """Find sound events while they happen, one line each.

    Ends at the end of the sound, on an interrupt (Ctrl-C) or SIGTERM, with the events that were going on. Exit code 0;
    1: the source or a clip failed on the way; 2: nothing was done, because the command itself is wrong.
    """
    from ..detector import Detector
    from ..live import CHUNK, LOOK_AHEAD

    with ExitStack() as stack:
        with usage_errors():
            detector = Detector.from_pretrained(weights, device=on, precision=precision, threads=threads)
            levels = parse_thresholds(threshold or [], detector.config)
            target = detector.config.features.sample_rate
            incoming = stack.enter_context(_source(source, device, target, encoding, rate, channels))
            session = Session(incoming, Lines(format), _start(start, source, device))
            session.stream = stack.enter_context(
                detector.live(
                    sample_rate=incoming.rate,
                    channels=incoming.channels,
                    threshold=levels,
                    chunk=CHUNK if chunk is None else chunk,
                    look_ahead=LOOK_AHEAD if look_ahead is None else look_ahead,
                    on_begin=session.begin,
                    on_gap=lambda at: say(f"NaN or infinite samples from {at:.3f} s on: read as silence"),
                )
            )
            if clips is not None:
                from .clips import Clips

                session.clips = Clips(clips, incoming.rate, incoming.channels, session.stream.delay)
                stack.callback(session.clips.close)
        what = f"{incoming.rate} Hz, {count(incoming.channels, 'channel')}"
        say(f"listening: {what}; an event is told {session.stream.delay:.2f} s after its end at the latest")
        return session.run()


class Session:
    """From blocks to lines, until the sound ends or somebody stops it."""

    stream: LiveStream
    clips: Clips | None = None

    def __init__(self, incoming: Incoming, lines: Lines, start: datetime | None) -> None:
        self._queued, self._lines = Queued(incoming, start), lines
        self._events = self._failed_clips = 0

    def run(self) -> int:
        error: Exception | None = None
        self._lines.head()
        with _stopped_by_signals(self._queued.stop):
            try:
                for block in self._queued:
                    if self.clips:
                        self.clips.hear(block)
                    self._tell(self.stream.push(block))
            except BrokenPipeError:
                raise  # nobody reads on
            except (OSError, ValueError) as problem:  # the source's; what was decided is told all the same
                error = problem
                say(f"error: {problem}")
            self._tell(self.stream.finish())
        heard = f"{clock(self.stream.seconds)} heard, {count(self._events, 'event')}"
        notes = [
            f"{self.stream.bad_samples} samples were NaN or infinite" if self.stream.bad_samples else "",
            f"{count(self._failed_clips, 'clip')} not written" if self._failed_clips else "",
            self._queued.summary(),
        ]
        say("; ".join([heard, *filter(None, notes)]))
        return 1 if error or self._failed_clips else 0

    def begin(self, event: Event) -> None:
        time = self._queued.clock.note(event)
        if self.clips:
            self.clips.begin(event, f"{time.strftime('%Y-%m-%dT%H-%M-%S.%f')[:-3]}_{event.label}_{event.onset:.2f}s")

    def _tell(self, events: list[Event]) -> None:
        for event in events:
            extra: dict[str, Any] = {}
            if self.clips:
                extra["clip"], reason = self.clips.end(event)
                if reason:
                    self._failed_clips += 1
                    say(f"error: no clip of {event.label} at {event.onset:.2f} s: {reason}")
            self._events += 1
            self._lines.add(event, self._queued.clock.noted(event), **extra)


def _source(
    source: str, device: str | None, target: int, encoding: str | None, rate: int | None, channels: int | None
) -> AbstractContextManager[Incoming]:
    if device is not None:
        from ..audio.microphone import Microphone

        if source != "-" or encoding is not None:
            raise UsageError("--device: got one with a source or an encoding, allowed: alone")
        number = int(device) if device.isdecimal() else device
        return Microphone(None if device == "default" else number, sample_rate=rate, channels=channels)
    from ..audio.incoming import opened

    options: dict[str, Any] = {"sample_rate": rate, "channels": channels, "encoding": encoding, "problem": say}
    # Not sys.stdin: a thread that waits within its buffer would keep the interpreter from ending.
    return opened(open(0, "rb", buffering=0, closefd=False) if source == "-" else source, target, **options)


def _start(given: str | None, source: str, device: str | None) -> datetime | None:
    """When the sound began, where that is not now."""
    from ..audio.clock import start_of

    said = parse_start(given, 1)
    return said or (start_of(source) if said is None and device is None else None)


@contextmanager
def _stopped_by_signals(stop: Any) -> Iterator[None]:
    """Ctrl-C and SIGTERM end the sound, not the program; a second one does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: FrameType | None) -> None:
        stop()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
