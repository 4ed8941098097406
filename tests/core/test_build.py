"""``pip install`` twice from one clone: what an earlier build left in the way is survived."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest
import setuptools

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def build(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """setup.py as a module, for a project of one line."""
    monkeypatch.setattr(setuptools, "setup", lambda **_: None)
    spec = importlib.util.spec_from_file_location("mtfa_fast_setup", ROOT / "setup.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    (tmp_path / "CMakeLists.txt").write_text("cmake_minimum_required(VERSION 3.18)\nproject(one NONE)\n")
    return module


@pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("ninja")), reason="no cmake and ninja here")
def test_a_second_install_survives_the_first_ones_build_folder(build: ModuleType, tmp_path: Path) -> None:
    ninja = tmp_path / "isolated" / "ninja"
    ninja.parent.mkdir()
    shutil.copy2(str(shutil.which("ninja")), ninja)
    built = tmp_path / "build"
    build.configure(built, ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"])
    shutil.rmtree(ninja.parent)  # pip's isolated environment is gone
    build.configure(built, ["-G", "Ninja"])
    if shutil.which("make"):
        build.configure(built, ["-G", "Unix Makefiles"])  # ninja is not there at all any more
    text = (built / "CMakeCache.txt").read_text()
    (built / "CMakeCache.txt").write_text(text.replace(str(tmp_path), "/elsewhere"))  # the clone was moved
    build.configure(built, ["-G", "Ninja"])
    assert str(tmp_path) in (built / "CMakeCache.txt").read_text()
