"""Which backend runs, and what is said when one cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from mtfa_fast import ops
from mtfa_fast.backends.support import Support
from mtfa_fast.ops import _dispatch
from mtfa_fast.ops._dispatch import Table

ROOT = Path(__file__).resolve().parents[2]
X = torch.zeros(1, 16, 4, 4)


@pytest.fixture
def spies(monkeypatch: pytest.MonkeyPatch) -> dict[str, SimpleNamespace]:
    """Backends that answer as told and note that they ran."""
    made: dict[str, SimpleNamespace] = {}
    for name in _dispatch.BACKENDS:
        spy = SimpleNamespace(answer=Support.no(f"{name} is busy"), calls=0)

        def gate(logits: torch.Tensor, features: torch.Tensor, spy: SimpleNamespace = spy) -> torch.Tensor:
            spy.calls += 1
            return features.clone()

        spy.supports = lambda *args, spy=spy: spy.answer
        spy.attention_gate = gate
        made[name] = spy

    def load(backend: str, stem: str) -> SimpleNamespace | str:
        return made[backend] if stem == "attention_gate" else "nothing here"

    monkeypatch.setattr(_dispatch, "load", load)
    monkeypatch.setattr(_dispatch, "ModuleType", SimpleNamespace)
    return made


def test_auto_walks_the_ladder_of_the_device(spies: dict[str, SimpleNamespace]) -> None:
    ops.attention_gate(X, X)
    assert [spy.calls for spy in spies.values()] == [0, 0, 0, 1]  # reference, when nobody else can
    spies["cpu"].answer = Support.yes()
    spies["triton"].answer = Support.yes()
    ops.attention_gate(X, X)
    # Not Triton: on a CPU it would be its interpreter.
    assert {name: spy.calls for name, spy in spies.items()} == {"cuda": 0, "triton": 0, "cpu": 1, "reference": 1}
    assert _dispatch.LADDERS["cuda"] == ("cuda", "triton", "reference")


def test_forced_backend_runs_or_raises_its_reason(spies: dict[str, SimpleNamespace]) -> None:
    with pytest.raises(ValueError, match="attention_gate: backend 'triton' cannot run this: triton is busy"):
        ops.attention_gate(X, X, backend="triton")
    spies["triton"].answer = Support.yes()
    ops.attention_gate(X, X, backend="triton")
    assert {name: spy.calls for name, spy in spies.items()} == {"cuda": 0, "triton": 1, "cpu": 0, "reference": 0}
    with pytest.raises(ValueError, match="backend: got 'cudnn', allowed: auto, cuda, triton, cpu, reference"):
        ops.attention_gate(X, X, backend="cudnn")


def test_every_refusal_has_its_reason() -> None:
    report = Table("median_filter").report(X.double(), 27)
    assert report.startswith("Given (1, 16, 4, 4) torch.float64 on cpu: cpu: ")
    assert report.endswith("reference: yes")
    assert Table("log_mel").support("cuda", X).reason == "it has no log_mel"
    assert Table("log_mel").support("cpu", X).reason == "mtfa_fast._core has no kernel for log_mel"
    with pytest.raises(ValueError, match="reason: got ''"):
        Support.no("")


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (
            lambda: ops.attention_gate(X.double(), X.double(), backend="triton"),
            "float32, float16, bfloat16, not torch.fl",
        ),
        (lambda: ops.median_filter(X, 257, backend="triton"), "its windows end at 255 frames, not 257"),
        (lambda: ops.residual_block(X[:, :3], *blocks(3), backend="triton"), "16, 32, 64 or 128 channels, not 3"),
        (lambda: ops.residual_block(X, *blocks(16), backend="cuda"), ""),
        (lambda: ops.bigru(torch.zeros(1, 2, 3), weights(3, 65), backend="triton"), "at most 64 units, not 65"),
        (lambda: ops.bigru(torch.zeros(1, 2, 3), weights(3, 4), backend="cuda"), ""),
    ],
)
def test_backends_name_what_they_cannot(call, reason: str) -> None:  # type: ignore[no-untyped-def]
    if torch.cuda.is_available() and reason == "":
        pytest.skip("the CUDA backend may run this here")
    with pytest.raises(ValueError, match=f"cannot run this: .*{reason}"):
        call()


def blocks(channels: int) -> tuple[torch.Tensor, ...]:
    w, b = torch.zeros(channels, channels, 3, 3), torch.zeros(channels)
    return w, b, w, b


def weights(inputs: int, hidden: int) -> list[torch.Tensor]:
    return [p.detach() for p in torch.nn.GRU(inputs, hidden, bidirectional=True)._flat_weights]  # type: ignore[union-attr]


def test_exact_float32_is_not_multiplied_in_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    with pytest.raises(ValueError, match="torch is set to exact float32 convolutions"):
        ops.residual_block(X, *blocks(16), backend="triton")


def test_broken_backend_is_reported_as_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    # Not as absent: the text of the failed import is kept and shown each time.
    _dispatch.load.cache_clear()
    monkeypatch.delitem(sys.modules, "mtfa_fast.backends.triton.attention_gate", raising=False)
    monkeypatch.delitem(sys.modules, "mtfa_fast.backends.triton._maps", raising=False)
    monkeypatch.setitem(sys.modules, "triton", None)
    try:
        for _ in range(2):
            with pytest.raises(ValueError, match=r"cannot run this: import failed: ModuleNotFoundError: .*triton"):
                ops.attention_gate(X, X, backend="triton")
        support = ops.available_backends("attention_gate")
        assert not support["triton"].ok and "import failed" in support["triton"].reason
        assert support["reference"].ok
        torch.testing.assert_close(ops.attention_gate(X, X + 1), 1.5 * (X + 1))
    finally:
        _dispatch.load.cache_clear()


def run(code: str, **environment: str) -> str:
    clean = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | environment
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ops_run_on_a_cpu_without_importing_triton() -> None:
    code = """
import sys, torch
from mtfa_fast import ops
from mtfa_fast.nn.fast import MTFA
x = torch.randn(1, 16, 8, 8)
ops.attention_gate(x, x), ops.median_filter(x, 3), MTFA(16)(torch.randn(2, 16, 16, 16))
print("triton" in sys.modules)
"""
    assert run(code).strip() == "False"


@pytest.mark.skipif(torch.cuda.is_available(), reason="with a GPU the kernel runs")
def test_compiled_kernel_refuses_cpu_tensors() -> None:
    code = """
import torch
from mtfa_fast import ops
try:
    ops.attention_gate(torch.zeros(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), backend="triton")
except ValueError as error:
    print(error)
"""
    assert "its kernels run on a GPU, the tensors are on cpu" in run(code)
