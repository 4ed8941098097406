"""What an archive costs: the parts of `mtfa-fast bulk`, each measured alone, in CPU seconds of one thread.

python -m benchmarks.scale --measure    measures (minutes), writes results/scale.json and what follows in docs/scale.md
python -m benchmarks.scale              writes that again

CPU seconds, because on a busy machine the clock's seconds are others' business; neighbours still make them longer, by
the caches and the cores' second threads, so the load average is noted.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from benchmarks.pages import wrapped
from benchmarks.results_files import RESULTS
from mtfa_fast import Detector
from mtfa_fast.audio import files as audio
from mtfa_fast.files import write_beside, write_json
from mtfa_fast.measuring.machine import environment

ROOT = Path(__file__).resolve().parents[1]
FILE, PAGE = RESULTS / "scale.json", ROOT / "docs" / "scale.md"
MINUTES = 3  # of audio in each file
RECORDINGS = 1_000_000  # of the plan
HOURS = 1_000_000
FORMATS: dict[str, tuple[str, int, int, str | None]] = {  # name -> suffix, rate, channels, subtype
    "WAV, 44.1 kHz, mono, 16 bits": ("wav", 44_100, 1, "PCM_16"),
    "WAV, 48 kHz, stereo, 16 bits": ("wav", 48_000, 2, "PCM_16"),
    "FLAC, 48 kHz, mono": ("flac", 48_000, 1, "PCM_16"),
    "MP3, 44.1 kHz, mono": ("mp3", 44_100, 1, None),
}


def cpu_seconds(work: Callable[[], object], rounds: int = 3) -> float:
    """Of the process, all threads; the least of some rounds, which neighbours disturbed least."""
    times = []
    for _ in range(rounds):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return min(times)


def sound(rate: int, channels: int) -> np.ndarray:
    """Noise with slow waves of loudness, which compresses as outdoor recordings do: not at all well."""
    rng = np.random.default_rng(0)
    time_ = np.arange(MINUTES * 60 * rate) / rate
    loudness = 0.02 + 0.02 * np.sin(2 * np.pi * 0.1 * time_)
    noise = rng.normal(size=(len(time_), channels)) * loudness[:, None]
    return noise.astype(np.float32)


def measure() -> dict[str, Any]:
    per_hour = 60 / MINUTES
    found: dict[str, Any] = {"formats": {}, "engine": {}, "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        for name, (suffix, rate, channels, subtype) in FORMATS.items():
            path = Path(folder, f"a{len(found['formats'])}.{suffix}")
            soundfile.write(path, sound(rate, channels), rate, subtype=subtype)

            def decode(path: Path = path) -> None:
                for _ in audio.blocks(path, 44_100):
                    pass

            found["formats"][name] = {
                "cpu seconds": cpu_seconds(decode) * per_hour,
                "megabytes": path.stat().st_size / 1e6 * per_hour,
            }
        whole = Path(folder, "a0.wav")
        for precision in ("fp32", "bf16"):
            try:
                detector = Detector.from_pretrained(precision=precision, threads=1)
            except ValueError:  # not on this CPU
                continue
            detector(whole)
            seconds = cpu_seconds(lambda detector=detector: detector(whole)) * per_hour  # type: ignore[misc]
            decoding = found["formats"]["WAV, 44.1 kHz, mono, 16 bits"]["cpu seconds"]
            found["engine"][precision] = {"cpu seconds": seconds - decoding}
    child = [sys.executable, "-m", "benchmarks.scale", "--plan"]
    found["plan"] = json.loads(subprocess.run(child, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    found["load after"] = os.getloadavg()[0]
    return found


def plan_much() -> dict[str, float]:
    """A plan of a million recordings, all new, and again when all are finished; what a part takes on disk."""
    import pyarrow as pa

    from mtfa_fast.bulk import listing, plan
    from mtfa_fast.bulk.archive import FILES, WORK, Archive
    from mtfa_fast.bulk.storage import folder

    with tempfile.TemporaryDirectory() as place:
        archive = Archive(folder("destination", place))
        names = [f"s3://bucket/site-{i // 10_000:03d}/recorder-{i // 100 % 100:02d}/20240101_{i:06d}.wav"
                 for i in range(RECORDINGS)]  # fmt: skip
        rows = {"file": names, "size": np.full(RECORDINGS, 10_000_000), "changed": np.arange(RECORDINGS)}
        table = pa.table(rows, schema=listing.schema())
        del names, rows
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begin = time.process_time()
        tasks = plan.plan(archive, table)
        first = time.process_time() - begin
        work = sum(p.stat().st_size for p in Path(place, WORK).iterdir())
        for task in tasks:
            archive.write(task.partition, *([rows] for rows in _finished(plan.rows_of(archive, task), task.partition)))
        sizes = {
            room: sum(p.stat().st_size for p in Path(place, room).iterdir()) / RECORDINGS for room in ("events", FILES)
        }
        archive.forget_work()
        begin = time.process_time()
        assert plan.plan(archive, table) == []
        again = time.process_time() - begin
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "recordings": RECORDINGS,
        "partitions": len(tasks),
        "cpu seconds": first,
        "cpu seconds when finished": again,
        "megabytes": (most - before) / 1e3,
        "bytes of work": work / RECORDINGS,
        "bytes of a recording": sizes[FILES],
        "bytes of an event": sizes["events"],
    }


def _finished(rows: Any, partition: int) -> tuple[Any, Any]:
    """Tables of events and of recordings as a worker writes them: an event in each recording."""
    import pyarrow as pa

    from mtfa_fast.bulk.archive import files_schema
    from mtfa_fast.events import parquet

    count = len(rows)
    rng = np.random.default_rng(partition)
    onsets = np.round(rng.uniform(0, 58, count) / 0.02) * 0.02
    labels = rng.choice(["babycry", "glassbreak", "gunshot"], count)
    scores, nothing = rng.uniform(0.3, 1, count).astype(np.float32), [None] * count
    events = [rows["file"], onsets, onsets + 1.3, labels, scores, nothing, nothing]
    ones, minutes, names = np.ones(count, np.int32), np.full(count, 60.0), ["avx512 bf16"] * count
    files = [rows["file"], partition * ones, rows["size"], rows["changed"], minutes, ones, nothing, nothing, names]
    return pa.table(events, schema=parquet.schema()), pa.table(files, schema=files_schema())


def parts(found: dict[str, Any]) -> str:
    """What an hour of audio costs."""
    lines = ["| an hour of audio | CPU seconds | hours of audio a core-hour | MB |", "| --- | ---: | ---: | ---: |"]
    for precision, row in found["engine"].items():
        lines.append(f"| network, shipped weights, {precision} | {_cells(row['cpu seconds'])} | |")
    for name, row in found["formats"].items():
        lines.append(f"| decoding {name} | {_cells(row['cpu seconds'])} | {row['megabytes']:.0f} |")
    return "\n".join(lines) + "\n"


def million(found: dict[str, Any]) -> str:
    """What a million hours need, with the fastest precision."""
    network = min(row["cpu seconds"] for row in found["engine"].values())
    lines = [
        "| a million hours of | core-hours | on 64 cores | terabytes | MB/s that keep a core busy |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name, row in found["formats"].items():
        core = network + row["cpu seconds"]
        hours = HOURS * core / 3_600
        days = f"{hours / 64 / 24:.1f} days"
        read = row["megabytes"] / core
        lines.append(f"| {name} | {hours:,.0f} | {days} | {row['megabytes'] * HOURS / 1e6:.0f} | {read:.1f} |")
    return "\n".join(lines) + "\n"


def measured(found: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {found['versions'][name]}" for name in ("python", "numpy"))
    return (
        f"*{found['device']}, one thread, {found['date'][:10]}, commit {found['commit'][:7]}; {versions}; load average "
        f"{found['load']:.1f} before and {found['load after']:.1f} after on {found['cores']} cores; least of three. "
        "Noise that does not compress. `python -m benchmarks.scale --measure`*\n"
    )


def driver(found: dict[str, Any]) -> str:
    plan = found["plan"]
    sizes = [f"{plan[f'bytes of {what}']:.0f}" for what in ("a recording", "an event", "work")]
    return (
        f"A plan of {plan['recordings']:,} recordings takes it {plan['cpu seconds']:.0f} CPU seconds and "
        f"{plan['megabytes']:.0f} MB; when all are finished, {plan['cpu seconds when finished']:.0f} find that "
        f"nothing is left. On disk a recording takes {sizes[0]} bytes of `files`, an event {sizes[1]} of `events`, "
        f"and meanwhile a recording {sizes[2]} in the table of work.\n"
    )


def gpu(found: dict[str, Any]) -> str:
    lines = ["| of | cores that decode | MB/s |", "| --- | ---: | ---: |"]
    for name, row in found["formats"].items():
        lines.append(f"| {name} | {1_000 * row['cpu seconds'] / 3_600:.1f} | {1_000 * row['megabytes'] / 3_600:.0f} |")
    return "\n".join(lines) + "\n"


def _cells(seconds: float) -> str:
    return f"{seconds:.1f} | {3_600 / seconds:,.0f}"


def render() -> None:
    found = json.loads(FILE.read_text(encoding="utf-8"))
    text = PAGE.read_text(encoding="utf-8")
    for write in (parts, measured, million, driver, gpu):
        mark, content = write.__name__, wrapped(write(found))
        before, start, rest = text.partition(f"<!-- {mark}: start -->\n")
        text = before + start + content + f"<!-- {mark}: end -->" + rest.partition(f"<!-- {mark}: end -->")[2]
    with write_beside(PAGE) as file:
        file.write(text)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true")
    parser.add_argument("--plan", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.plan:
        print(json.dumps(plan_much()))
        return 0
    if options.measure:
        write_json(FILE, environment(1) | measure())
    render()
    return 0


if __name__ == "__main__":
    sys.exit(main())
