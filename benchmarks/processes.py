"""Cold start and memory, each in processes of their own (benchmarks/child.py)."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import child
from benchmarks.contest import Contest
from mtfa_fast.checking.comparison import Check
from mtfa_fast.measuring.checks import Refused, require
from mtfa_fast.measuring.machine import environment
from mtfa_fast.measuring.onnx_peers import export
from mtfa_fast.measuring.rows import Row
from mtfa_fast.measuring.text import is_ours
from mtfa_fast.measuring.timing import Times, in_turns

PRECISIONS = {"mtfa-fast": "", "torch": "bf16", "onnxruntime": "fp32", "openvino": "bf16"}
PACKAGES = {"mtfa-fast": "mtfa_fast"}
FINITE = Check("memory", "", 0.0, 0.0, "every probability is finite")


@contextmanager
def _files(contest: Contest, frames: int) -> Iterator[dict[str, Any]]:
    """The weights, the graph for peers, one clip, and where answers go."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        padded = -(-frames // 8) * 8
        contest.weights.save(folder / "weights.safetensors")
        export(contest.weights, "network", 1, padded, folder / "network.onnx")
        np.save(folder / "input.npy", contest.oracle.input("network", 1, padded))
        yield {
            "weights": str(folder / "weights.safetensors"),
            "onnx": str(folder / "network.onnx"),
            "input": str(folder / "input.npy"),
            "output": str(folder / "output.npy"),
            "shape": [1, padded],
            "threads": contest.threads,
        }


def _blank(contest: Contest, name: str, part: str, frames: int) -> Row:
    package = PACKAGES.get(name, name)
    precision = PRECISIONS[name] or contest.ours[0].precision
    version = f"{name} {environment(contest.threads)['versions'].get(name, '')}".strip()
    absent = "" if find_spec(package) else f"not installed ({package})"
    return Row(f"{name} {precision}", part, 1, frames, precision, version, f"{contest.threads} threads", refused=absent)


def _checked(contest: Contest, row: Row, facts: dict[str, Any]) -> Check:
    yardstick = contest.ours[0].yardstick if is_ours(row) else row.precision
    return require(contest.oracle.check("network", np.load(facts["output"]), row.frames, yardstick))


def cold_rows(contest: Contest) -> list[Row]:
    """Interpreter start to first probabilities of a clip, files in the page cache."""
    rows = []
    with _files(contest, contest.plan.frames) as facts:
        frames = facts["shape"][1]
        admitted: dict[str, Row] = {}
        for name in PRECISIONS:
            row = _blank(contest, name, "cold start", frames)
            try:
                if not row.refused:
                    child.run("cold", name, facts)
                    admitted[name] = Row(**row.__dict__ | {"check": _checked(contest, row, facts)})
                    continue
            except (Refused, RuntimeError) as error:
                row = Row(**row.__dict__ | {"refused": str(error)})
            rows.append(row)

        def run(name: str) -> object:
            return child.run("cold", name, facts)

        calls = {name: (lambda name=name: run(name)) for name in admitted}
        times = in_turns(calls, rounds=max(contest.plan.repeats, 1), least=1, warm=False) if calls else {}
    return [Row(**row.__dict__ | {"times": times[name]}) for name, row in admitted.items()] + rows


def memory_rows(contest: Contest) -> list[Row]:
    """What one clip adds to a process that is ready, and what a long recording adds to ours."""
    rows = []
    with _files(contest, contest.plan.frames) as facts:
        for name in PRECISIONS:
            row = _blank(contest, name, "memory", facts["shape"][1])
            if not row.refused:
                try:
                    found = child.run("memory", name, facts)
                    row = Row(**row.__dict__ | {"check": _checked(contest, row, facts), "memory": found["bytes"]})
                except (Refused, RuntimeError) as error:
                    row = Row(**row.__dict__ | {"refused": str(error)})
            rows.append(row)
        for seconds in (contest.plan.hour / 6, contest.plan.hour):
            given = facts | {"hour": seconds}
            frames = contest.plan.config.features.frame_count(round(seconds) * contest.plan.config.features.sample_rate)
            row = _blank(contest, "mtfa-fast", "long recording", frames)
            found = child.run("memory", "stream", given)
            times = Times((found["seconds"],))
            rows.append(Row(**row.__dict__ | {"check": FINITE, "memory": found["bytes"], "times": times}))
    return rows
