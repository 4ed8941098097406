"""Which recordings an archive holds: name, size and time of change of each, in an Arrow table (some 100 bytes each)."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from ..audio.folders import no_recording, walk
from ..files import encoded, is_hidden
from .storage import Folder

_BATCH = 50_000  # rows that are Python objects before they become a piece of the table


@dataclass
class Listing:
    """``table``: file, size in bytes, changed in UTC; ``skipped``: reason -> how many; ``problems``: what was not."""

    table: Any
    skipped: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def schema() -> Any:
    """Names are large strings: those of 20 million recordings exceed the 2 GB of plain ones."""
    import pyarrow as pa

    return pa.schema([("file", pa.large_string()), ("size", pa.int64()), ("changed", pa.timestamp("us", "UTC"))])


def recordings(source: Folder) -> Listing:
    """Of a folder and all below it, in order of name, or of one file. Hidden files and folders are passed over.

    A folder that cannot be listed is a problem, not the end. ValueError where there is nothing at ``source``.
    """
    import pyarrow as pa

    try:
        kind = source.kind()
    except OSError as error:
        raise ValueError(f"source: {source.name}: {error}") from None
    if not kind:
        raise ValueError(f"source: no such file or folder: {source.name}")
    listing = Listing(None)
    found = _one(source) if kind == "file" else _local(source, listing) if source.local else _remote(source, listing)
    pieces: list[Any] = [schema().empty_table()]
    batch: list[tuple[str, int, int]] = []

    def settle() -> None:
        columns = [list(column) for column in zip(*batch, strict=True)]
        pieces.append(pa.table(columns, schema()))
        batch.clear()

    for name, size, changed in found:
        try:
            name.encode()
        except UnicodeEncodeError:
            listing.problems.append(f"{encoded(name).decode()}: its name is not UTF-8, and no table can hold it")
            continue
        batch.append((name, size, changed))
        if len(batch) == _BATCH:
            settle()
    if batch:
        settle()
    listing.table = pa.concat_tables(pieces)
    return listing


def _one(source: Folder) -> Iterator[tuple[str, int, int]]:
    info = source.system.get_file_info(source.path)
    yield source.name, info.size or 0, (info.mtime_ns or 0) // 1000


def _local(source: Folder, listing: Listing) -> Iterator[tuple[str, int, int]]:
    def unreadable(error: OSError) -> None:
        listing.problems.append(f"{error.filename}: {error.strerror}")

    def passed_over(reason: str) -> None:
        listing.skipped[reason] += 1

    for path in walk(source.path, unreadable=unreadable, passed_over=passed_over):
        if not _is_audio(os.path.basename(path), listing):
            continue
        try:
            facts = os.stat(path)
        except OSError:  # a link that leads nowhere: unreadable, as whoever opens it will say
            yield path, 0, 0
            continue
        if os.path.isfile(path):
            yield path, facts.st_size, facts.st_mtime_ns // 1000
        else:
            listing.skipped["pipes and devices"] += 1


def _remote(source: Folder, listing: Listing) -> Iterator[tuple[str, int, int]]:
    """Folder by folder: a store lists a million names in one answer, but need not."""
    import pyarrow.fs as pafs

    waiting = [source.path]
    while waiting:
        path = waiting.pop()
        try:
            infos = source.system.get_file_info(pafs.FileSelector(path))
        except OSError as error:
            listing.problems.append(f"{source.prefix}{path}: {error}")
            continue
        infos.sort(key=lambda info: info.path)
        below = [i.path for i in infos if i.type == pafs.FileType.Directory and not is_hidden(PurePath(i.base_name))]
        waiting += reversed(below)
        for info in infos:
            if info.type == pafs.FileType.File and _is_audio(info.base_name, listing):
                yield source.prefix + info.path, info.size or 0, (info.mtime_ns or 0) // 1000


def _is_audio(name: str, listing: Listing) -> bool:
    if reason := no_recording(name):
        listing.skipped[reason] += 1
    return not reason
