"""ONNX Runtime against itself: the network and its recurrent part in versions that lie in different environments.

python -m benchmarks.onnxruntime_versions PYTHON PYTHON     interpreters that have numpy and an onnxruntime each

Each interpreter answers in a process of its own, in turns, and must answer what the first one does. Prints medians and
the ratio to the first; a call's child is this file, run without the rest of the project.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

PARTS = "recurrent", "network"
CALLS = {"recurrent": 10, "network": 2}  # of a turn; the least of them counts
TOLERANCE = 1e-4


def child(folder: str, threads: str) -> None:
    """Reads names of parts from standard input, a line each; answers seconds a call."""
    import numpy as np
    import onnxruntime as ort

    sessions, given = {}, {}
    for part in PARTS:
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = int(threads), 3
        # Workers that looked for work after a call would do so on the core of the other version.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        path = f"{folder}/{part}.onnx"
        sessions[part] = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        given[part] = {sessions[part].get_inputs()[0].name: np.load(f"{folder}/{part}.npy")}
        np.save(f"{folder}/{part}-{ort.__version__}.npy", sessions[part].run(None, given[part])[0])
    print(ort.__version__, flush=True)
    for line in sys.stdin:
        part, times = line.strip(), []
        for _ in range(CALLS[part]):
            start = time.perf_counter()
            sessions[part].run(None, given[part])
            times.append(time.perf_counter() - start)
        print(min(times), flush=True)


def main(arguments: list[str] | None = None) -> int:
    import numpy as np

    from benchmarks.contest import Plan
    from mtfa_fast import _core
    from mtfa_fast.engine.tiles import padded
    from mtfa_fast.measuring.checks import Oracle
    from mtfa_fast.measuring.networks import random_weights
    from mtfa_fast.measuring.onnx_peers import export
    from mtfa_fast.measuring.timing import Ratio, Times

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("python", nargs="+", help="the interpreters; the first is what others are compared with")
    parser.add_argument("--threads", type=int, help="default: the cores this process may use")
    parser.add_argument("--rounds", type=int, default=30, help="default: %(default)s")
    parser.add_argument("--small", action="store_true", help="a tiny network, to try everything")
    options = parser.parse_args(arguments)
    threads, plan = options.threads or _core.default_threads(), Plan.small() if options.small else Plan()
    weights, frames = random_weights(plan.config), padded(plan.frames)
    oracle = Oracle(weights)
    with tempfile.TemporaryDirectory() as folder:
        for part in PARTS:
            export(weights, part, 1, frames, Path(folder) / f"{part}.onnx")  # type: ignore[arg-type]
            np.save(f"{folder}/{part}.npy", oracle.input(part, 1, frames))  # type: ignore[arg-type]
        command = [str(Path(__file__).resolve()), "--child", folder, str(threads)]
        running = [
            subprocess.Popen([python, *command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for python in options.python
        ]
        try:
            names = [_line(process.stdout) for process in running]
            for part in PARTS:
                answers = [np.load(f"{folder}/{part}-{name}.npy") for name in names]
                worst = max(float(np.abs(answer - answers[0]).max()) for answer in answers)
                if not worst <= TOLERANCE:
                    raise SystemExit(f"{part}: the versions' answers differ by {worst:.2g}")
                turns = [[_ask(process, part) for process in running] for _ in range(options.rounds + 1)]
                times = [Times(rounds) for rounds in zip(*turns[1:], strict=True)]
                for name, each in zip(names, times, strict=True):
                    low, middle, high = (f"{1e3 * value:.4g}" for value in each.percentiles)
                    ratio = "" if each is times[0] else f"  {Ratio.of(each, times[0])} to the first"
                    print(f"{part:<10} onnxruntime {name:<8} {middle:>7} ms ({low} to {high}){ratio}")
        finally:
            for process in running:
                process.terminate()
                process.wait()
    return 0


def _ask(process: subprocess.Popen[str], part: str) -> float:
    assert process.stdin is not None
    print(part, file=process.stdin, flush=True)
    return float(_line(process.stdout))


def _line(stream: IO[str] | None) -> str:
    assert stream is not None
    text = stream.readline().strip()
    if not text:
        raise SystemExit("an interpreter answered nothing; its error stands above")
    return text


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:4])
        sys.exit(0)
    sys.exit(main())
