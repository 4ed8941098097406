"""The CUDA library for CPUs: csrc/cuda compiled by g++ against cuda_shim, and loaded in the real one's place."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from mtfa_fast.backends.cuda import library, residual_block

ROOT = Path(__file__).resolve().parents[2]
SHIM = ROOT / "tests" / "backends" / "cuda_shim"
CUDA = ROOT / "csrc" / "cuda"


def compile_for_cpu(sources: Path, folder: Path, *more: str) -> Path:
    """``more``: options of the compiler."""
    flags = ["-std=c++17", "-O1", "-fPIC", f"-I{SHIM}", f"-I{sources}", "-Wall", "-Wextra", "-Wno-unknown-pragmas"]
    # The shim's Hopper instructions come first and take the place of hopper.h. TLS arrays have no initialisers to call.
    flags += ["-include", str(SHIM / "hopper.h"), "-D__CUDA_ARCH_FEAT_SM90_ALL", "-fno-extern-tls-init", *more]

    def compile_one(source: Path) -> Path:
        target = folder / f"{source.name}.o"
        subprocess.run(["g++", *flags, "-x", "c++", "-c", str(source), "-o", str(target)], check=True)
        return target

    with ThreadPoolExecutor(2) as pool:
        objects = list(pool.map(compile_one, [*sorted(sources.glob("*.cu")), SHIM / "machine.cpp"]))
    subprocess.run(["g++", "-shared", "-o", str(folder / "shim.so"), *map(str, objects)], check=True)
    return folder / "shim.so"


@pytest.fixture(scope="session")
def shim_library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the CUDA kernels for the CPU with (apt install g++)")
    loaded = library.open_library(compile_for_cpu(CUDA, tmp_path_factory.mktemp("cuda_shim")))
    assert isinstance(loaded, ctypes.CDLL), loaded
    return loaded


def take_place(patch: pytest.MonkeyPatch, loaded: ctypes.CDLL) -> None:
    patch.setattr(library, "load", lambda: loaded)
    patch.setattr(library, "place", lambda x: (0, 0))
    patch.setattr(library, "guard", lambda device: nullcontext())
    patch.setattr(residual_block, "multiprocessors", lambda device: 3)
    loaded.shim_machine(227 * 1024, 132, ctypes.c_ulong(1))


@pytest.fixture
def shim(shim_library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch) -> Iterator[ctypes.CDLL]:
    """The wrappers run on CPU tensors; whatever they allocate starts as NaN."""
    take_place(monkeypatch, shim_library)
    torch.manual_seed(0)
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    assert torch.empty(7).isnan().all()
    yield shim_library
    torch.use_deterministic_algorithms(before)
