"""Samples from a stream of bytes: bare ones, or a WAV whose length its header may not know."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import IO, Literal, TypeAlias, get_args

import numpy as np

from ..arguments import require, require_int
from .files import _UNKNOWN_BYTES, MAX_CHANNELS, AudioError, _require_rate

Encoding = Literal["s16le", "s24le", "s32le", "f32le"]
ENCODINGS: tuple[Encoding, ...] = get_args(Encoding)
Problem: TypeAlias = Callable[[str], None]
_BYTES: dict[Encoding, int] = {"s16le": 2, "s24le": 3, "s32le": 4, "f32le": 4}
_READ_BYTES = 1 << 16  # at a time, at most
_PCM, _FLOAT, _EXTENSIBLE = 1, 3, 0xFFFE
_LARGEST_CHUNK = 1 << 20  # of a WAV's header; a larger one is no header


class Pcm:
    """A stream of samples without or with a WAV header, ``file`` open for reading bytes.

    With ``encoding`` the samples begin at once, ``rate`` and ``channels`` are the caller's; without it a WAV header
    says all three, and where it does not know the length, the end of the stream is the end. ``problem`` is told of a
    stream that stops within a sample, or before the length that its header states. AudioError for a bad header.
    """

    def __init__(
        self,
        file: IO[bytes],
        *,
        encoding: Encoding | None = None,
        rate: int | None = None,
        channels: int | None = None,
        name: str = "stream",
        problem: Problem = lambda text: None,
    ) -> None:
        # read1 and a raw file's read return what is there; a buffered read would wait for all that was asked for.
        self._read: Callable[[int], bytes | None] = getattr(file, "read1", file.read)
        self._name, self._problem = name, problem
        self._stated: int | None = None
        if encoding is None:
            given = [f"{what} {value}" for what, value in (("rate", rate), ("channels", channels)) if value is not None]
            require(not given, "encoding", None, f"{', '.join(ENCODINGS)} with {' and '.join(given)}")
            self._header()
        else:
            require(encoding in ENCODINGS, "encoding", encoding, ", ".join(ENCODINGS))
            require(rate is not None, "rate", rate, f"Hz, with encoding {encoding}")
            self.encoding, self.rate, self.channels = encoding, rate or 0, 1 if channels is None else channels
        _require_rate("rate", self.rate)
        require_int("channels", self.channels, 1, MAX_CHANNELS)

    def __iter__(self) -> Iterator[np.ndarray]:
        frame, rest, done = _BYTES[self.encoding] * self.channels, b"", 0
        while self._stated is None or done < self._stated:
            most = _READ_BYTES if self._stated is None else min(_READ_BYTES, self._stated - done)
            got = self._read(most)
            if got is None:  # a raw file that does not block and has nothing
                continue
            if not got:
                break
            done += len(got)
            got = rest + got
            whole = len(got) // frame * frame
            rest = got[whole:]
            if whole:
                yield _decode(got[:whole], self.encoding).reshape(-1, self.channels)
        if rest:
            self._problem(f"{self._name}: stopped within a sample: {len(rest)} of {frame} bytes, left out")
        elif self._stated is not None and done < self._stated:
            self._problem(f"{self._name}: ended {self._stated - done} bytes before its header says")

    def _header(self) -> None:
        magic = self._exactly(12)
        if magic[:4] not in (b"RIFF", b"RF64") or magic[8:] != b"WAVE":
            raise AudioError(
                f"{self._name}: begins with {magic[:12]!r}, allowed: a WAV header, or samples with a stated encoding"
            )
        form: bytes | None = None
        while True:
            kind, size = struct.unpack("<4sI", self._exactly(8))
            if kind == b"data":
                break
            if size > _LARGEST_CHUNK:
                raise AudioError(f"{self._name}: WAV header with {size} bytes of {kind!r}, damaged")
            content = self._exactly(size + size % 2)
            form = content if kind == b"fmt " else form
        if form is None or len(form) < 16:
            raise AudioError(f"{self._name}: WAV header without a format")
        tag, self.channels, self.rate, _, _, bits = struct.unpack("<HHIIHH", form[:16])
        if tag == _EXTENSIBLE and len(form) >= 26:
            (tag,) = struct.unpack("<H", form[24:26])
        known: dict[tuple[int, int], Encoding] = {
            (_PCM, 16): "s16le",
            (_PCM, 24): "s24le",
            (_PCM, 32): "s32le",
            (_FLOAT, 32): "f32le",
        }
        if (tag, bits) not in known:
            raise AudioError(
                f"{self._name}: WAV coding {tag} of {bits} bits, allowed: PCM of 16, 24, 32 bits, float of 32"
            )
        self.encoding = known[tag, bits]
        # RF64 states its length elsewhere, and so do programs that cannot know it: 0 or nearly the largest number.
        self._stated = size if 0 < size < _UNKNOWN_BYTES and magic[:4] == b"RIFF" else None

    def _exactly(self, count: int) -> bytes:
        found = b""
        while len(found) < count:
            got = self._read(count - len(found))
            if got == b"":
                raise AudioError(f"{self._name}: ended after {len(found)} bytes of its WAV header, or empty")
            found += got or b""
        return found


def _decode(data: bytes, encoding: Encoding) -> np.ndarray:
    """Whole samples of any channel count in a row."""
    if encoding == "s24le":
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return wide.view("<i4")[:, 0].astype(np.int32, copy=False)
    dtype = {"s16le": "<i2", "s32le": "<i4", "f32le": "<f4"}[encoding]
    return np.frombuffer(data, dtype).astype(np.dtype(dtype).newbyteorder("="), copy=False)
