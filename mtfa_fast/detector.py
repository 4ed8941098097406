"""Audio in, events out."""

from __future__ import annotations

import os
import re
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypeVar, cast, overload

import numpy as np

from . import _core
from .arguments import require_int
from .audio import clock
from .audio import files as audio
from .audio.levels import Channel, require_channel
from .audio.sources import Source, is_open_file, name_of
from .events.result import Event, Result, decide
from .extras import needs
from .live import CHUNK, LOOK_AHEAD, EngineStream, LiveStream, OnBegin, OnGap, listen
from .weights import Weights

if TYPE_CHECKING:
    from .audio.pcm import Encoding
    from .engine.cpu import Precision

AnyPath: TypeAlias = str | os.PathLike[str]
Progress: TypeAlias = Callable[[str, float], None]
Recording: TypeAlias = Source | np.ndarray
Decision: TypeAlias = float | Mapping[str, float] | None
T = TypeVar("T")
P = TypeVar("P", bound=Source)
DECISIONS = ("threshold", "filter_frames", "minimum_score")  # of Result.with_
DEFAULT_WEIGHTS = "rare-events"
DEFAULT_JOBS = 2  # one recording is decoded and finished while the other keeps the engine's threads busy
GPU_JOBS = 16  # at most; decoding is what a GPU waits for, and recordings that end together share a batch


class Stream(Protocol):
    """One recording in an engine."""

    def push(self, samples: np.ndarray) -> None: ...
    def finish(self) -> np.ndarray: ...


class Engine(Protocol):
    """What a detector needs of ``engine.cpu.CpuEngine`` or ``engine.gpu.GpuEngine``."""

    def stream(self) -> Stream: ...
    def live(self, chunk: int, look_ahead: int | None) -> EngineStream: ...
    def push_live(self, streams: Sequence[Any], samples: Sequence[np.ndarray]) -> Sequence[np.ndarray]: ...
    def explain(self) -> dict[str, Any]: ...


class Detector:
    """Finds sound events in recordings of any length, rate, format and channel count.

    >>> detector = Detector.from_pretrained("rare-events")
    >>> for event in detector("street.wav"):
    ...     print(event.label, event.onset, event.offset)

    ``device``: ``"cpu"`` is the C++ engine, ``"cuda"`` or ``"cuda:1"`` the GPU engine, which needs torch.
    ``precision``: ``"auto"``, ``"fp32"``, ``"bf16"``, on a GPU ``"fp16"`` too, on a CPU ``"int8"`` with weights that
    hold calibrated steps (``mtfa-fast quantize``). ``threads``: of the C++ engine, default the cores this process may
    use. ``channel``: what is heard of several channels, the ``"mean"``, one by its number from 0, or of each sample the
    ``"max"``, that of largest magnitude. ``memory``: of the C++ engine, how many GB of each recording's frames, 100 kB
    a second, stay in memory, default 1; those of a longer one go to a temporary file, and OSError says if there is no
    room. One detector may be used from several threads at once; pickled or copied it
    is made again of its weights, as process pools and Ray need. Raises
    ValueError naming a wrong argument, ImportError where the device needs torch and it is not installed.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        device: str = "cpu",
        precision: Precision = "auto",
        threads: int | None = None,
        channel: Channel = "mean",
        memory: float | None = None,
    ) -> None:
        if not isinstance(weights, Weights):
            raise TypeError(
                f"weights: got {type(weights).__name__}, allowed: Weights (from_pretrained takes a name or path)"
            )
        require_channel(channel)
        self._made_of = (
            weights,
            {"device": device, "precision": precision, "threads": threads, "channel": channel, "memory": memory},
        )
        self.config = weights.config
        self.channel = channel
        self._jobs = DEFAULT_JOBS if device == "cpu" else min(GPU_JOBS, _core.default_threads())
        self.engine = make_engine(weights, device=device, precision=precision, threads=threads, memory=memory)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles hold the weights and arguments; the engine is made again where they are opened."""
        weights, options = self._made_of
        return _made_again, (type(self), weights, options)

    @classmethod
    def from_pretrained(
        cls,
        source: AnyPath = DEFAULT_WEIGHTS,
        *,
        device: str = "cpu",
        precision: Precision = "auto",
        threads: int | None = None,
        channel: Channel = "mean",
        memory: float | None = None,
    ) -> Detector:
        """A detector from a weight file, the folder that holds it, or the name of weights that come with the package.

        Raises as :meth:`Weights.load` and :class:`Detector`.
        """
        return cls(
            Weights.load(source), device=device, precision=precision, threads=threads, channel=channel, memory=memory
        )

    @overload  # str is a Sequence of str, but the first signature takes it
    def __call__(  # type: ignore[overload-overlap]
        self, recording: Recording, *, sample_rate: int | None = None
    ) -> Result: ...
    @overload
    def __call__(self, recording: Sequence[Recording], *, sample_rate: int | None = None) -> list[Result]: ...
    def __call__(
        self, recording: Recording | Sequence[Recording], *, sample_rate: int | None = None
    ) -> Result | list[Result]:
        """Events of one recording, or of several in the same order.

        A recording is a path, ``"-"`` for standard input, an open binary file (read from where it stands), or an array
        (samples,) or (samples, channels) with its ``sample_rate`` in Hz. Files are streamed, never held in memory as
        samples. Warns with AudioWarning of what is used in spite of a fault. Raises FileNotFoundError, AudioError or
        another ValueError naming the file or argument; the first failure of several ends the call
        (:meth:`detect_files` goes on).
        """
        if not isinstance(recording, (list, tuple)):
            return self._detect(recording, sample_rate, _silent, threading.Event())
        results = []
        with closing(self._each(recording, sample_rate, self._jobs, _silent)) as answers:
            for _, answer in answers:
                if isinstance(answer, Exception):
                    raise answer
                results.append(answer)
        return results

    def detect_files(
        self, paths: Iterable[P], *, jobs: int | None = None, progress: Progress | None = None
    ) -> Iterator[tuple[P, Result | Exception]]:
        """Each path (or open binary file) with its result, or with the error that kept it from having one; in order.

        ``jobs`` recordings are worked on at a time, so that one is decoded while another is computed; default 2,
        with a GPU one for each core, where those that end together share a batch.
        ``progress(path, seconds)`` is called, from the threads that do the work, after each further
        ``seconds`` of audio. Closing the iterator stops the work.
        """
        if isinstance(paths, (str, os.PathLike)):
            raise TypeError(f"paths: got one path, {os.fspath(paths)!r}, allowed: several")
        if jobs is not None:
            require_int("jobs", jobs, 1)
        return self._each(paths, None, jobs or self._jobs, progress or _silent)

    def live(
        self,
        *,
        sample_rate: int,
        channels: int = 1,
        chunk: int = CHUNK,
        look_ahead: int | None = LOOK_AHEAD,
        on_begin: OnBegin | None = None,
        on_gap: OnGap | None = None,
        threshold: Decision = None,
        filter_frames: int | Mapping[str, int] | None = None,
        minimum_score: Decision = None,
    ) -> LiveStream:
        """A stream of sound without end, in constant memory: push samples, get the events that are over.

        >>> with Detector.from_pretrained().live(sample_rate=48_000, channels=2) as stream:
        ...     for block in microphone:
        ...         for event in stream.push(block):
        ...             print(event)
        ...     print(stream.finish())

        ``chunk`` and ``look_ahead``, in frames and multiples of 8, define the answer and its delay: the recurrent
        layers' backward direction starts anew ``look_ahead`` frames behind each ``chunk``. With None all is answered at
        the end, exactly as by calling the detector. ``on_begin`` is called once for each event as soon as it is certain
        to come: onset and label are final, offset and score those so far. ``on_gap`` is called with the second at which
        NaN or infinite samples, read as silence, begin; by default a warning. The rest as of :meth:`Result.with_`.
        Any number of streams may use one detector, from any number of threads. ValueError naming a wrong argument.
        """
        config = decide(self.config, threshold=threshold, filter_frames=filter_frames, minimum_score=minimum_score)
        return LiveStream(
            self.engine,
            config,
            sample_rate=sample_rate,
            channels=channels,
            chunk=chunk,
            look_ahead=look_ahead,
            on_begin=on_begin,
            on_gap=on_gap,
        )

    def listen(
        self,
        source: Any,
        *,
        sample_rate: int | None = None,
        channels: int | None = None,
        encoding: Encoding | None = None,
        **options: Any,
    ) -> Iterator[Event]:
        """Events of a source while it plays, each when it is over.

        ``source``: a path (a recording; a named pipe or a device), an open binary file, an iterable of arrays with its
        ``sample_rate`` (and ``channels``), or an ``audio.microphone.Microphone``. Pipes and open files hold a WAV, its
        length known or not, or bare samples of an ``encoding``: ``"s16le"``, ``"s24le"``, ``"s32le"``, ``"f32le"``, at
        ``sample_rate``. ``options`` as of :meth:`live`. Raises as :meth:`live` and as reading does.
        """
        config = decide(self.config, **{name: options.pop(name, None) for name in DECISIONS})
        return listen(
            self.engine, config, source, sample_rate=sample_rate, channels=channels, encoding=encoding, **options
        )

    def explain(self) -> dict[str, Any]:
        """Which engine, instruction set, precision and threads run, and why."""
        return self.engine.explain()

    def _each(
        self, recordings: Iterable[T], sample_rate: int | None, jobs: int, progress: Progress
    ) -> Generator[tuple[T, Result | Exception], None, None]:
        stop = threading.Event()
        waiting: deque[tuple[T, Future[Result | Exception]]] = deque()
        with ThreadPoolExecutor(jobs, thread_name_prefix="mtfa-detect") as pool:
            try:
                for recording in recordings:
                    waiting.append((recording, pool.submit(self._try, recording, sample_rate, progress, stop)))
                    # A few finished results may wait for a slow first one; thousands must not.
                    if len(waiting) >= 4 * jobs:
                        first, future = waiting.popleft()
                        yield first, future.result()
                while waiting:
                    first, future = waiting.popleft()
                    yield first, future.result()
            finally:
                stop.set()
                for _, future in waiting:
                    future.cancel()

    def _try(
        self, recording: object, sample_rate: int | None, progress: Progress, stop: threading.Event
    ) -> Result | Exception:
        try:
            return self._detect(recording, sample_rate, progress, stop)
        except Exception as error:  # whatever one file does, the others are still wanted
            traceback.clear_frames(error.__traceback__)  # or it would keep the file's samples alive
            return error

    def _detect(self, recording: object, sample_rate: int | None, progress: Progress, stop: threading.Event) -> Result:
        rate = self.config.features.sample_rate
        source, blocks = _open(recording, sample_rate, rate, self.channel)
        stream, samples = None, 0
        with closing(blocks):
            for block in blocks:
                if stop.is_set():
                    raise RuntimeError(f"{source}: stopped")
                if stream is None:  # not sooner: a file that cannot be read costs no engine's memory
                    stream = self.engine.stream()
                stream.push(block)
                samples += len(block)
                progress(source, len(block) / rate)
        assert stream is not None, "audio has at least one sample or raises"
        start = clock.start_of(recording) if isinstance(recording, (str, os.PathLike)) else None
        return Result(stream.finish(), self.config, source, samples / rate, start)


def _made_again(cls: type[Detector], weights: Weights, options: dict[str, Any]) -> Detector:
    return cls(weights, **options)


def _open(
    recording: object, sample_rate: int | None, rate: int, channel: Channel
) -> tuple[str, Generator[np.ndarray, None, None]]:
    """A recording's name and its mono blocks at ``rate``."""
    if isinstance(recording, (str, os.PathLike)) or is_open_file(recording):
        if sample_rate is not None:
            raise ValueError(f"sample_rate: got {sample_rate} with a path, allowed: none, the file states its own")
        return name_of(recording), _ahead(audio.blocks(cast(Source, recording), rate, channel=channel))
    if not hasattr(recording, "__array__"):
        raise TypeError(f"recording: got {type(recording).__name__}, allowed: a path, open file, array or a list")
    if sample_rate is None:
        raise ValueError("sample_rate: got none with an array, allowed: the array's rate in Hz")
    wave = audio.to_mono_resampled(np.asarray(recording), sample_rate, rate, channel=channel)
    return "array", (block for block in [wave])


def make_engine(
    weights: Weights, *, device: str, precision: Precision, threads: int | None, memory: float | None = None
) -> Engine:
    """The engine for a device; arguments and errors as of :class:`Detector`."""
    if device == "cpu":
        from .engine.cpu import MEMORY, CpuEngine

        limit = MEMORY if memory is None else memory
        return CpuEngine(weights, precision=precision, threads=threads, memory=limit)
    if not isinstance(device, str) or not re.fullmatch(r"cuda(:\d+)?", device):
        raise ValueError(f"device: got {device!r}, allowed: 'cpu', 'cuda', 'cuda:0', ...")
    with needs("torch", f"device {device!r} needs"):
        import torch

        from .engine.gpu import GpuEngine
    count = torch.cuda.device_count()
    if int(device.partition(":")[2] or 0) >= count:
        found = (
            f"sees {count} CUDA device{'s' if count != 1 else ''}"
            if torch.backends.cuda.is_built()
            else "is built without CUDA"
        )
        raise ValueError(f"device: got {device!r}, but torch {torch.__version__} {found}")
    for name, given in (("threads", threads), ("memory", memory)):
        if given is not None:
            raise ValueError(f"{name}: got {given} with device {device!r}, allowed: none")
    return GpuEngine(weights, device=device, precision=precision)


def _ahead(blocks: Generator[np.ndarray, None, None]) -> Generator[np.ndarray, None, None]:
    """The same blocks, each decoded in another thread while the one before it is used."""
    with closing(blocks), ThreadPoolExecutor(1, thread_name_prefix="mtfa-decode") as decoder:
        following = decoder.submit(next, blocks, None)
        while (block := following.result()) is not None:
            following = decoder.submit(next, blocks, None)
            yield block


def _silent(source: str, seconds: float) -> None:
    """No progress is wanted."""
