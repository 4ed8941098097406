"""Every instruction set gives the same answer, and an older CPU, emulated, meets no instruction that it lacks."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mtfa_fast import _core
from mtfa_fast.config import ClassConfig, Config, FeatureConfig, NetworkConfig
from mtfa_fast.weights import Weights
from tests.c_api.tiny_weights import random_weights

ROOT = Path(__file__).resolve().parents[2]
EMULATOR = shutil.which("qemu-x86_64")

# Runs in a process of its own: the first argument holds the case, the second takes the answer, a third is the
# instruction set of the engine alone, for the one that MTFA_FAST_ISA cannot force: AVX-512 without its bf16 part.
PROBE = """
import sys
import numpy as np
from mtfa_fast import _core
from mtfa_fast.engine.cpu import CpuEngine
from mtfa_fast.audio.features import log_mel
from mtfa_fast.weights import Weights

folder, out, *engine_isa = sys.argv[1:]
if engine_isa:
    _core.chosen_isa = lambda: engine_isa[0]
weights, wave = Weights.load(folder + "/case.safetensors"), np.load(folder + "/wave.npy")
features = log_mel(wave, weights.config.features, threads=2)
probabilities = CpuEngine(weights, precision="fp32", threads=2).detect_wave(wave)
filtered = _core.median_filter(features, 5)
np.savez(out, isa=_core.chosen_isa(), features=features, probabilities=probabilities, filtered=filtered)
"""


def weights() -> Weights:
    config = Config(
        features=FeatureConfig(sample_rate=16_000, window_length=640, hop=320, fft_length=1024, mel_bands=40),
        network=NetworkConfig(channels=32, hidden=16),
        classes=(ClassConfig("one"), ClassConfig("two")),
    )
    return random_weights(config)


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("isa")
    weights().save(folder / "case.safetensors")
    wave = np.random.default_rng(4).standard_normal(320 * 21).astype(np.float32) * 0.1
    np.save(folder / "wave.npy", wave)
    return folder


def answer(
    case: Path, name: str, *before: str, isa: str = "", engine_isa: tuple[str, ...] = ()
) -> dict[str, np.ndarray]:
    # An emulated process starts from this interpreter's own search path, so that nothing is looked up natively.
    environment = {
        **os.environ,
        "MTFA_FAST_ISA": isa,
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
    }
    out = case / f"{name}.npz"
    command = [*before, os.path.realpath(sys.executable), "-c", PROBE, str(case), str(out), *engine_isa]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{name}: exit status {done.returncode}\n{done.stderr}"
    with np.load(out) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def portable(case: Path) -> dict[str, np.ndarray]:
    return answer(case, "portable", isa="portable")


def assert_same_answer(ours: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    np.testing.assert_allclose(ours["features"], other["features"], rtol=0, atol=2e-6)
    np.testing.assert_allclose(ours["filtered"], other["filtered"], rtol=0, atol=2e-6)
    np.testing.assert_allclose(ours["probabilities"], other["probabilities"], rtol=0, atol=2e-5)
    assert np.ptp(other["probabilities"]) > 0.01  # the network says something


@pytest.mark.parametrize("isa", [name for name in _core.available_isas() if name != "portable"])
def test_instruction_sets_agree(case: Path, portable: dict[str, np.ndarray], isa: str) -> None:
    ours = answer(case, isa, isa=isa, engine_isa=(isa,))
    assert str(ours["isa"]) == isa
    assert_same_answer(ours, portable)


@pytest.mark.skipif(EMULATOR is None, reason="no qemu-x86_64 to emulate older CPUs with (apt install qemu-user)")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the interpreter is not an x86-64 program")
@pytest.mark.parametrize(("cpu", "isa"), [("Nehalem", "portable"), ("Haswell", "avx2")])
def test_older_cpus(case: Path, portable: dict[str, np.ndarray], cpu: str, isa: str) -> None:
    assert EMULATOR is not None
    ours = answer(case, cpu, EMULATOR, "-cpu", cpu)
    assert str(ours["isa"]) == isa
    assert_same_answer(ours, portable)


def test_unknown_and_absent_instruction_sets_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = {"avx2", "avx512", "amx"} - set(_core.available_isas())
    for name in {"sse9", "AVX2", *absent}:
        monkeypatch.setenv("MTFA_FAST_ISA", name)
        with pytest.raises(ValueError, match=f"MTFA_FAST_ISA\\): got '{name}', allowed on this machine: portable"):
            _core.chosen_isa()


def test_chosen_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MTFA_FAST_ISA", "")
    assert _core.chosen_isa() == _core.available_isas()[-1]
    for name in _core.available_isas():
        monkeypatch.setenv("MTFA_FAST_ISA", name)
        assert _core.chosen_isa() == ("avx512bf16" if name == "avx512" and _core.has_avx512_bf16() else name)
