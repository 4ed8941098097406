"""An archive of any size to a dataset of events: the plan, the workers on Ray Data, and what they report."""

from __future__ import annotations

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from ..arguments import require, require_int
from ..audio.levels import Channel, require_channel
from ..events.result import decide
from ..files import file_digest
from ..weights import Weights, find
from . import listing
from .archive import Archive
from .cluster import cluster, ray, require_reachable
from .plan import PARTITION_FILES, Task, plan
from .storage import folder
from .worker import Report, Worker

if TYPE_CHECKING:
    from ..engine.cpu import Precision

MEMORY = 0.25  # GB of a recording's frames that stay in memory, 40 minutes: many workers share a machine
GPU_CPUS = 4  # of a worker with a GPU, which decode for it
LOCAL_JOBS, REMOTE_JOBS = 2, 4  # recordings of a worker at a time: decoding one, or waiting for its store
_MOST_BLOCKS = 10_000  # of Ray Data's input; beyond, partitions go in groups
_RAISED = re.compile(r"^(?!ray\.)\w[\w.]*(?:Error|Exception): .+$", re.MULTILINE)
Heard = Callable[[Report, int, int], None]  # a partition's report; bytes heard so far, and in all
Begun = Callable[["Summary", int], None]  # what there is to do, and by how many workers


@dataclass
class Summary:
    """A run, as far as it came. ``problems``: what could not be listed."""

    listed: int = 0  # recordings in the source
    skipped: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    before: int = 0  # recordings that were finished by earlier runs
    files: int = 0  # recordings heard
    failed: int = 0  # of them, that could not be read
    events: int = 0
    seconds: float = 0.0  # of audio
    work: float = 0.0  # seconds of all workers together


def detect(
    source: str | os.PathLike[str],
    destination: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] = "rare-events",
    address: str | None = None,
    workers: int | None = None,
    cpus: int | None = None,
    device: str = "cpu",
    precision: Precision = "auto",
    channel: Channel = "mean",
    threshold: float | Mapping[str, float] | None = None,
    memory: float | None = None,
    partition_files: int = PARTITION_FILES,
    filesystem: Any = None,
    begun: Begun | None = None,
    heard: Heard | None = None,
) -> Summary:
    """Events of all recordings below ``source``, as Parquet in ``destination/events`` and ``destination/files``.

    Both are paths or URIs (``s3://bucket/folder``), or paths on ``filesystem``, of pyarrow or fsspec. ``address``: None
    for a Ray of this process on this machine, ``"auto"`` or ``"HOST:PORT"`` for a cluster, where package and paths must
    be the same on every node. ``cpus``: of a worker, and as many threads; default 1, with ``device="cuda"``, which asks
    for a GPU each, 4. ``workers``: default, as many as fit. ``memory``: as of the detector, default 0.25. ``begun`` and
    ``heard`` are called before the first partition and after each.

    The same call goes on with what an earlier one did not finish, and hears what is new, what changed and what could
    not be read then. Raises ValueError naming an argument, ConnectionError for an address where no Ray is, ImportError,
    OSError, RuntimeError where a worker fails for another reason than its recording.
    """
    require(device in ("cpu", "cuda"), "device", device, "'cpu', 'cuda'")
    require_int("partition_files", partition_files, 1)
    cpus = (1 if device == "cpu" else GPU_CPUS) if cpus is None else cpus
    require_int("cpus", cpus, 1)
    if workers is not None:
        require_int("workers", workers, 1)
    require(memory is None or device == "cpu", "memory", memory, "none with device 'cuda'")
    require_channel(channel)
    ray()
    require_reachable(address)
    path = find(weights)
    loaded = Weights.load(path)
    loaded = dataclasses.replace(loaded, config=decide(loaded.config, threshold=threshold))
    here, archive = folder("source", source, filesystem), Archive(folder("destination", destination, filesystem))
    settings = {
        "source": here.name,
        "weights": file_digest(path),
        "decisions": [c.to_dict() for c in loaded.config.classes],
        "device": device,
        "precision": precision,
        "channel": channel,
    }
    options: dict[str, Any] = {"device": device, "precision": precision, "channel": channel}
    if device == "cpu":
        options |= {"threads": cpus, "memory": MEMORY if memory is None else memory}
    jobs = max(LOCAL_JOBS if here.local else REMOTE_JOBS, cpus if device == "cuda" else 0)
    made = {"archive": archive, "source": here, "weights": loaded, "jobs": jobs, "options": options}
    gpus = int(device == "cuda")
    try:
        with ExitStack() as stack:
            # A cluster first, because it may not be there; a Ray of our own last, because it takes seconds to start.
            pool = stack.enter_context(cluster(address, workers, cpus, gpus)) if address else 0
            found = listing.recordings(here)
            archive.begin(settings)
            stack.enter_context(archive.alone())
            summary = Summary(found.table.num_rows, found.skipped, found.problems)
            tasks = plan(archive, found.table, partition_files)
            summary.before = max(0, summary.listed - sum(task.files for task in tasks))
            del found  # 100 bytes a recording
            if tasks:
                pool = min(pool or stack.enter_context(cluster(None, workers, cpus, gpus)), len(tasks))
                if begun:
                    begun(summary, pool)
                _work(tasks, made, pool, cpus, gpus, summary, heard)
            archive.forget_work()
    except KeyboardInterrupt:
        archive.forget_begun()
        raise
    return summary


def _work(
    tasks: list[Task],
    made: dict[str, Any],
    workers: int,
    cpus: int,
    gpus: int,
    summary: Summary,
    heard: Heard | None,
) -> None:
    data = ray().data
    context = data.DataContext.get_current().copy()
    context.enable_progress_bars = False
    total, done = sum(task.size for task in tasks), 0
    with data.DataContext.current(context):
        dataset = data.from_items([asdict(task) for task in tasks], override_num_blocks=min(len(tasks), _MOST_BLOCKS))
        reports = dataset.map_batches(
            Worker,
            batch_size=1,
            fn_constructor_kwargs=made,
            compute=data.ActorPoolStrategy(size=workers),
            num_cpus=cpus,
            num_gpus=gpus or None,
        )
        try:
            for row in reports.iter_rows():
                report = Report(**row)
                summary.files += report.files
                summary.failed += report.failed
                summary.events += report.events
                summary.seconds += report.seconds
                summary.work += report.taken
                done += report.size
                if heard:
                    heard(report, done, total)
        except ray().exceptions.RayError as error:
            raise RuntimeError(f"a worker failed: {_first_cause(error)}") from error


def _first_cause(error: BaseException) -> str:
    """Of an error as Ray tells it, with the worker's traceback: what was raised first."""
    raised = _RAISED.findall(str(error))
    return raised[0] if raised else str(error).strip().partition("\n")[0] or type(error).__name__
