"""Sound as it comes in: sources of blocks, and their conversion from any rate and channel count to mono at another.

What arrives is handed on at once, in blocks (n, channels) of whatever size it came in.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from typing import IO, Any, Protocol

import numpy as np
import soxr

from ..arguments import require, require_int
from .files import _SCALE, MAX_CHANNELS, _mean, _require_rate, blocks
from .pcm import Encoding, Pcm, Problem


class Incoming(Protocol):
    """A source of sound: blocks (n, channels) of float32, int16 or int32 at ``rate`` Hz, as they come."""

    @property
    def rate(self) -> int: ...
    @property
    def channels(self) -> int: ...
    def __iter__(self) -> Iterator[np.ndarray]: ...


@dataclass(frozen=True)
class Blocks:
    """Arrays as a source."""

    rate: int
    channels: int
    arrays: Iterable[np.ndarray]

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter(self.arrays)


class Converter:
    """Blocks at one rate and channel count -> mono float32 at ``target_rate``, the same samples for every cut.

    Floats are taken as they are, int16 and int32 scaled to [-1, 1]. NaN and infinity are read as silence;
    ``bad_samples`` counts them, ``bad_places`` are those of the last block, in samples of the source.
    """

    def __init__(self, rate: int, channels: int, target_rate: int) -> None:
        _require_rate("sample_rate", rate)
        require_int("channels", channels, 1, MAX_CHANNELS)
        self.rate, self.channels = rate, channels
        self.received = self.bad_samples = 0
        self.bad_places = np.zeros(0, np.int64)
        self._stream: Any = None
        if rate != target_rate:
            self._stream = soxr.ResampleStream(rate, target_rate, 1, dtype="float32", quality="HQ")

    def push(self, block: np.ndarray) -> np.ndarray:
        """(n, channels), or (n,) of one channel -> mono (m,). ValueError, TypeError for other shapes and types."""
        block = np.asarray(block)
        shape = block.shape
        if len(shape) not in (1, 2) or (shape[1] if len(shape) == 2 else 1) != self.channels:
            wanted = "(n,) or (n, 1)" if self.channels == 1 else f"(n, {self.channels})"
            raise ValueError(f"samples: got shape {shape}, allowed: {wanted}")
        if block.dtype.kind != "f" and block.dtype.name not in _SCALE:
            raise TypeError(f"samples: got {block.dtype}, allowed: float16, float32, float64, int16, int32")
        with np.errstate(over="ignore"):  # beyond float32 is infinite, and so no sample
            samples = block.astype(np.float32, copy=False).reshape(-1, self.channels)
        if block.dtype.name in _SCALE:
            samples = samples / np.float32(_SCALE[block.dtype.name])
        mono = _mean(samples)
        finite = np.isfinite(mono)
        self.bad_places = self.received + np.flatnonzero(~finite)
        if len(self.bad_places):
            mono = np.where(finite, mono, np.float32(0))
            self.bad_samples += len(self.bad_places)
        self.received += len(mono)
        if self._stream is None or len(mono) == 0:
            return mono
        resampled: np.ndarray = self._stream.resample_chunk(mono)
        return resampled

    def finish(self) -> np.ndarray:
        """What the conversion still holds back."""
        if self._stream is None:
            return np.zeros(0, np.float32)
        rest: np.ndarray = self._stream.resample_chunk(np.zeros(0, np.float32), last=True)
        return rest


def opened(
    source: Any,
    target_rate: int,
    *,
    sample_rate: int | None = None,
    channels: int | None = None,
    encoding: Encoding | None = None,
    problem: Problem = lambda text: None,
) -> AbstractContextManager[Incoming]:
    """A source of sound from a path, an open binary file, arrays, or what is one already (a microphone).

    A path to a file is decoded whatever its format; a pipe or device, and an open file, hold a WAV or, with
    ``encoding`` and ``sample_rate``, bare samples. Arrays need
    ``sample_rate``. ValueError or TypeError for anything else.
    """
    if isinstance(source, (str, os.PathLike)):
        name = os.fspath(source)
        if encoding is None and stat.S_ISREG(os.stat(source).st_mode):
            _no_rate(sample_rate, channels, "a file, which states its own")
            return closing(_File(source, target_rate))
        return _Pipe(open(source, "rb", buffering=0), encoding, sample_rate, channels, name, problem)
    if hasattr(source, "read"):
        return _Kept(Pcm(source, encoding=encoding, rate=sample_rate, channels=channels, problem=problem))
    if hasattr(source, "rate") and hasattr(source, "channels"):
        _no_rate(sample_rate, channels, "a source that states its own")
        return source if hasattr(source, "__exit__") else _Kept(source)
    if isinstance(source, np.ndarray) or not isinstance(source, Iterable):
        raise TypeError(
            f"source: got {type(source).__name__}, allowed: a path, an open binary file, an iterable of arrays"
        )
    require(sample_rate is not None, "sample_rate", None, "the arrays' rate in Hz")
    return _Kept(Blocks(sample_rate or 0, channels or 1, source))


def _no_rate(sample_rate: int | None, channels: int | None, source: str) -> None:
    require(sample_rate is None, "sample_rate", sample_rate, f"none with {source}")
    require(channels is None, "channels", channels, f"none with {source}")


class _Kept(AbstractContextManager[Incoming]):
    """A source that somebody else closes."""

    def __init__(self, source: Incoming) -> None:
        self._source = source

    def __enter__(self) -> Incoming:
        return self._source

    def __exit__(self, *_: object) -> None:
        return None


class _Pipe(_Kept):
    """A file of its own around a :class:`Pcm`."""

    def __init__(
        self,
        file: IO[bytes],
        encoding: Encoding | None,
        rate: int | None,
        channels: int | None,
        name: str,
        problem: Problem,
    ) -> None:
        self._file = file
        try:
            super().__init__(Pcm(file, encoding=encoding, rate=rate, channels=channels, name=name, problem=problem))
        except BaseException:
            file.close()
            raise

    def __exit__(self, *_: object) -> None:
        self._file.close()


class _File:
    """A recording as a source: already mono at the rate that is wanted."""

    def __init__(self, path: str | os.PathLike[str], rate: int) -> None:
        self.rate, self.channels = rate, 1
        self._blocks = blocks(path, rate, block_seconds=1.0)

    def __iter__(self) -> Iterator[np.ndarray]:
        return self._blocks

    def close(self) -> None:
        self._blocks.close()
