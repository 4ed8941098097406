"""One partition: its recordings heard, its two files written. What Ray Data makes an actor of."""

from __future__ import annotations

import dataclasses
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from ..audio import clock
from ..audio.errors import AudioWarning
from ..detector import Detector
from ..events import parquet as events
from ..events.result import Result
from ..weights import Weights
from .archive import Archive, files_schema
from .plan import Task, rows_of
from .storage import Folder, recording
from .watch import Watch

ERRORS_TOLD = 5  # of a partition on the terminal; all stand in the dataset of files


@dataclass(frozen=True)
class Report:
    """What was done of a partition; ``failed`` of its ``files`` could not be read."""

    partition: int
    files: int
    failed: int
    events: int
    seconds: float  # of audio
    size: int  # bytes of the recordings
    taken: float  # seconds of work
    errors: list[str]  # of the first that failed
    careful: bool  # an earlier worker died, or was stopped, before its end


class Worker:
    """A detector, and where it reads and writes. Called with a batch of tasks, column by column; answers reports."""

    def __init__(self, archive: Archive, source: Folder, weights: Weights, jobs: int, options: dict[str, Any]) -> None:
        self._archive, self._source, self._jobs = archive, source, jobs
        self._detector = Detector(weights, **options)
        facts = self._detector.explain()
        self._engine = " ".join(str(facts[name]) for name in ("device", "isa", "precision") if name in facts)

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        tasks = zip(*(batch[field.name] for field in dataclasses.fields(Task)), strict=True)
        reports = [self.work(Task(int(p), str(t), int(g), int(n), int(s))) for p, t, g, n, s in tasks]
        return {field.name: [getattr(r, field.name) for r in reports] for field in dataclasses.fields(Report)}

    def work(self, task: Task) -> Report:
        """Do a partition. What somebody did of it stays, but for recordings that changed or could not be read."""
        import pyarrow as pa
        import pyarrow.compute as pc

        start = time.perf_counter()
        todo, before = rows_of(self._archive, task).to_pylist(), self._archive.read(task.partition)
        kept_events, kept = list[Any](), list[Any]()
        if before:
            found, recordings = before
            done = {row["file"]: row for row in recordings.to_pylist()}
            todo = [row for row in todo if not _is_done(row, done.get(row["file"]))]
            again = pa.array([row["file"] for row in todo], pa.string())
            kept.append(recordings.filter(pc.invert(pc.is_in(recordings["file"], again))))
            kept_events.append(found.filter(pc.is_in(found["file"], kept[0]["file"].combine_chunks())))
            if not todo:
                return Report(task.partition, 0, 0, 0, 0.0, 0, 0.0, [], False)
        watch = Watch(self._archive, task.partition)
        rows, answers = list[dict[str, Any]](), events.columns([])
        for row, answer, warned in self._answers(todo, watch):
            failed = isinstance(answer, str)
            if isinstance(answer, Result):
                for name, values in events.columns([(answer.source, answer.events, answer.start)]).items():
                    answers[name] += values
            facts = {
                "partition": task.partition,
                "duration": answer.duration if isinstance(answer, Result) else None,
                "events": len(answer.events) if isinstance(answer, Result) else 0,
                "error": answer if failed else None,
                "warning": "; ".join(warned) or None,
                "engine": self._engine,
            }
            rows.append(row | facts)
        table = pa.Table.from_pylist(rows, files_schema())
        self._archive.write(task.partition, [*kept_events, pa.table(answers, events.schema())], [*kept, table])
        watch.close()
        errors = [f"{row['file']}: {row['error']}" for row in rows if row["error"]]
        return Report(
            partition=task.partition,
            files=len(rows),
            failed=len(errors),
            events=len(answers["file"]),
            seconds=sum(row["duration"] or 0.0 for row in rows),
            size=sum(row["size"] for row in rows),
            taken=time.perf_counter() - start,
            errors=errors[:ERRORS_TOLD],
            careful=watch.careful,
        )

    def _answers(
        self, rows: list[dict[str, Any]], watch: Watch
    ) -> Iterator[tuple[dict[str, Any], Result | str, list[str]]]:
        """Each row with its result, or why there is none, and what was warned of. One by one for who is careful."""
        # Not by catch_warnings alone: the detector's threads warn, too, of any recording at work.
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", AudioWarning)
            if not watch.careful:
                yield from self._detect(rows, caught)
                return
            for row in rows:
                if reason := watch.begin(row["file"]):
                    yield row, reason, []
                else:
                    yield from self._detect([row], caught)

    def _detect(
        self, rows: list[dict[str, Any]], caught: list[warnings.WarningMessage]
    ) -> Iterator[tuple[dict[str, Any], Result | str, list[str]]]:
        opened = (self._open(row["file"]) for row in rows)
        for row, (file, answer) in zip(rows, self._detector.detect_files(opened, jobs=self._jobs), strict=True):
            name = row["file"]
            warned = [text for w in caught if (text := str(w.message)).startswith(f"{name}: ")]
            caught[:] = [w for w in caught if not str(w.message).startswith(f"{name}: ")]
            if isinstance(answer, Exception):
                yield row, _reason(answer, name), _without(name, warned)
            else:
                if not isinstance(file, str):
                    answer = dataclasses.replace(answer, start=clock.start_of_open(file, row["size"], name))
                yield row, answer, _without(name, warned)
            if not isinstance(file, str):
                file.close()

    def _open(self, name: str) -> str | BinaryIO:
        if self._source.local:
            return name
        return recording(self._source.system, name.removeprefix(self._source.prefix), name)


def _is_done(row: dict[str, Any], before: dict[str, Any] | None) -> bool:
    """Whether the recording as it was listed is the one that was heard."""
    return before is not None and before["error"] is None and all(row[k] == before[k] for k in ("size", "changed"))


def _reason(error: Exception, name: str) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    return text.removeprefix(f"{name}: ")


def _without(name: str, texts: list[str]) -> list[str]:
    return [text.removeprefix(f"{name}: ") for text in texts]
