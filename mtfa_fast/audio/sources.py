"""Recordings as files that can be searched: paths, standard input, pipes, open files, and parts of them."""

from __future__ import annotations

import io
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import IO, Any, BinaryIO, TypeAlias, cast

from .containers import Mended
from .errors import AudioError

# A path, "-" for standard input, or an open binary file.
Source: TypeAlias = str | os.PathLike[str] | IO[bytes]
STDIN = "-"
_IN_MEMORY = 1 << 24  # of a stream that cannot be searched; more goes to a temporary file


@dataclass(frozen=True)
class Opened:
    name: str
    file: BinaryIO
    size: int


class View(io.RawIOBase):
    """A header and a range of another file as a file of its own.

    It has no suffix, because soundfile believes names: ``.raw`` would mean "no header".
    """

    name = ""

    def __init__(self, file: BinaryIO, part: Mended) -> None:
        self._file, self._part, self._at = file, part, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        end = len(self._part.header) + self._part.length
        self._at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: end}[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        header = self._part.header
        if self._at < len(header):
            piece = header[self._at : self._at + len(buffer)]
        else:
            behind = self._at - len(header)
            wanted = max(0, min(len(buffer), self._part.length - behind))
            self._file.seek(self._part.start + behind)
            piece = self._file.read(wanted)
        buffer[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)


def name_of(recording: object) -> str:
    """What messages and results call it."""
    if isinstance(recording, (str, os.PathLike)):
        return os.fspath(recording)
    name = getattr(recording, "name", None)
    return name if isinstance(name, str) and name else "stream"


def is_open_file(recording: object) -> bool:
    return hasattr(recording, "read") and not isinstance(recording, (str, os.PathLike))


@contextmanager
def opened(recording: Source) -> Iterator[Opened]:
    """The recording as a file that can be searched; what is not one is first copied, beyond 16 MB to a temporary file.

    An open file is read from where it stands, and stays open. Raises OSError, AudioError for a folder or an open file
    with nothing behind its position, TypeError for one that is not binary.
    """
    name = name_of(recording)
    with ExitStack() as stack:
        if isinstance(recording, (str, os.PathLike)) and os.fspath(recording) != STDIN:
            mode = os.stat(recording).st_mode  # FileNotFoundError and the like
            if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
                raise AudioError(f"{name}: not a file")
            file: BinaryIO = stack.enter_context(open(recording, "rb"))
            searchable = stat.S_ISREG(mode)
        elif isinstance(recording, (str, os.PathLike)):
            file = sys.stdin.buffer
            searchable = False  # a file may be behind it, but others may have read from it
        else:
            file, searchable = _binary(recording), _searchable(recording)
        if not searchable:
            copy = stack.enter_context(tempfile.SpooledTemporaryFile(_IN_MEMORY, prefix="mtfa-fast-"))
            shutil.copyfileobj(file, copy)
            copy.seek(0)
            file = cast(BinaryIO, copy)
        start = file.tell()
        size = file.seek(0, os.SEEK_END) - start
        file.seek(start)
        if start:
            if size <= 0:
                raise AudioError(f"{name}: stands at its end, {start} bytes: seek(0) before it is read")
            file = cast(BinaryIO, io.BufferedReader(View(file, Mended(b"", start, size, None))))
        yield Opened(name, file, size)


def _binary(file: Any) -> Any:
    if isinstance(file, io.TextIOBase):
        raise TypeError(f"recording: got {type(file).__name__}, allowed: an open binary file")
    return file


def _searchable(file: Any) -> bool:
    try:
        return bool(file.seekable())
    except AttributeError:
        return False
