"""Builds the C++ core with CMake, and the CUDA kernels where nvcc is found; metadata is in pyproject.toml.

Environment:
  MTFA_FAST_CUDA=0|1|auto     no CUDA; CUDA or an error; CUDA where nvcc works (the default). Printed.
  MTFA_FAST_SANITIZE=LIST     sanitizers of the C++ core, for instance address,undefined
  CMAKE_BUILD_PARALLEL_LEVEL  compilers at once
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

ROOT = Path(__file__).resolve().parent


def say(text: str) -> None:
    print(f"mtfa-fast: {text}", flush=True)


def find_nvcc() -> str | None:
    homes = [os.environ.get("CUDACXX"), shutil.which("nvcc"), "/usr/local/cuda/bin/nvcc"]
    return next((nvcc for nvcc in homes if nvcc and shutil.which(nvcc)), None)


def cuda_extension() -> list[Extension]:
    """The CUDA library, if it is asked for and can be built. ``optional``: a failure is reported, not fatal."""
    wish = os.environ.get("MTFA_FAST_CUDA", "auto")
    if wish not in ("0", "1", "auto"):
        raise SystemExit(f"MTFA_FAST_CUDA: got {wish!r}, allowed: 0, 1, auto")
    sources = sorted((ROOT / "csrc" / "cuda").glob("*.cu"))
    missing = "" if sources else "no csrc/cuda/*.cu"
    if find_nvcc() is None:
        missing = "no nvcc (PATH, CUDACXX, /usr/local/cuda)"
    if wish == "1" and missing:
        raise SystemExit(f"MTFA_FAST_CUDA=1, but there is {missing}")
    if wish == "0" or missing:
        say(f"CUDA kernels: left out ({'MTFA_FAST_CUDA=0' if wish == '0' else missing})")
        return []
    say(f"CUDA kernels: with {find_nvcc()} (MTFA_FAST_CUDA={wish})")
    return [Extension("mtfa_fast._cuda", sources=[], optional=wish == "auto")]


class CMakeBuild(build_ext):
    """Each extension is a CMake target: ``mtfa_fast._core`` -> ``_core``, ``mtfa_fast._cuda`` -> ``_cuda``."""

    def get_ext_filename(self, fullname: str) -> str:
        # The CUDA library is plain C, loaded through ctypes: any Python may load it, so no ABI tag in its name.
        if fullname.split(".")[-1] == "_cuda":
            return str(Path(*fullname.split("."))) + ".so"
        return str(super().get_ext_filename(fullname))

    def build_extension(self, ext: Extension) -> None:
        target = ext.name.split(".")[-1]
        built = Path(self.build_temp).resolve() / "cmake"
        result = Path(self.get_ext_fullpath(ext.name)).resolve()
        built.mkdir(parents=True, exist_ok=True)
        result.parent.mkdir(parents=True, exist_ok=True)
        with one_build_at_a_time(built):
            try:
                configure(built, self.cmake_options())
                subprocess.run(["cmake", "--build", str(built), "--target", target, "--parallel"], check=True)
            except (OSError, subprocess.CalledProcessError) as error:
                raise CompileError(f"{ext.name} was not built: {error}") from error
            # Beside, then renamed: a running process may have the old library mapped.
            beside = result.with_name(f".{result.name}.{os.getpid()}")
            shutil.copy2(next((built / "lib").glob(f"{target}.*")), beside)
            os.replace(beside, result)

    def cmake_options(self) -> list[str]:
        import pybind11

        options = {
            "CMAKE_BUILD_TYPE": "Debug" if self.debug else "Release",
            "MTFA_FAST_PYTHON": "ON",
            "MTFA_FAST_C_API": "OFF",
            "Python_EXECUTABLE": sys.executable,
            "pybind11_DIR": pybind11.get_cmake_dir(),
            "MTFA_FAST_SANITIZE": os.environ.get("MTFA_FAST_SANITIZE", ""),
            "MTFA_FAST_NVCC": find_nvcc() or "",
        }
        generator = ["-G", "Ninja"] if (ninja := shutil.which("ninja")) else []
        if ninja:
            # Under build isolation it lies in a folder that is gone when the next build looks into its cache.
            options["CMAKE_MAKE_PROGRAM"] = ninja
        return [*generator, *(f"-D{name}={value}" for name, value in options.items())]


def configure(built: Path, options: list[str]) -> None:
    """Configure in ``built``; once more from nothing where what an earlier build left there is in the way.

    A cache keeps paths (compilers, build programs, the clone's own folder) and the generator, and refuses others.
    """
    command = ["cmake", "-S", str(ROOT), "-B", str(built), *options]
    cache = built / "CMakeCache.txt"
    known = cache.exists()
    if subprocess.run(command).returncode == 0:
        return
    if known:
        say("configuring again without what an earlier build left")
        cache.unlink(missing_ok=True)
        shutil.rmtree(built / "CMakeFiles", ignore_errors=True)
    subprocess.run(command, check=True)


@contextmanager
def one_build_at_a_time(folder: Path) -> Iterator[None]:
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


setup(
    ext_modules=[Extension("mtfa_fast._core", sources=[]), *cuda_extension()],
    cmdclass={"build_ext": CMakeBuild},
)
