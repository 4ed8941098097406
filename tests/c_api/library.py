"""The C library as a user builds it, once a session, with the best instruction set that this machine has."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from mtfa_fast import _core

ROOT = Path(__file__).resolve().parents[2]
CMAKE = shutil.which("cmake")
MISSING = " and ".join(name for name in ("cmake", "gcc", "g++") if shutil.which(name) is None)
C99 = ["gcc", "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O1", "-g"]


@dataclass(frozen=True)
class Library:
    """An installed one: the folders that find_package and pkg-config look into lie below ``prefix``."""

    prefix: Path

    @property
    def lib(self) -> Path:
        return next(path.parent for path in self.prefix.rglob("libmtfa_fast.so"))

    @property
    def file(self) -> Path:
        return self.lib / "libmtfa_fast.so"

    def program(self, source: Path, out: Path, compiler: list[str] = C99) -> Path:
        flags = [f"-I{self.prefix / 'include'}", f"-L{self.lib}", f"-Wl,-rpath,{self.lib}", "-pthread"]
        subprocess.run([*compiler, str(source), *flags, "-lmtfa_fast", "-lm", "-o", str(out)], check=True)
        return out


def build(folder: Path, *options: str) -> Library:
    """Configured, built and installed; what fails is said by the assertion."""
    for command in (
        ["-S", str(ROOT), "-B", str(folder / "build"), *options],
        ["--build", str(folder / "build"), "--target", "mtfa_fast", "--parallel"],
        ["--install", str(folder / "build"), "--prefix", str(folder / "prefix")],
    ):
        done = subprocess.run(["cmake", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    return Library(folder / "prefix")


def best_isa() -> str:
    return _core.available_isas()[-1]
