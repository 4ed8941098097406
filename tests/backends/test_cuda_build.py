"""The CUDA kernels compile for every target of the build without spilling, and the library loads without a driver."""

from __future__ import annotations

import ctypes.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TARGETS = re.search(r"foreach\(architecture ([0-9a ]+)\)", (ROOT / "cmake" / "cuda_library.cmake").read_text())
NVCC = shutil.which(os.environ.get("CUDACXX", "nvcc")) or shutil.which("/usr/local/cuda/bin/nvcc")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The library and what ptxas said about it."""
    if NVCC is None:
        pytest.skip("no nvcc to compile the CUDA kernels with (CUDA toolkit 12.8 or newer, in PATH or CUDACXX)")
    folder = tmp_path_factory.mktemp("cuda_build")
    assert TARGETS is not None
    targets = [f"-gencode=arch=compute_{t},code=sm_{t}" for t in TARGETS.group(1).split()]
    options = ["-std=c++17", "-O3", "--threads", "2", "-Xptxas", "-v", "-Xcompiler", "-fPIC,-fvisibility=hidden,-Wall"]
    options += ["-Werror", "all-warnings", "-cudart", "static", "-shared", "-o", str(folder / "_cuda.so")]
    sources = [str(source) for source in sorted((ROOT / "csrc" / "cuda").glob("*.cu"))]
    done = subprocess.run([NVCC, *targets, *options, *sources], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "_cuda.so", done.stdout + done.stderr


def test_kernels_do_not_spill(build: tuple[Path, str]) -> None:
    assert TARGETS is not None
    compiled: dict[str, set[str]] = {}
    for name, target in re.findall(r"Compiling entry function '(\w+)' for 'sm_(\w+)'", build[1]):
        compiled.setdefault(target, set()).add(name)
    assert set(compiled) == set(TARGETS.group(1).split())
    for part in (
        "gru_forwardILi64ELi2E",
        "gru_backwardILi128E",
        "wide_forward",
        "residual_blockILi128E",
        "pack_weights",
    ):
        assert all(any(part in name for name in names) for names in compiled.values()), part
    frames = re.findall(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", build[1])
    assert len(frames) >= sum(len(names) for names in compiled.values())
    assert set(frames) == {("0", "0", "0")}
    # C75xx: the products of a warpgroup are executed one after another, or a wait was put between them.
    assert re.findall(r".*\(C75\d\d\).*", build[1]) == []


def test_library_needs_no_cuda_libraries(build: tuple[Path, str]) -> None:
    if shutil.which("readelf") is None:
        pytest.skip("no readelf (apt install binutils)")
    dynamic = subprocess.run(["readelf", "-d", str(build[0])], capture_output=True, text=True, check=True).stdout
    needed = re.findall(r"NEEDED.*\[(.*)\]", dynamic)
    assert "libc.so.6" in needed
    assert [name for name in needed if "cuda" in name or "nv" in name] == []
    symbols = subprocess.run(["readelf", "--dyn-syms", "-W", str(build[0])], capture_output=True, text=True, check=True)
    exported = re.findall(r"GLOBAL DEFAULT +\d+ (\w+)$", symbols.stdout, re.M)
    assert exported and all(name.startswith("mtfa_") for name in exported)


WITHOUT_DRIVER = """
import sys
from pathlib import Path
import torch
from mtfa_fast.backends.cuda import bigru, library, residual_block

library.PATH = residual_block.PATH = Path(sys.argv[1])
facts = library.explain()
assert facts["loaded"] and facts["devices"] == 0 and "no device: CUDA error" in facts["reason"], facts
assert library.available().ok
x = torch.zeros(1, 3, 2, 192)
library.place, library.guard = lambda x: (0, 0), __import__("contextlib").nullcontext
for function in (lambda: bigru.bigru_recurrence(x, torch.zeros(2, 192, 64), torch.zeros(2, 64)),
                 lambda: bigru.bigru_recurrence(x[..., :9], torch.zeros(2, 9, 3), torch.zeros(2, 3)),
                 lambda: residual_block.pack(torch.zeros(64, 64, 3, 3), x, torch.zeros(64, 64, 3, 3), x)):
    try:
        function()
    except RuntimeError as error:
        assert ": CUDA error " in str(error), error
    else:
        raise SystemExit("a launch without a driver went through")
assert "CUDA error" in residual_block._trial(0).reason
assert not any("libcuda.so" in line or "libcudart.so" in line for line in open("/proc/self/maps"))
print("refused")
"""


def test_library_loads_without_a_driver(build: tuple[Path, str]) -> None:
    """In a child process, since a crash is what this looks for."""
    if ctypes.util.find_library("cuda") is not None:
        pytest.skip("this machine has a CUDA driver")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WITHOUT_DRIVER, str(build[0])]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0 and done.stdout == "refused\n", done.stdout + done.stderr


def test_other_libraries_are_refused_with_a_reason(tmp_path: Path) -> None:
    from mtfa_fast.backends.cuda import library

    (tmp_path / "text.so").write_text("not a library")
    answer = library.open_library(tmp_path / "text.so")
    assert isinstance(answer, str) and "does not load" in answer
    if shutil.which("g++") is None:
        pytest.skip("no g++ (apt install g++)")
    source = tmp_path / "old.cpp"
    source.write_text('extern "C" int mtfa_cuda_abi() { return 0; }')
    subprocess.run(["g++", "-shared", "-fPIC", str(source), "-o", str(tmp_path / "old.so")], check=True)
    answer = library.open_library(tmp_path / "old.so")
    assert isinstance(answer, str) and "has interface 0" in answer
