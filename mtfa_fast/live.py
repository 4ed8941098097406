"""Sound in, events out while it happens: a stream without end, each event given out once, when it is over."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any, Protocol, TypeAlias

import numpy as np

from . import _core
from .audio.incoming import Converter, opened
from .audio.pcm import Encoding
from .config import Config
from .events.result import Event, score_of

CHUNK, LOOK_AHEAD = 16, 64  # frames: with the trunk and a filter of 27 frames 3.5 s in all; docs/live.md says why
_SLICE_SECONDS = 1.0  # of what is pushed is computed at a time, so that other streams get their turn
_SAME_GAP_SECONDS = 1.0  # bad samples that follow each other sooner are reported once

OnBegin: TypeAlias = Callable[[Event], None]
OnGap: TypeAlias = Callable[[float], None]


class EngineStream(Protocol):
    """A stream in an engine; ``delay`` in frames, None where all is answered at the end."""

    delay: int | None

    def push(self, samples: np.ndarray) -> np.ndarray: ...
    def finish(self) -> np.ndarray: ...


class Engine(Protocol):
    """What live streams need of ``engine.cpu.CpuEngine`` or ``engine.gpu.GpuEngine``."""

    def live(self, chunk: int, look_ahead: int | None) -> EngineStream: ...
    def push_live(self, streams: Sequence[Any], samples: Sequence[np.ndarray]) -> Sequence[np.ndarray]: ...


class LiveStream:
    """One stream of sound, made by :meth:`mtfa_fast.Detector.live`; its times are seconds since it began.

    Threads may push into different streams at the same time, and into one: blocks are taken in the order in which they
    come. What several streams push meanwhile is computed together. Events do not depend on how the sound is cut, nor on
    other streams. As a context manager it gives its memory back at the end; only :meth:`finish` gives the last events.
    """

    def __init__(
        self,
        engine: Engine,
        config: Config,
        *,
        sample_rate: int,
        channels: int = 1,
        chunk: int = CHUNK,
        look_ahead: int | None = LOOK_AHEAD,
        on_begin: OnBegin | None = None,
        on_gap: OnGap | None = None,
    ) -> None:
        self.config, self.sample_rate, self.channels = config, sample_rate, channels
        rate, classes = config.features.sample_rate, config.classes
        self._input = Converter(sample_rate, channels, rate)
        self._engine = engine
        self._stream: EngineStream | None = engine.live(chunk, look_ahead)
        self._runs = _core.LiveRuns(
            [c.threshold for c in classes], [c.filter_frames for c in classes], [c.minimum_score for c in classes]
        )
        self._on_begin, self._on_gap = on_begin, on_gap or _warn
        self._samples = 0  # at the network's rate
        self._last_bad = -(2**62)  # the place of the last NaN or infinite sample
        self._lock = threading.RLock()
        frames = None if self._stream.delay is None else self._stream.delay + self._runs.delay
        self._delay = float("inf") if frames is None else frames * config.features.frame_seconds

    @property
    def delay(self) -> float:
        """Seconds from an event's end to the moment it is given out, at most, where the machine keeps up.

        The conversion of another sample rate adds some hundredths of a second. Without an end of look-ahead: infinite.
        """
        return self._delay

    @property
    def seconds(self) -> float:
        """Of sound pushed so far."""
        return self._input.received / self.sample_rate

    @property
    def bad_samples(self) -> int:
        """NaN and infinite samples so far, which were read as silence."""
        return self._input.bad_samples

    def push(self, samples: np.ndarray) -> list[Event]:
        """More sound, (n,) or (n, channels), any n >= 0 -> the events that are over now.

        Floats nominally in [-1, 1], int16 or int32. NaN and infinity are read as silence and reported to ``on_gap``.
        ValueError or TypeError for another shape or type, and after :meth:`finish`; nothing is taken then.
        """
        with self._lock:
            found: list[Event] = []
            for part in self._slices(samples):
                found += self._decide(self._open().push(part))
            return found

    def finish(self) -> list[Event]:
        """The stream is over: the events that were not, those still going on cut off. Without sound there are none."""
        with self._lock:
            stream, found = self._open(), list[Event]()
            if len(rest := self._input.finish()):
                self._samples += len(rest)
                found += self._decide(stream.push(rest))
            self._stream = None
            if self._samples == 0:
                return found
            found += self._decide(stream.finish())
            ended, begun = self._runs.finish()
            return found + self._tell(ended, begun, self._samples / self.config.features.sample_rate)

    def __enter__(self) -> LiveStream:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._stream = None

    def _open(self) -> EngineStream:
        if self._stream is None:
            raise ValueError("stream: finished, allowed: open")
        return self._stream

    def _slices(self, samples: np.ndarray) -> Iterator[np.ndarray]:
        """What is pushed as mono at the network's rate, not much of it at a time."""
        self._open()
        samples = np.asarray(samples)
        size = max(1, int(_SLICE_SECONDS * self.sample_rate))
        for first in range(0, max(len(samples) if samples.ndim else 1, 1), size):
            mono = self._input.push(samples[first : first + size] if samples.ndim else samples)
            self._tell_gaps(self._input.bad_places)
            self._samples += len(mono)
            if len(mono):
                yield np.ascontiguousarray(mono, np.float32)

    def _tell_gaps(self, places: np.ndarray) -> None:
        if len(places):
            steps = np.diff(places, prepend=self._last_bad)
            for place in places[steps > _SAME_GAP_SECONDS * self.sample_rate].tolist():
                self._on_gap(place / self.sample_rate)
            self._last_bad = int(places[-1])

    def _decide(self, probabilities: np.ndarray) -> list[Event]:
        return self._tell(*self._runs.push(probabilities), float("inf"))

    def _tell(self, ended: _core.Runs, begun: _core.Runs, duration: float) -> list[Event]:
        if self._on_begin is not None:
            for event in self._events(begun, duration):
                self._on_begin(event)
        return self._events(ended, duration)

    def _events(self, runs: _core.Runs, duration: float) -> list[Event]:
        hop, rate, kinds = self.config.features.hop, self.config.features.sample_rate, self.config.classes
        return [
            Event(
                kinds[k].name,
                min(first * hop / rate, duration),
                min(last * hop / rate, duration),
                score_of(kinds[k], peak),
            )
            for k, (first, last), peak in zip(*(array.tolist() for array in runs), strict=True)
        ]


def push_together(blocks: Sequence[tuple[LiveStream, np.ndarray]]) -> list[list[Event]]:
    """:meth:`LiveStream.push` for several different streams of one detector, computed side by side.

    For whoever has many streams in one thread; several threads need not call this. ValueError where a stream is named
    twice, or the streams are several detectors'.
    """
    streams = [stream for stream, _ in blocks]
    if len(set(map(id, streams))) != len(streams) or len({id(stream._engine) for stream in streams}) > 1:
        raise ValueError(
            "blocks: got a stream twice or streams of several detectors, allowed: different streams of one"
        )
    found: list[list[Event]] = [[] for _ in streams]
    with ExitStack() as locks:
        for stream in sorted(streams, key=id):  # in one order, or two callers would wait for each other
            locks.enter_context(stream._lock)
        waiting = {i: stream._slices(samples) for i, (stream, samples) in enumerate(blocks)}
        while waiting:
            parts = {i: part for i, slices in waiting.items() if (part := next(slices, None)) is not None}
            waiting = {i: waiting[i] for i in parts}
            rows = streams[0]._engine.push_live([streams[i]._open() for i in parts], list(parts.values()))
            for i, probabilities in zip(parts, rows, strict=True):
                found[i] += streams[i]._decide(probabilities)
    return found


def listen(
    engine: Engine,
    config: Config,
    source: Any,
    *,
    sample_rate: int | None = None,
    channels: int | None = None,
    encoding: Encoding | None = None,
    **options: Any,
) -> Iterator[Event]:
    """The events of a source as they end; see :meth:`mtfa_fast.Detector.listen`."""
    rate = config.features.sample_rate
    given: dict[str, Any] = {"sample_rate": sample_rate, "channels": channels, "encoding": encoding}
    with (
        opened(source, rate, **given, problem=_warn_of) as incoming,
        LiveStream(engine, config, sample_rate=incoming.rate, channels=incoming.channels, **options) as stream,
    ):
        for block in incoming:
            yield from stream.push(block)
        yield from stream.finish()


def _warn(seconds: float) -> None:
    _warn_of(f"samples: NaN or infinity at {seconds:.3f} s, read as silence")


def _warn_of(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=3)
