"""The GPU benchmarks on a CPU: short clips, a small network, Triton's interpreter, the CUDA library for CPUs.

    python -m tests.benchmarks.gpu_on_cpu OUT

runs gpu.sh from end to end this way, twice: as it is, and with a candidate that raises, a rival that cannot be captured
and a step that never ends. By hand, because it takes minutes. Exit code 1: the second run lacks a row of the first
besides those of the failures.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu_gru, gpu_kernels, gpu_network, gpu_rows
from benchmarks.gpu_summary import rows_of
from mtfa_fast.backends.cuda import bigru, library, residual_block
from mtfa_fast.backends.support import Support
from mtfa_fast.nn.convert import to_weights
from mtfa_fast.ops._dispatch import Table
from tests.backends import interpreter_patch
from tests.backends.cuda_on_cpu import CUDA, compile_for_cpu, take_place
from tests.networks import random_network

ROOT = Path(__file__).resolve().parents[2]
FAILURES = "MTFA_FAILURES"  # set for the run that has them
PYTHON = """#!/bin/bash
# The Python of gpu.sh: it says that it has a GPU, and measures on the CPU. The script takes the interpreter away.
export TRITON_INTERPRET=1
case "$*" in
  "-c "*is_available*) exit 0 ;;
  "-m benchmarks.gpu_kernels "*) exec {python} -m tests.benchmarks.gpu_on_cpu --measure {library} "${{@:3}}" ;;
  "benchmarks/gpu_summary.py "*) exec {python} "$@" ;;
  *) exit 3 ;;
esac
"""


def small_rows(patch: pytest.MonkeyPatch) -> None:
    """No clock: a call counts as 2 ms."""

    def timed(function: Any) -> dict[str, float]:
        function()
        return {"ms": 2.0, "ms_20": 1.0, "ms_80": 3.0, "calls": 1}

    patch.setattr(gpu_rows, "times", timed)
    patch.setattr(gpu_kernels, "times", timed)
    patch.setattr(gpu_rows, "environment", lambda: {"device": "none"})
    patch.setattr(torch.cuda, "synchronize", lambda: None)


def small_network(patch: pytest.MonkeyPatch) -> None:
    weights = to_weights(random_network(channels=16, bands=16, hidden=16))
    patch.setattr(gpu_network, "paper_weights", lambda: weights)
    for name, value in {"DEVICE": "cpu", "FRAMES": 21, "BATCH": 3, "LENGTHS": (21, 8, 3, 21), "SECONDS": 1}.items():
        patch.setattr(gpu_network, name, value)


def small_kernels(patch: pytest.MonkeyPatch, side: int = 8) -> None:
    """With the CUDA library for CPUs in the real one's place, and maps of ``side`` frames and bands."""
    sizes = {"DEVICE": "cpu", "FRAMES": side, "BANDS": side, "CHUNK": 2, "BATCH": 2, "COPIED": 64, "SQUARE": 8}
    for module in (gpu_kernels, gpu_gru):
        for name, value in sizes.items():
            if hasattr(module, name):
                patch.setattr(module, name, value)
    for backend in (bigru, residual_block):
        patch.setattr(backend, "runs_on", lambda x: Support.yes())
    patch.setattr(residual_block, "capability", lambda device: (9, 0))
    patch.setattr(residual_block, "_trial", lambda device: Support.yes())
    patch.setattr(torch.cuda, "current_device", lambda: 0)


def inject(patch: pytest.MonkeyPatch) -> None:
    choose, gru = Table.choose, gpu_kernels.STEPS["gru"]

    def refused(self: Table, backend: str, *args: Any) -> Any:
        if self.function == "upsample_add" and backend == "triton":
            raise RuntimeError("a candidate that raises")
        return choose(self, backend, *args)

    def captured(*_: Any) -> Any:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    def endless(rows: gpu_rows.Rows, quick: bool) -> None:
        gru(rows, quick)
        while True:
            time.sleep(1)

    patch.setattr(Table, "choose", refused)
    patch.setattr(gpu_network, "graphed", captured)
    patch.setitem(gpu_kernels.STEPS, "gru", endless)


def measure(path: str) -> None:
    """gpu_kernels.py on the CPU; the command line behind ``path`` is its own."""
    interpreter_patch.apply()
    patch = pytest.MonkeyPatch()
    small_rows(patch)
    small_network(patch)
    small_kernels(patch, 24)  # the block's step takes an eighth, of which two rows are edges
    loaded = library.open_library(Path(path))
    assert isinstance(loaded, ctypes.CDLL), loaded
    take_place(patch, loaded)
    patch.setattr(torch.cuda, "is_available", lambda: True)
    patch.setattr(gpu_network, "graphed", lambda call, x: call)
    patch.setattr(torch, "compile", lambda function, **_: function)
    if os.environ.get(FAILURES):
        inject(patch)
    gpu_kernels.main()


def run_script(out: Path, shim: Path, failures: bool) -> dict[tuple[str, ...], bool]:
    """Whether each row passed, by what it is of; the script's own rows left out."""
    tree, python = out / "tree", out / "python"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", "build", "results", "*.cu"), dirs_exist_ok=True)
    (tree / "mtfa_fast" / "_cuda.so").touch()
    python.write_text(PYTHON.format(python=sys.executable, library=shim))
    python.chmod(0o755)
    results = out / ("failures" if failures else "sound")
    environment = os.environ | {"PYTHON": str(python), "RESULTS": str(results), "BUDGET": "3000", "FROM": "probe"}
    environment[FAILURES] = "1" if failures else ""
    subprocess.run(["bash", str(tree / "benchmarks" / "gpu.sh")], env=environment, check=True)
    (written,) = results.glob("*.jsonl")
    keys = ("step", "name", "batch", "dtype", "steps", "hidden", "scale")
    return {
        tuple(str(row.get(key)) for key in keys): bool(row.get("passed", True))
        for row in rows_of(written)
        if row["step"] != "script"
    }


def main() -> int:
    out = Path(sys.argv[1]).resolve()
    out.mkdir(parents=True, exist_ok=True)
    shim = compile_for_cpu(CUDA, out)
    sound, failed = (run_script(out, shim, failures) for failures in (False, True))
    missing = sound.keys() - failed.keys()
    print(
        f"{len(sound)} rows, {sum(sound.values())} passed; with failures {len(failed)}, {sum(failed.values())} passed"
    )
    for key in sorted(missing):
        print("missing:", *key)
    for key in sorted(key for key in failed if not failed[key]):
        print("failed:", *key)
    return 1 if missing or all(failed.values()) else 0


if __name__ == "__main__":
    if sys.argv[1] == "--measure":
        path = sys.argv[2]
        del sys.argv[1:3]
        measure(path)
    else:
        sys.exit(main())
