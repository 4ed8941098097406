"""The machine: what it is, what it can do at most, and where a measurement stands between the two."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from .. import _core
from ..versions import versions

COPY_BYTES = 256 * 2**20  # a thread; far beyond any cache
LIBRARIES = ("numpy", "torch", "onnxruntime", "openvino", "nncf", "librosa", "triton")


def environment(threads: int) -> dict[str, Any]:
    """What a row of results needs to be understood later: device, cores, versions, commit, date."""
    return {
        "device": cpu_model(),
        "cores": os.cpu_count(),
        "isas": _core.available_isas(),
        "threads": threads,
        "system": platform.platform(),
        "versions": versions(*LIBRARIES),
        "commit": commit(),
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
    }


def cpu_model() -> str:
    """What /proc/cpuinfo calls the processor; elsewhere what Python knows of it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            fields = dict(line.split(":", 1) for line in file.read().split("\n\n")[0].splitlines() if ":" in line)
    except OSError:
        return platform.processor() or platform.machine()
    found = {key.strip(): value.strip() for key, value in fields.items()}
    name = found.get("model name", platform.machine())
    # Virtual machines hide the model's number; family and model still tell the generation.
    return f"{name} (family {found.get('cpu family', '?')}, model {found.get('model', '?')})"


def commit() -> str:
    """The source's commit, with a plus sign where files differ from it; empty outside a repository."""
    root = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=20)
        return done.stdout.strip() if done.returncode == 0 else ""

    try:
        head = git("rev-parse", "--short", "HEAD")
        return head + (
            "+" if head and git("status", "--porcelain", "--untracked-files=no", "mtfa_fast", "csrc") else ""
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""


def rooflines(threads: int) -> dict[str, float]:
    """Operations a second in float32 and bf16 (0: none) with the chosen instruction set, and bytes copied a second."""
    isa = _core.chosen_isa()
    return {
        "fp32": _core.peak_flops(isa, False, threads),
        "bf16": _core.peak_flops(isa, True, threads),
        "copy": copy_bandwidth(threads),
    }


def gpu_rooflines(device: str) -> dict[str, float]:
    """The same of a GPU, through torch: one large matrix product in each precision, and one large copy."""
    import torch

    def best(call: Callable[[], object]) -> float:
        seconds = []
        for _ in range(10):
            torch.cuda.synchronize(device)
            start = time.perf_counter()
            call()
            torch.cuda.synchronize(device)
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    n, found = 8192, {}
    for precision, dtype in {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}.items():
        a, b = (torch.ones(n, n, dtype=dtype, device=device) for _ in range(2))
        found[precision] = 2.0 * n**3 / best(lambda a=a, b=b: a @ b)  # type: ignore[misc]
    source = torch.zeros(2**30, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return found | {"copy": 2.0 * source.numel() / best(lambda: target.copy_(source))}


def copy_bandwidth(threads: int, repeats: int = 5) -> float:
    """Bytes read and written a second by ``threads`` large copies side by side, the best of ``repeats``."""
    pairs = [(np.zeros(COPY_BYTES, np.uint8), np.ones(COPY_BYTES, np.uint8)) for _ in range(threads)]
    best = float("inf")
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(repeats + 1):  # the first touches the pages
            start = time.perf_counter()
            list(pool.map(lambda pair: np.copyto(*pair), pairs))
            best = min(best, time.perf_counter() - start)
    return 2 * threads * COPY_BYTES / best


def peak_memory() -> float:
    """The most bytes that this process has held, since :func:`added_memory` began if it is at work."""
    return _status("VmHWM")


def memory() -> float:
    """Bytes that this process holds."""
    return _status("VmRSS")


@contextmanager
def added_memory(found: list[float]) -> Iterator[None]:
    """Append to ``found`` the most bytes that the block held above what was held before it. Linux only."""
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
    before = memory()
    yield
    found.append(peak_memory() - before)


def _status(field: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(field + ":"):
            return float(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")
