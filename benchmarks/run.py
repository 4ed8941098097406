"""One command that measures everything on a CPU, section by section; a section that is done can be left out later.

python -m benchmarks.run                          all sections, some thirty-five minutes on two quiet cores
python -m benchmarks.run --only headline,stages   these; results of the others stay as they are
python -m benchmarks.report                       the tables and the plots from the results
python -m benchmarks.compare A B                  whether two runs (--out A, --out B) found the same ratios
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import audio, networks, processes, search, training
from benchmarks.contest import Contest, Plan
from benchmarks.results_files import RESULTS, save
from mtfa_fast.measuring.machine import environment, rooflines
from mtfa_fast.measuring.peers import peers
from mtfa_fast.measuring.rows import Row, fastest
from mtfa_fast.measuring.run import engines
from mtfa_fast.measuring.text import disturbance, is_ours, line


def stages(contest: Contest) -> list[Row]:
    """Spectrogram to gated and pooled maps; recurrent layers and head; samples to spectrogram."""
    return [*contest.stages["trunk"], *contest.stages["recurrent"], *audio.log_mel_rows(contest)]


def headline(contest: Contest) -> list[Row]:
    """Spectrogram to probabilities, the best combination of peers among them; wave file to events."""
    best_peers = [*contest.peers, *contest.chains()]
    rows = contest.compare([*contest.ours, *best_peers], "network", frames=contest.plan.frames)
    best = fastest(rows, among=lambda row: not is_ours(row))
    peer = next((peer for peer in best_peers if best and peer.name == best.name), None)
    return [*rows, *audio.wave_rows(contest, peer)]


def batches(contest: Contest) -> list[Row]:
    """Throughput: more clips at a time, each of a training chunk's length."""
    plan = contest.plan
    return _growing(contest, [{"batch": batch, "frames": plan.batch_frames} for batch in plan.batches])


def lengths(contest: Contest) -> list[Row]:
    """Cost against length, up to an hour in one piece."""
    return _growing(contest, [{"frames": frames} for frames in contest.plan.lengths])


def _growing(contest: Contest, shapes: list[dict[str, int]]) -> list[Row]:
    """Everybody on the smallest shape, from then on ours and the fastest two peers, in the end ours alone."""
    plan, rows = contest.plan, list[Row]()
    others = contest.quick_peers()
    for shape in shapes:
        frames = shape.get("batch", 1) * shape["frames"]
        fits = frames <= plan.peer_frames
        contestants = [*contest.ours, *others] if fits else contest.ours[:1]
        timing: dict[str, Any] = {"seconds": plan.seconds / 16, "least": 2 if fits else 1}
        found = contest.compare(contestants, "network", **timing, **shape)
        rows += found
        theirs = sorted((row.times.median, row.name) for row in found if row.times and not is_ours(row))
        others = [peer for peer in others if peer.name in {name for _, name in theirs[:2]}]
    return rows


def threads(contest: Contest) -> list[Row]:
    """The clip with fewer threads."""
    rows = []
    for count in sorted({1, max(contest.threads // 2, 1)} - {contest.threads}):
        few = [*engines(contest.weights, "auto", count), *peers(contest.weights, count)[0]]
        few = [one for one in few if not one.name.startswith("torch")]
        rows += contest.compare(few, "network", frames=contest.plan.frames, rounds=contest.plan.least)
    return rows


SECTIONS: dict[str, Callable[[Contest], list[Row]]] = {
    "stages": stages,
    "headline": headline,
    "shipped": networks.shipped_rows,
    "instruction_sets": networks.instruction_set_rows,
    "batches": batches,
    "lengths": lengths,
    "threads": threads,
    "training": training.rows,
    "memory": processes.memory_rows,
    "cold": processes.cold_rows,
    "search": search.rows,
}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(SECTIONS), help="sections, separated by commas: %(default)s")
    parser.add_argument("--threads", type=int, help="default: the cores this process may use")
    parser.add_argument("--out", type=Path, default=RESULTS, help="default: benchmarks/results")
    parser.add_argument("--seconds", type=float, help="after which a comparison ends, default: 150")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try everything; writes only with --out")
    options = parser.parse_args(arguments)
    wanted = options.only.split(",")
    if unknown := set(wanted) - set(SECTIONS):
        parser.error(f"--only: got {', '.join(sorted(unknown))}, allowed: {', '.join(SECTIONS)}")
    if options.small and options.out == RESULTS:
        parser.error("--small: its times mean nothing; give --out another folder")
    plan = Plan.small() if options.small else Plan()
    if options.seconds is not None:
        plan = dataclasses.replace(plan, seconds=options.seconds)
    contest = Contest(plan, options.threads, progress=lambda text: print(f"  {text}", file=sys.stderr, flush=True))
    for name in wanted:
        start, load = time.perf_counter(), os.getloadavg()[0]
        print(f"{name} (load average {load:.2f})", file=sys.stderr, flush=True)
        peak = rooflines(contest.threads)
        rows = SECTIONS[name](contest)
        facts = {"load": load, "rooflines": peak, "missing": contest.missing}
        path = save(options.out, name, environment(contest.threads), rows, **facts)
        for row in rows:
            print(line(row))
        if warning := disturbance(rows):
            print(f"  {warning}")
        print(f"  {path} after {time.perf_counter() - start:.0f} s", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
