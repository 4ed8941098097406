"""The AMX kernels' arithmetic on machines without AMX: the same source over emulated tiles."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from mtfa_fast import _core

ROOT = Path(__file__).resolve().parents[2]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
FLAGS = [
    "-std=c++17",
    "-O1",
    *SANITIZERS,
    "-mavx2",
    "-mfma",
    "-mavx512f",
    "-mavx512bw",
    "-mavx512vl",
    "-mavx512dq",
    "-mavx512bf16",
]


@pytest.mark.skipif("avx512" not in _core.available_isas(), reason="the vector half of the AMX kernels needs AVX-512")
@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to build the emulation with (apt install g++)")
def test_bytes_on_emulated_tiles(tmp_path: Path) -> None:
    """The 8-bit convolution by tiles against the portable one, which test_int8.py holds to its definition."""
    core, parts = ROOT / "csrc" / "core", []
    vectors = ["-DMTFA_EMULATE_AMX", "-DMTFA_ISA_NAMESPACE=amx", "-mavx2", "-mavx512f", "-mavx512bw", "-mavx512vl"]
    plain = ["-DMTFA_ISA_NAMESPACE=portable"]
    sources = {
        "amx": (core / "kernels" / "conv_int8.cpp", [*vectors, "-mavx512dq", "-ffp-contract=off"]),
        "portable": (core / "kernels" / "conv_int8.cpp", plain),
        "pack": (core / "pack.cpp", []),
        "pack_int8": (core / "pack_int8.cpp", []),
        "main": (ROOT / "tests" / "core" / "cpp" / "amx" / "int8_test.cpp", []),
    }
    for name, (source, flags) in sources.items():
        parts.append(str(tmp_path / f"{name}.o"))
        base = ["g++", "-std=c++17", "-O1", *SANITIZERS, f"-I{ROOT / 'csrc'}"]
        subprocess.run([*base, *flags, "-c", str(source), "-o", parts[-1]], check=True)
    program = tmp_path / "int8_test"
    subprocess.run(["g++", *SANITIZERS, *parts, "-o", str(program)], check=True)
    done = subprocess.run([str(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not _core.has_avx512_bf16(), reason="the vector half of the AMX kernels needs AVX512_BF16")
@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to build the emulation with (apt install g++)")
def test_products_on_emulated_tiles(tmp_path: Path) -> None:
    program = tmp_path / "conv_tiles_test"
    source = ROOT / "tests" / "core" / "cpp" / "amx" / "conv_tiles_test.cpp"
    defines = ["-DMTFA_EMULATE_AMX", "-DMTFA_ISA_NAMESPACE=amx", f"-I{ROOT / 'csrc'}"]
    subprocess.run(["g++", *FLAGS, *defines, str(source), "-o", str(program)], check=True)
    done = subprocess.run([str(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
