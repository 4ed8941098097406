"""The GPU benchmarks cannot run here; that they refuse to, and that no time stands beside a wrong result, can."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu_gru, gpu_kernels, gpu_network, gpu_rows
from benchmarks.gpu_summary import rows_of, wants_base_offset
from tests.benchmarks.gpu_on_cpu import small_kernels, small_network, small_rows

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    small_rows(monkeypatch)
    return gpu_rows.Rows(tmp_path / "rows.jsonl")


def written(rows: Any) -> list[dict[str, Any]]:
    return rows_of(rows.path)


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


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("CUDA error: an illegal memory access was encountered", True),
        ("mtfa_residual_block: CUDA error 719: unspecified launch failure", True),
        ("Triton Error [CUDA]: invalid argument", False),
        ("CUDA error: operation not permitted when stream is capturing", False),
        ("CUDA error: operation failed due to a previous error during capture", False),
        ("CUDA error 701: too many resources requested for launch", False),
    ],
)
def test_what_is_a_lost_context(text: str, lost: bool) -> None:
    assert bool(gpu_rows.LOST.search(text)) is lost


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_nothing_runs(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu_kernels", "gru", "--out", str(tmp_path / "rows.jsonl")]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode != 0 and "no CUDA GPU here" in done.stderr
    assert not (tmp_path / "rows.jsonl").exists()


def test_script_parses_and_names_known_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    script = ROOT / "benchmarks" / "gpu.sh"
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text()
    measured = re.findall(r"\bmeasure (\w+) \d+", text)
    assert {*measured, "small"} == set(gpu_kernels.STEPS)
    exported = re.search(r"^export -f (.*)$", text, re.MULTILINE)
    assert exported
    for name in re.findall(r"bash -c '?(\w+)", text):
        assert name in exported[1].split() and f"{name}() {{" in text, name
    # What a child shell sees are exported names only.
    assert re.search(r"^export python rows$", text, re.MULTILINE)


PRETENDER = """#!/bin/bash
# A Python that says it has a GPU; the engine dies with the Hopper block, the probe runs out of time.
case "$1 $2" in
  "-c "*) echo 90 ;;
  "benchmarks/gpu_summary.py "*) exec {python} "$@" ;;
  "-m benchmarks.gpu_kernels")
    case "$*" in
      *" probe "*) sleep 60 ;;
      *engine*--no-hopper-block*) ;;
      *engine*) echo '{{"step": "engine", "name": "cut of' >>"$5"; kill -SEGV $$ ;;
      *" network "*)
        head='{{"step": "network", "batch": 32, "name":' ms='"ms_20": 1, "ms_80": 9}}'
        {{ echo "$head \\"engine, bf16, CUDA graph\\", \\"ms\\": 2, $ms"
          echo "$head \\"torch.compile\\", \\"ms\\": 5, $ms"
          echo "$head \\"plain\\", \\"passed\\": false, \\"problem\\": \\"RuntimeError: no\\"}}"; }} >>"$5" ;;
    esac ;;
  *) exit 3 ;;
esac
"""


def test_script_survives_its_steps_and_ends_with_a_summary(tmp_path: Path) -> None:
    tree, python = tmp_path / "tree", tmp_path / "python"
    (tree / "mtfa_fast").mkdir(parents=True)
    shutil.copytree(ROOT / "benchmarks", tree / "benchmarks", ignore=shutil.ignore_patterns("results"))
    script = tree / "benchmarks" / "gpu.sh"
    script.write_text(script.read_text().replace("measure probe 60", "measure probe 5"))
    python.write_text(PRETENDER.format(python=sys.executable))
    python.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(python), "RESULTS": str(tmp_path / "out"), "BUDGET": "120"}
    command = ["bash", str(script)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    (path,) = (tmp_path / "out").glob("*.jsonl")
    exits = {}
    for line in path.read_text().splitlines():
        if '"script"' in line:
            row = json.loads(line)
            exits.setdefault(row["name"], row["exit"])
    assert exits["probe"] == "124" and exits["engine --quick"] == "139" and exits["network"] == "0"
    assert exits["gpu_tests"] == "3" and exits["build_core"] != "0" and exits["without_caching"] == "1"
    assert "network, batch 32: 2.50 times torch.compile (torch.compile); aim 2" in done.stdout
    assert "plain" in done.stdout and "FAILED: RuntimeError: no" in done.stdout
    assert "--no-hopper-block" not in path.read_text() and "engine --quick 139" in done.stdout
    log = path.with_suffix(".log").read_text()
    assert log.count("== engine --quick (at") == 2

    (tree / "mtfa_fast" / "_core.so").touch()
    (tree / "mtfa_fast" / "_cuda.so").touch()
    path.unlink()
    done = subprocess.run(command, env=environment | {"FROM": "conv"}, capture_output=True, text=True, timeout=100)
    assert re.findall(r"^== (\w+) \(", done.stdout, re.MULTILINE) == [
        "versions",
        "conv",
        "racecheck",
        "without_caching",
        "compiled",
    ]


# A Python that notes what it was asked for; the engine's first run ends as it is told.
NOTES = """#!/bin/bash
echo "$*" >>{calls}
case "$*" in
  *" engine "*) [ -e {calls}.second ] || {{ touch {calls}.second; {ends}; }} ;;
  "-c import xdist"*) exit 1 ;;
esac
"""


@pytest.mark.parametrize(
    ("ends", "out"),
    [("exit 124", False), ("kill -KILL $$", False), ("exit 1", False), ("exit 70", True), ("kill -SEGV $$", True)],
)
def test_only_a_lost_context_costs_the_block_its_place(ends: str, out: bool, tmp_path: Path) -> None:
    tree, python, calls = tmp_path / "tree", tmp_path / "python", tmp_path / "calls"
    (tree / "mtfa_fast").mkdir(parents=True)
    for name in ("_core.so", "_cuda.so"):
        (tree / "mtfa_fast" / name).touch()
    shutil.copytree(ROOT / "benchmarks", tree / "benchmarks", ignore=shutil.ignore_patterns("results"))
    python.write_text(NOTES.format(calls=calls, ends=ends))
    python.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(python), "RESULTS": str(tmp_path / "out"), "FROM": "engine --quick"}
    subprocess.run(["bash", str(tree / "benchmarks/gpu.sh")], env=environment, capture_output=True, timeout=100)
    steps = [call for call in calls.read_text().splitlines() if "gpu_kernels" in call and "sanitizer" not in call]
    first, second, *others = steps
    assert " engine " in first and " engine " in second and len(others) >= 15
    assert "--no-hopper-block" not in first
    assert all(("--no-hopper-block" in call) is out for call in (second, *others)), steps
    assert " compiled " in others[-1]
    limits = re.findall(
        r"== engine --quick \(at \d+ s, at most (\d+) s\)", next((tmp_path / "out").glob("*.log")).read_text()
    )
    assert int(limits[1]) > int(limits[0])


@pytest.mark.parametrize(("own", "wanted"), [(0, True), (3, False)])
def test_the_probe_decides_how_descriptors_are_read(rows: Any, own: int, wanted: bool) -> None:
    for dx in (1, 2):
        rows.add("probe", f"dx {dx}, base offset 0", wrong=64, of=8192)
        rows.add("probe", f"dx {dx}, base offset {dx}", wrong=own, of=8192)
    assert wants_base_offset(written(rows)) is wanted
    assert not wants_base_offset([])


@pytest.fixture
def on_cpu(rows: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """benchmarks.gpu_network with short clips and a small network, on the CPU."""
    small_network(monkeypatch)
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
    cudnn = torch.backends.cudnn
    monkeypatch.setattr(on_cpu, "graphed", lambda call, x: call)
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    on_cpu.network(rows, False)
    on_cpu.latency(rows, False)
    found = written(rows)
    assert len(found) == 12 and {(row["step"], row["batch"]) for row in found} == {("network", 3), ("latency", 1)}
    assert all(row["passed"] and row["ms"] for row in found), found

    def refuses(*_: Any) -> None:
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing")

    rows.path.unlink()
    monkeypatch.setattr(on_cpu, "graphed", refuses)
    on_cpu.network(rows, True)
    assert [row["passed"] for row in written(rows)] == [True, False, True, False]

    searched: dict[str, bool] = {}
    rows.path.unlink()
    monkeypatch.setattr(on_cpu, "graphed", lambda call, x: call)
    monkeypatch.setattr(on_cpu, "compare", lambda rows, step, name, *_: searched.update({name: cudnn.benchmark}))
    on_cpu.compiled(rows, False)
    assert searched.pop(on_cpu.OURS) is False  # as users have it
    assert len(searched) == 2 and all(searched.values()) and all("torch.compile" in name for name in searched)
    assert not cudnn.benchmark


@pytest.fixture
def kernels(rows: Any, shim: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """benchmarks.gpu_kernels with short clips on the CPU: Triton's interpreter, and the CUDA library for CPUs."""
    small_kernels(monkeypatch)
    return gpu_kernels


@pytest.mark.parametrize("step", ["probe", "gru", "block", "conv", "pointwise", "ends", "small"])
def test_every_step_runs_and_is_right(step: str, rows: Any, kernels: Any) -> None:
    """On a GPU there is one chance: what can be wrong with a step here must not be found there."""
    # Base offsets other than 0 are questions to the hardware; the shim, of which nobody else asks them, refuses.
    with pytest.raises(RuntimeError, match="with base offset 0") if step == "probe" else nullcontext():
        kernels.STEPS[step](rows, True)
    found = written(rows)
    assert len(found) >= {"probe": 10, "gru": 22, "block": 8, "conv": 6, "pointwise": 14, "ends": 8, "small": 1}[step]
    for row in found:
        assert row.get("passed", True) and not row.get("wrong"), row


def test_the_rival_in_forward_rows_infers(rows: Any, kernels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    modes: dict[str, set[bool]] = {"forward": set(), "backward": set()}
    forward = torch.nn.GRU.forward

    def noted(self: torch.nn.GRU, *args: Any) -> Any:
        modes["backward" if args[0].requires_grad else "forward"].add(self.training)
        return forward(self, *args)

    called = gpu_gru.gru_forward

    def on_device(rows: Any, stock: torch.nn.GRU, *args: Any) -> None:
        assert not stock.training
        called(rows, stock, *args)

    monkeypatch.setattr(gpu_gru, "gru_forward", on_device)
    monkeypatch.setattr(torch.nn.GRU, "forward", noted)
    kernels.gru(rows, True)
    assert True in modes["backward"]  # which cuDNN's backward wants


def test_what_the_probe_said_holds_for_later_steps(rows: Any, kernels: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = kernels.cuda_block._trial
    kernels.remember_trial(rows.path, False)
    assert kernels.cuda_block._trial is trial  # nothing was said
    with rows.path.open("a") as file:
        file.write('{"step": "probe", "na\n')
    rows.add("probe", kernels.TRIAL, passed=False, reason="its kernel did not end")
    kernels.remember_trial(rows.path, False)
    assert kernels.cuda_block._trial(0).reason == "its kernel did not end"
    kernels.block(rows, True)
    found = {row["name"]: row for row in written(rows)[1:]}
    assert "did not end" in found["ops.residual_block, cuda"]["problem"]
    assert found["ops.residual_block, triton"]["passed"] and "one kernel, weights packed before" not in found
    kernels.remember_trial(rows.path, True)
    assert "left out" in kernels.cuda_block._trial(0).reason
