"""The GPU benchmarks cannot run here; that they refuse to, and that no time stands beside a wrong result, can."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import gpu_rows

    def timed(function: Callable[[], Any]) -> dict[str, float]:
        function()
        return {"ms": 2.0, "ms_20": 1.0, "ms_80": 3.0, "calls": 1}

    monkeypatch.setattr(gpu_rows, "times", timed)
    monkeypatch.setattr(gpu_rows, "environment", lambda: {"device": "none"})
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    return gpu_rows.Rows(tmp_path / "rows.jsonl")


def written(rows: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in rows.path.read_text().splitlines()]


def test_a_time_needs_a_right_result(rows: Any) -> None:
    right = torch.arange(1.0, 9.0)

    def fails() -> torch.Tensor:
        raise ValueError("not here")

    rows.compare("s", "right", lambda: right, right, 1e-6, work={"bytes": 4e9}, batch=1)
    rows.compare("s", "one percent off", lambda: right * 1.01, right, 5e-3)
    rows.compare("s", "not a number", lambda: right * torch.nan, right, 5e-3)
    rows.compare("s", "raises", fails, right, 5e-3)
    first, *others = written(rows)
    assert first["passed"] and first["ms"] == 2.0 and first["GB/s"] == 2000.0 and first["device"] == "none"
    assert len(others) == 3 and not any(row["passed"] for row in others)
    assert not any("ms" in row for row in others)
    assert others[-1]["problem"] == "ValueError: not here"


def test_a_lost_context_ends_the_step(rows: Any) -> None:
    def lost() -> torch.Tensor:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal memory"):
        rows.compare("s", "lost", lost, torch.ones(1), 1.0)
    assert written(rows)[0]["passed"] is False


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_nothing_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu_kernels", "gru", "--out", str(tmp_path / "rows.jsonl")]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode != 0 and "no CUDA GPU here" in done.stderr
    assert not (tmp_path / "rows.jsonl").exists()


def test_script_parses_and_names_known_steps() -> None:
    script = ROOT / "benchmarks" / "gpu.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    known = (ROOT / "benchmarks" / "gpu_kernels.py").read_text().split("STEPS = ")[1].split("\n")[0]
    for line in script.read_text().splitlines():
        if line.startswith("measure "):
            assert line.split()[1] in known, line
