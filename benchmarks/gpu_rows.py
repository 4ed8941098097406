"""Result rows of the GPU benchmarks: check first, then time, then one JSON line that can be read alone."""

from __future__ import annotations

import datetime
import json
import math
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtfa_fast.backends.cuda import library

ROOT = Path(__file__).resolve().parents[1]
DEVICE = torch.device("cuda")
FLUSH_BYTES = 512 * 2**20  # several times the L2 cache of any GPU so far
# What the runtime says, through torch or the library, when the context is lost and nothing runs any more. Other errors,
# those of a capture above all, are the failure of one contender.
LOST = re.compile(
    r"CUDA error.*(illegal memory access|illegal instruction|misaligned address|launch failure|launch timed out"
    r"|device-side assert|hardware stack error|invalid program counter|global/shared address space|uncorrectable ECC"
    r"|context is destroyed|unknown error)",
    re.DOTALL,
)
UNITS = {"bytes": ("GB/s", 1e6), "flop": ("TFLOP/s", 1e9), "clips": ("clips/s", 1e-3)}


class Rows:
    """Appends rows to a file and prints them."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path

    def add(self, step: str, name: str, **facts: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, "name": name, **facts, **environment()}) + "\n")
        shown = {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in facts.items()}
        print(f"{step:10} {name:45} " + " ".join(f"{key}={value}" for key, value in shown.items()), flush=True)

    def compare(
        self,
        step: str,
        name: str,
        function: Callable[[], Tensor],
        reference: Tensor,
        bound: float,
        *,
        part: Callable[[Tensor], Tensor] = lambda result: result,
        work: dict[str, float] | None = None,
        **facts: Any,
    ) -> None:
        """Times ``function`` if ``part`` of its result is within ``bound`` of ``reference``, by RMS.

        ``work``: what one call has to do, in ``bytes``, ``flop`` and ``clips``. A contender that raises gets a row that
        says so, and the next one has its turn, unless the CUDA context is lost.
        """
        try:
            result = part(function())
            torch.cuda.synchronize()
        except Exception as problem:
            self.add(step, name, **facts, passed=False, problem=f"{type(problem).__name__}: {problem}"[:400])
            if LOST.search(str(problem)):
                raise
            return
        error = distance(result, reference)
        facts |= {"error": error, "bound": bound, "passed": error <= bound}
        if error <= bound:
            facts |= times(function)
            for kind, amount in (work or {}).items():
                unit, scale = UNITS[kind]
                facts[unit] = amount / facts["ms"] / scale
        self.add(step, name, **facts)


@cache
def environment() -> dict[str, Any]:
    try:
        import triton

        triton_version = str(triton.__version__)
    except ImportError:
        triton_version = ""
    return {
        "device": torch.cuda.get_device_name(),
        "driver": _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "triton": triton_version,
        "cuda_library": library.explain().get("runtime"),
        "commit": os.environ.get("COMMIT") or _output("git", "rev-parse", "--short", "HEAD"),  # a copy has no history
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def times(function: Callable[[], Any], *, most: int = 60, seconds: float = 0.7) -> dict[str, float]:
    """20th, 50th and 80th percentile of a call in ms, the L2 cache overwritten before each."""
    flush = torch.empty(FLUSH_BYTES, dtype=torch.uint8, device=DEVICE)
    for _ in range(3):
        function()
    begin = torch.cuda.Event(enable_timing=True)
    begin.record()
    pairs: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
    while len(pairs) < most:
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        flush.zero_()  # also keeps the device busy while the host gets ahead of it
        start.record()
        function()
        end.record()
        pairs.append((start, end))
        if len(pairs) % 10 == 0:
            end.synchronize()
            if begin.elapsed_time(end) > 1000 * seconds:
                break
    torch.cuda.synchronize()
    values = torch.tensor([start.elapsed_time(end) for start, end in pairs], dtype=torch.float64)
    low, middle, high = torch.quantile(values, torch.tensor([0.2, 0.5, 0.8], dtype=torch.float64)).tolist()
    return {"ms": middle, "ms_20": low, "ms_80": high, "calls": len(pairs)}


@contextmanager
def searching(on: bool) -> Iterator[None]:
    """cuDNN's search for its fastest algorithm: rivals get it, our engine does not, because users have it off."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = on
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def distance(result: Tensor, reference: Tensor) -> float:
    """Relative error by RMS, absolute where the reference is zero; infinite where a result is NaN."""
    wrong, size = (float(x.double().norm()) for x in (result.double() - reference.double(), reference))
    return wrong / (size or 1.0) if math.isfinite(wrong) else math.inf
