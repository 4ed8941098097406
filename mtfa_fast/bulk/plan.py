"""What is to be done: the table of work, and which of its partitions are not finished."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from .archive import WORK, Archive
from .listing import schema

PARTITION_FILES = 1_000  # recordings of a partition, which is what a killed worker loses
PARTITION_BYTES = 4 << 30  # and beyond so many bytes no further recording
_TABLE_PARTITIONS = 1_000  # of one file of the table, so that its footer stays small


@dataclass(frozen=True)
class Task:
    """A partition as it goes through Ray: where its rows stand, not the rows."""

    partition: int
    table: str
    group: int
    files: int
    size: int  # bytes


def plan(archive: Archive, listing: Any, partition_files: int = PARTITION_FILES) -> list[Task]:
    """Partitions to do: those of earlier runs that are not finished; recordings that are new; those that changed since
    or could not be read, in the partition where they are.

    ``listing``: a table as of :func:`.listing.recordings`. What is new is written to the table of work before it is
    returned.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    finished, done = archive.finished(), archive.done()
    tasks, planned = _unfinished(archive, finished)
    numbers = finished | {task.partition for task in tasks}
    archive.tidy(numbers)
    known = pa.table({"file": pa.chunked_array([*done["file"].chunks, *planned["file"].chunks], pa.large_string())})
    new = listing.join(known, "file", join_type="left anti").sort_by("file")
    both = listing.join(done, "file", join_type="inner", right_suffix=" before")
    differs = pc.or_(
        pc.not_equal(both["size"], both["size before"]), pc.not_equal(both["changed"], both["changed before"])
    )
    again = both.filter(pc.or_(differs, pc.is_valid(both["error"])))
    again = again.sort_by([("partition", "ascending"), ("file", "ascending")])
    groups = list(_by_partition(again))
    first = max(numbers, default=-1) + 1
    groups += [(first + i, rows) for i, rows in enumerate(_cut(new, partition_files))]
    for i in range(0, len(groups), _TABLE_PARTITIONS):
        tasks += _write(archive, groups[i : i + _TABLE_PARTITIONS])
    return tasks


def rows_of(archive: Archive, task: Task) -> Any:
    """The recordings of a task: file, size, changed."""
    import pyarrow.parquet as pq

    with archive.folder.system.open_input_file(archive.folder.at(WORK, task.table)) as file:
        return pq.ParquetFile(file).read_row_group(task.group, columns=schema().names)


def _unfinished(archive: Archive, finished: set[int]) -> tuple[list[Task], Any]:
    """Partitions of the tables that are there, and the names of their recordings."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    tasks, planned = list[Task](), [pa.table({"file": pa.array([], pa.large_string())})]
    for name in archive.folder.names(WORK):
        if not name.startswith("table-"):
            continue
        with archive.folder.system.open_input_file(archive.folder.at(WORK, name)) as opened:
            file = pq.ParquetFile(opened)
            for group in range(file.num_row_groups):
                number = file.metadata.row_group(group).column(0).statistics.min
                if number not in finished:
                    rows = file.read_row_group(group, columns=["file", "size"])
                    tasks.append(_task(number, name, group, rows))
                    planned.append(rows.select(["file"]))
    return tasks, pa.concat_tables(planned)


def _by_partition(rows: Any) -> Iterator[tuple[int, Any]]:
    """Rows in order of their partition -> (its number, its rows)."""
    numbers = rows["partition"].to_pylist()
    begin = 0
    for end in range(1, len(numbers) + 1):
        if end == len(numbers) or numbers[end] != numbers[begin]:
            yield numbers[begin], rows.slice(begin, end - begin)
            begin = end


def _cut(rows: Any, most: int) -> Iterator[Any]:
    """Rows in pieces of at most ``most`` recordings, and of no more bytes than a partition should have."""
    begin = held = 0
    for number, size in enumerate(rows["size"].to_numpy()):
        if number > begin and (number - begin == most or held + size > PARTITION_BYTES):
            yield rows.slice(begin, number - begin)
            begin, held = number, 0
        held += int(size)
    if len(rows):
        yield rows.slice(begin)


def _write(archive: Archive, groups: list[tuple[int, Any]]) -> list[Task]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    name = f"table-{secrets.token_hex(8)}.parquet"
    whole = pa.schema([pa.field("partition", pa.int32()), *schema()])
    buffer = pa.BufferOutputStream()
    with pq.ParquetWriter(buffer, whole, compression="zstd") as writer:
        for number, rows in groups:
            numbers = pa.array([number] * len(rows), pa.int32())
            rows = rows.select(schema().names).add_column(0, "partition", numbers)
            writer.write_table(rows.cast(whole), row_group_size=len(rows))
    archive.folder.write(buffer.getvalue().to_pybytes(), WORK, name)
    return [_task(number, name, group, rows) for group, (number, rows) in enumerate(groups)]


def _task(number: int, table: str, group: int, rows: Any) -> Task:
    import pyarrow.compute as pc

    return Task(number, table, group, len(rows), pc.sum(rows["size"]).as_py() or 0)
