"""The GPU benchmarks cannot run here; that they refuse to, and that no time stands beside a wrong result, can."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from networks import random_network

from mtfa_fast.nn.convert import to_weights

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

    rows.compare("s", "right", lambda: right, right, 1e-6, work={"bytes": 4e9, "clips": 32.0}, batch=1)
    rows.compare("s", "one percent off", lambda: right * 1.01, right, 5e-3)
    rows.compare("s", "not a number", lambda: right * torch.nan, right, 5e-3)
    rows.compare("s", "raises", fails, right, 5e-3)
    first, *others = written(rows)
    assert (
        first["passed"]
        and first["ms"] == 2.0
        and first["GB/s"] == 2000.0
        and first["clips/s"] == 16_000.0
        and first["device"] == "none"
    )
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
    text = script.read_text()
    known = (ROOT / "benchmarks" / "gpu_kernels.py").read_text().split("STEPS = ")[1].split("\n")[0]
    for line in text.splitlines():
        if line.startswith("measure "):
            assert line.split()[1] in known, line
    exported = re.search(r"^export -f (.*)$", text, re.MULTILINE)
    assert exported
    for name in re.findall(r"bash -c '?(\w+)", text):
        assert name in exported[1].split() and f"{name}() {{" in text, name
    # What a child shell sees are exported names only.
    assert re.search(r"^export python rows$", text, re.MULTILINE)


@pytest.fixture
def on_cpu(rows: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """benchmarks.gpu_network with short clips and a small network, on the CPU."""
    from benchmarks import gpu_network

    weights = to_weights(random_network(channels=16, bands=16, hidden=16))
    monkeypatch.setattr(gpu_network, "paper_weights", lambda: weights)
    for name, value in {"DEVICE": "cpu", "FRAMES": 21, "BATCH": 3, "LENGTHS": (21, 8, 3, 21), "SECONDS": 1}.items():
        monkeypatch.setattr(gpu_network, name, value)
    return gpu_network


def test_engine_is_compared_with_float32_and_itself(rows: Any, on_cpu: Any) -> None:
    on_cpu.engine(rows, True)
    found = written(rows)
    assert [(row["name"], row.get("batch")) for row in found] == [
        ("warm-up", "49152 frames at a time"),
        ("engine, bf16, CUDA graph", 1),
        ("engine, bf16, CUDA graph", 3),
        ("unequal lengths: one batch, one by one", None),
        ("wave to events, bf16", 1),
        ("wave to events, bf16", 3),
    ]
    assert all(row["passed"] for row in found[1:]), found
    assert found[2]["clips/s"] == 1_500.0 and 0 < found[2]["error"] <= found[2]["bound"] < 0.1
    assert found[0]["precision"] == "bf16: asked for"


def test_rivals_answer_the_same_question(rows: Any, on_cpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but the compilers themselves and the capture, which need the GPU."""
    monkeypatch.setattr(on_cpu, "graphed", lambda call, x: call)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    on_cpu.network(rows, False)
    found = written(rows)
    assert len(found) == 12 and {row["batch"] for row in found} == {1, 3}
    assert all(row["passed"] and row["ms"] for row in found), found

    def refuses(*_: Any) -> None:
        raise RuntimeError("cannot be captured")

    rows.path.unlink()
    monkeypatch.setattr(on_cpu, "graphed", refuses)
    on_cpu.network(rows, True)
    assert [row["passed"] for row in written(rows)] == [True, False, True, False]
