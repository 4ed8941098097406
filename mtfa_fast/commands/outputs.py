"""Which files a command may write: one rule for all of them.

Refused without ``--overwrite``: an output that is also an input, one with a recording's suffix, and a file that exists
and does not show that mtfa-fast wrote it. A table, CSV, JSON, page, picture or weight file of ours says so in its
content; event lists and scores (TSV), label tracks (Audacity) and selection tables (Raven) have no place for it, and
somebody may have corrected them by hand, so they are replaced only when that is asked for. Files of no bytes hold
nothing to lose.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, TypeAlias

from cyclopts import Parameter

from ..files import RealPaths, is_device
from .common import UsageError

OverwriteOption: TypeAlias = Annotated[
    bool, Parameter(help="Replace files that mtfa-fast did not write, or cannot know that it did.")
]

_LOOKED_AT = 1 << 16  # bytes at either end of a file
_SIGNATURES = (
    rb"file,onset,offset,label,score(,time)?\n",
    rb'\[\n\{"file": "',
    rb"\[\]\n\Z",
    rb"file +onset +offset  score(  time +)?  label\n",
    rb'\{\n "error_rate": .*"matching": "maximum, one to one"',
    rb'\{\n "mixtures": .*"background": \{\n',
    b"PK\x03\x04.*" + re.escape("mtfa-fast probabilities".encode("utf-32-le")),
    rb'.{8}\{.*"format":"mtfa-fast',
    rb"(\x08|PK\x03\x04).*mtfa_fast\.",
    rb"<!doctype html>.*<p>Made by mtfa-fast",
    rb"(\x89PNG|%PDF|<\?xml).*mtfa-fast visualize",
    rb"PAR1.*mtfa-fast events",
    rb'\{\n "sources": .*"validation_chunks": ',
)
_OURS = re.compile(b"|".join(b"(?:" + signature + b")" for signature in _SIGNATURES), re.DOTALL | re.IGNORECASE)


def require_writable(
    option: str,
    *paths: str | os.PathLike[str] | None,
    inputs: Iterable[str | os.PathLike[str]] = (),
    overwrite: bool = False,
) -> None:
    """UsageError where one of ``paths`` may not be written; ``option`` names them, ``inputs`` are what is read."""
    real = RealPaths()
    read = {real(given) for given in inputs} if not overwrite else set()
    for path in paths:
        if path is not None:
            _require_writable(option, os.fspath(path), real(path) in read, overwrite)


def _require_writable(option: str, name: str, is_input: bool, overwrite: bool) -> None:
    if os.path.isdir(name):
        raise UsageError(f"{option}: got the folder {name!r}, allowed: a file")
    if overwrite or is_device(name):
        return
    if is_input:
        raise UsageError(f"{option}: {name!r} is also an input; allowed: another name, or --overwrite")
    if os.path.splitext(name)[1].lower() in _recordings_suffixes():
        raise UsageError(f"{option}: {name!r} has a recording's suffix; allowed: another name, or --overwrite")
    if os.path.exists(name) and not written_by_us(name):
        raise UsageError(f"{option}: {name!r} exists and may not be ours; allowed: another name, or --overwrite")


def require_run_folder(
    option: str, folder: str | os.PathLike[str], mark: str, files: Iterable[str], *, overwrite: bool = False
) -> None:
    """UsageError where a run would replace one of ``files`` in a folder whose file ``mark`` is not of such a run."""
    root = Path(folder)
    if root.exists() and not root.is_dir():
        raise UsageError(f"{option}: got the file {str(root)!r}, allowed: a folder")
    if overwrite or ((root / mark).is_file() and written_by_us(root / mark)):
        return
    for name in (mark, *files):
        if (root / name).exists():
            raise UsageError(
                f"{option}: {str(root / name)!r} is of no run that mtfa-fast knows; "
                "allowed: another folder, or --overwrite"
            )


def written_by_us(path: str | os.PathLike[str]) -> bool:
    """Whether a file's content says that mtfa-fast wrote it, or has no content."""
    with open(path, "rb") as file:
        content = file.read(_LOOKED_AT)
        size = os.fstat(file.fileno()).st_size
        if size > 2 * _LOOKED_AT:
            file.seek(-_LOOKED_AT, os.SEEK_END)  # where a PDF says who made it
        content += file.read(_LOOKED_AT)
    return not content or _OURS.match(content) is not None or (content[:4] == b"PK\x03\x04" and _says_inside(path))


def _says_inside(package: str | os.PathLike[str]) -> bool:
    """AOTInductor keeps what it was told about a network in the middle of its archive."""
    try:
        with zipfile.ZipFile(package) as archive:
            told = (i for i in archive.infolist() if i.filename.endswith("metadata.json") and i.file_size < _LOOKED_AT)
            return any(b"mtfa_fast." in archive.read(entry) for entry in told)
    except (zipfile.BadZipFile, OSError, NotImplementedError, RuntimeError):  # damaged, encrypted: somebody's
        return False


def _recordings_suffixes() -> frozenset[str]:
    from ..audio.folders import SUFFIXES

    return SUFFIXES
