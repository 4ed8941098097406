"""Where an archive's events go: two Parquet datasets, in parts that are written whole, and the run that makes them.

::

    DEST/_run.json                        what every part was made with; another run is refused
    DEST/_work/table-<any>.parquet        the table of work, a row group a partition; gone when all is finished
    DEST/_work/begun-00000012.json        a partition at work: who dies there is found out (worker.py)
    DEST/events/part-00000012.parquet     all events of a partition
    DEST/files/part-00000012.parquet      then its recordings: this file says that the partition is finished

A partition has its name and its recordings from the table of work, which is never changed. So whoever does it, and
however often, writes the same two files, and nothing is ever there twice. Readers of ``events`` and ``files`` pass over
names that begin with ``_`` or ``.``.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..events import parquet as events
from ..files import TEMPORARY
from .storage import Folder

EVENTS, FILES, WORK, RUN = "events", "files", "_work", "_run.json"
FORMAT = "mtfa-fast bulk 1"
_PART = re.compile(r"part-(\d{8,})\.parquet")
_BEGUN = re.compile(r"begun-\d{8,}\.json")


def files_schema() -> Any:
    """The columns of ``files``: one row a recording.

    ========= =================== ====================================================================
    file      string              its name, as in ``events``
    partition int32               the number of the parts it is in
    size      int64               bytes, and
    changed   timestamp[us, UTC]  time of change, when it was listed: another one is heard again
    duration  float64             seconds; null where it could not be read
    events    int32
    error     string              why it could not be read, else null
    warning   string              what was wrong with it although it was used, else null
    engine    string              what computed: instruction set and precision
    ========= =================== ====================================================================
    """
    import pyarrow as pa

    columns = [
        ("file", pa.string()),
        ("partition", pa.int32()),
        ("size", pa.int64()),
        ("changed", pa.timestamp("us", "UTC")),
        ("duration", pa.float64()),
        ("events", pa.int32()),
        ("error", pa.string()),
        ("warning", pa.string()),
        ("engine", pa.string()),
    ]
    return pa.schema(columns, metadata={b"made by": b"mtfa-fast bulk"})


def part(number: int) -> str:
    return f"part-{number:08d}.parquet"


def begun(number: int) -> str:
    return f"begun-{number:08d}.json"


@dataclass(frozen=True)
class Archive:
    """DEST, here or on a worker's machine."""

    folder: Folder

    def begin(self, settings: dict[str, Any]) -> None:
        """Make it, or go on with it. ValueError where it is something else, or was made with other settings."""
        settings = json.loads(json.dumps(settings))
        content = self.folder.read(RUN)
        if content is None:
            self._require_empty()
            self._begin(settings)
            return
        try:
            run = json.loads(content)
            before = run["settings"] if run["format"] == FORMAT else None
        except (ValueError, KeyError, TypeError):
            before = None
        if not isinstance(before, dict):
            raise ValueError(f"destination: {self.folder.at(RUN)} is of no run of this version; allowed: another place")
        changed = sorted(name for name in settings.keys() | before.keys() if settings.get(name) != before.get(name))
        if changed and not self.finished():  # of a run that came to nothing, perhaps because of them
            self.forget_work()
            self._begin(settings)
        elif changed:
            raise ValueError(
                f"destination: {self.folder.name} was made with other {', '.join(changed)}; "
                "allowed: the same, or another place"
            )

    def _begin(self, settings: dict[str, Any]) -> None:
        self.folder.write(json.dumps({"format": FORMAT, "settings": settings}, indent=1).encode(), RUN)

    def _require_empty(self) -> None:
        import pyarrow.fs as pafs

        if (kind := self.folder.kind()) == "file":
            raise ValueError(f"destination: got the file {self.folder.name}, allowed: a folder")
        if kind and self.folder.system.get_file_info(pafs.FileSelector(self.folder.path)):
            raise ValueError(
                f"destination: {self.folder.name} holds files of no run that mtfa-fast knows; allowed: an empty folder"
            )

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No other run on a local file system works here meanwhile; ValueError where one does. Stores cannot tell."""
        if not self.folder.local:
            yield
            return
        import fcntl

        descriptor = os.open(self.folder.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ValueError(f"destination: another run is writing to {self.folder.name}") from None
            yield
        finally:
            os.close(descriptor)

    def finished(self) -> set[int]:
        """The partitions that are finished."""
        return {int(match[1]) for name in self.folder.names(FILES) if (match := _PART.fullmatch(name))}

    def tidy(self, known: set[int]) -> None:
        """Remove what killed runs left: files written half, events of partitions that no table of work knows."""
        for room in (EVENTS, FILES, WORK):
            for name in self.folder.names(room):
                number = _PART.fullmatch(name)
                orphan = room == EVENTS and number and int(number[1]) not in known
                if name.startswith(TEMPORARY) or orphan:
                    self.folder.remove(room, name)

    def forget_begun(self) -> None:
        """Of a run that was asked to end: nobody died."""
        for name in self.folder.names(WORK):
            if _BEGUN.fullmatch(name):
                self.folder.remove(WORK, name)

    def forget_work(self) -> None:
        """All is finished."""
        for name in self.folder.names(WORK):
            self.folder.remove(WORK, name)

    def done(self) -> Any:
        """What ``files`` says of every recording: file, partition, size, changed, error."""
        import pyarrow as pa
        import pyarrow.dataset as ds

        paths = [self.folder.at(FILES, part(number)) for number in sorted(self.finished())]
        dataset = ds.dataset(paths, schema=files_schema(), format="parquet", filesystem=self.folder.system)
        table = dataset.to_table(columns=["file", "partition", "size", "changed", "error"])
        return table.set_column(0, "file", table["file"].cast(pa.large_string()))

    def read(self, number: int) -> tuple[Any, Any] | None:
        """A finished partition's events and recordings."""
        import pyarrow.parquet as pq

        recordings = self.folder.read(FILES, part(number))
        if recordings is None:
            return None
        found = self.folder.read(EVENTS, part(number))
        if found is None:
            raise FileNotFoundError(f"{self.folder.at(EVENTS, part(number))}: gone, and its recordings count as heard")
        return pq.read_table(io.BytesIO(found)), pq.read_table(io.BytesIO(recordings))

    def write(self, number: int, found: Iterable[Any], recordings: Iterable[Any]) -> None:
        """A partition's tables of events and of recordings: from then on it is finished."""
        self.folder.write(_parquet(found, events.schema()), EVENTS, part(number))
        self.folder.write(_parquet(recordings, files_schema()), FILES, part(number))


def _parquet(tables: Iterable[Any], schema: Any) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(pa.concat_tables([schema.empty_table(), *tables]).cast(schema), buffer, compression="zstd")
    return buffer.getvalue()
