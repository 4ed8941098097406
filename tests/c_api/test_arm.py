"""The core on ARM64, emulated: NEON and bf16 through the C API, against float64 answers of the reference."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from mtfa_fast.audio.features import log_mel
from mtfa_fast.engine.cpu import CpuEngine
from mtfa_fast.engine.quantization import calibrate
from mtfa_fast.nn.convert import to_weights
from tests.c_api.library import C99, Library, build
from tests.engine.test_cpu import CASES, reference, relative_error
from tests.networks import random_network

COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
MISSING = " and ".join(
    package
    for name, package in ((COMPILER, "g++-aarch64-linux-gnu"), (EMULATOR, "qemu-user"), ("cmake", "cmake"))
    if shutil.which(name) is None
)
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"no ARM64 to build for and to emulate (apt install {MISSING})")
CC = ["aarch64-linux-gnu-gcc", *C99[1:]]
C = Path(__file__).parent / "c"


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Library:
    return build(tmp_path_factory.mktemp("arm"), "-DCMAKE_TOOLCHAIN_FILE=cmake/aarch64-linux-gnu.cmake")


@pytest.fixture(scope="module")
def probabilities(arm: Library, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return arm.program(C / "probabilities.c", tmp_path_factory.mktemp("bin") / "probabilities", CC)


def emulated(cpu: str, *command: object) -> str:
    line = [EMULATOR, "-L", f"/usr/{COMPILER.removesuffix('-g++')}", "-cpu", cpu, *map(str, command)]
    done = subprocess.run(line, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


LARGE = ("paper", "c128-d64")  # minutes each in the emulator; their kernels are those of the smaller networks


@pytest.mark.parametrize("case", [case for case in CASES if case not in LARGE])
def test_every_kernel_errs_at_most_twice_as_much_as_stock_torch(case: str, probabilities: Path, tmp_path: Path) -> None:
    net = random_network(**CASES[case])  # type: ignore[arg-type]
    weights = to_weights(net)
    weights.save(tmp_path / "net.safetensors")
    samples = (np.random.default_rng(5).standard_normal(net.config.features.hop * 9) * 0.1).astype(np.float32)
    samples.tofile(tmp_path / "samples.f32")
    features = torch.from_numpy(log_mel(samples, net.config.features))[None]
    exact = reference(net, features, torch.float64)[0]
    for isa, precision, stock in (
        ("portable", "fp32", torch.float32),
        ("neonbf16", "fp32", torch.float32),
        ("neonbf16", "bf16", torch.bfloat16),
    ):
        out = tmp_path / f"{isa}-{precision}.f32"
        files = (tmp_path / "net.safetensors", tmp_path / "samples.f32", out)
        said = emulated("max", probabilities, *files, isa, precision, 2)
        assert said.split() == [isa, precision, "2"]
        usual = relative_error(reference(net, features, stock)[0], exact)
        assert relative_error(np.fromfile(out, np.float32).reshape(exact.shape), exact) <= 2 * usual, (isa, precision)


def test_every_cpu_makes_the_same_8_bit_sums(probabilities: Path, arm: Library, tmp_path: Path) -> None:
    """Plain code, sdot and usdot to the bit, and near enough to what Python's 8 bits on this machine answer."""
    net = random_network(channels=48, bands=40, hidden=16)
    rng = np.random.default_rng(7)
    samples = (rng.standard_normal(net.config.features.hop * 40) * 0.1).astype(np.float32)
    weights = to_weights(net)
    weights = calibrate(weights, [log_mel(samples, net.config.features)])
    weights.save(tmp_path / "net.safetensors")
    samples.tofile(tmp_path / "samples.f32")
    answers = {}
    for cpu in ("cortex-a53", "neoverse-n1", "max"):
        out = tmp_path / f"{cpu}.f32"
        files = (tmp_path / "net.safetensors", tmp_path / "samples.f32", out)
        assert emulated(cpu, probabilities, *files, "portable", "int8", 2).split() == ["portable", "int8", "2"]
        answers[cpu] = np.fromfile(out, np.float32)
    here = CpuEngine(weights, precision="int8").detect_wave(samples)
    exact = CpuEngine(weights, precision="fp32").detect_wave(samples)
    assert np.ptp(here) > 1e-3 and len({answer.tobytes() for answer in answers.values()}) == 1
    assert relative_error(answers["max"].reshape(here.shape), here) <= 0.1 * relative_error(here, exact)
    dumped = subprocess.run(
        ["aarch64-linux-gnu-objdump", "-d", arm.file], capture_output=True, text=True, check=True
    ).stdout
    assert all(f"\t{instruction}\t" in dumped for instruction in ("sdot", "usdot"))


@pytest.mark.parametrize(("cpu", "isa", "precision"), [("cortex-a53", "portable", "fp32"), ("max", "neonbf16", "bf16")])
def test_the_cpu_decides(probabilities: Path, tmp_path: Path, cpu: str, isa: str, precision: str) -> None:
    net = random_network(channels=16, bands=8, pooling=1, hidden=16)
    to_weights(net).save(tmp_path / "net.safetensors")
    np.zeros(2000, np.float32).tofile(tmp_path / "samples.f32")
    files = (tmp_path / "net.safetensors", tmp_path / "samples.f32", tmp_path / "out.f32")
    assert emulated(cpu, probabilities, *files, "", "", 1).split() == [isa, precision, "1"]


def test_the_api_keeps_its_promises_there(arm: Library, tmp_path: Path) -> None:
    """Threads, blocks, live streams and bad input, as on the machine itself."""
    net = random_network(channels=16, bands=8, pooling=1, hidden=16)
    to_weights(net).save(tmp_path / "net.safetensors")
    samples = np.random.default_rng(6).standard_normal(net.config.features.hop * 50 + 3)
    (samples * 0.1).astype(np.float32).tofile(tmp_path / "samples.f32")
    program = arm.program(C / "api_test.c", tmp_path / "api_test", CC)
    emulated("max", program, tmp_path / "net.safetensors", tmp_path / "samples.f32")
