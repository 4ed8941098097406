"""Writing files so that an interrupted run leaves the old file or the new one, never half of one; names beside them."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import IO, Any

_NAME_BYTES = 255  # of one file name, on every file system in use
TEMPORARY = ".mtfa-"


@contextmanager
def write_beside(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """Open a new file in ``path``'s folder for writing; rename it to ``path`` when the block succeeds.

    ``mode``: ``"w"`` (UTF-8, newlines as written) or ``"wb"``. If the block raises, the new file is
    removed and ``path`` is as it was. A device such as ``/dev/stdout`` is written directly.
    Raises OSError where the folder cannot be written.
    """
    if mode not in ("w", "wb"):
        raise ValueError(f"mode: got {mode!r}, allowed: 'w', 'wb'")
    # A file name that is not UTF-8 must not end a run when it is written into a table.
    text: dict[str, Any] = {} if mode == "wb" else {"encoding": "utf-8", "errors": "backslashreplace", "newline": ""}
    if is_device(path):
        with open(path, mode, **text) as file:
            yield file
        return
    target = Path(os.path.realpath(path))  # a link keeps pointing at what it pointed at
    # A name of its own, not the target's and more: that may be as long as a name can be.
    temporary = target.with_name(f"{TEMPORARY}{secrets.token_hex(4)}.part")
    try:
        # Not tempfile: its files are readable by the owner only, and the umask cannot be read without a race.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        with open(descriptor, mode, **text) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno is not None and error.filename in (None, str(temporary)):
            # A full disk, a name that is too long: of the file that was wanted, not of the one beside it.
            raise OSError(error.errno, error.strerror, os.fspath(path)) from None
        raise


def encoded(text: str) -> bytes:
    """As every file of ours is written: a name that is not UTF-8 is only a name."""
    return text.encode("utf-8", "backslashreplace")


def write_json(path: str | os.PathLike[str], content: object) -> None:
    """Write JSON values, indented, complete or not at all. Raises as :func:`write_beside`."""
    with write_beside(path) as file:
        json.dump(content, file, indent=1, ensure_ascii=False)
        file.write("\n")


def is_device(path: str | os.PathLike[str]) -> bool:
    """Whether what is written there goes somewhere else: ``/dev/stdout``, a pipe. Nothing lies beside such a file."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def beside(path: Path, mark: str, suffix: str | None = None) -> Path:
    """``all.csv`` -> ``all.partial.csv`` for the mark ``partial``; another name where that one would be too long."""
    ending = f".{mark}{path.suffix if suffix is None else suffix}"
    stem = path.stem
    if len(os.fsencode(stem + ending)) > _NAME_BYTES:
        digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]
        room = _NAME_BYTES - len(os.fsencode(ending)) - len(digest) - 1
        stem = os.fsencode(stem)[:room].decode(errors="ignore") + "~" + digest
    return path.with_name(stem + ending)


def remove_temporaries(folder: Path) -> None:
    """What :func:`write_beside` left in ``folder`` when its process was killed. Only where nobody else writes."""
    for path in folder.glob(f"{TEMPORARY}*.part"):
        path.unlink(missing_ok=True)


class RealPaths:
    """``os.path.realpath`` of many files in few folders: each folder is resolved once, which is most of the work."""

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def __call__(self, path: str | os.PathLike[str]) -> str:
        folder, name = os.path.split(os.fspath(path))
        if name in ("", ".", "..") or os.path.islink(path):
            return os.path.realpath(path)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return os.path.join(self._folders[folder], name)


def is_hidden(path: PurePath) -> bool:
    """Whether a name in the path, relative to the folder that is searched, begins with a dot: not somebody's data.

    The Finder lays ``._a.wav`` beside ``a.wav``, editors and version control have folders of their own.
    """
    return any(part.startswith(".") and part not in (".", "..") for part in path.parts)


def file_digest(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's content, as hexadecimal digits."""
    content = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            content.update(block)
    return content.hexdigest()
