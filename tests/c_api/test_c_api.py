"""The C API: Python's bits, its own manners; what it refuses is tried in c/api_test.c and test_weight_file.py."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mtfa_fast import Detector, _core
from mtfa_fast.config import Calibration
from mtfa_fast.engine.cpu import CpuEngine
from mtfa_fast.weights import Weights, find
from tests.c_api.library import ROOT, Library, best_isa

EXAMPLE = ROOT / "examples" / "rare_events.flac"
WEIGHTS = find("rare-events")
CXX = ["g++", "-x", "c++", "-Wall", "-Wextra", "-Werror"]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """1.7 s of the example recording from a glass that breaks on, and one sample more."""
    wave, rate = soundfile.read(EXAMPLE, dtype="float32")
    path = tmp_path_factory.mktemp("samples") / "samples.f32"
    wave[int(13.3 * rate) : int(15 * rate) + 1].tofile(path)
    return path


@pytest.fixture(scope="module")
def api_test(library: Library, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return library.program(Path(__file__).parent / "c" / "api_test.c", tmp_path_factory.mktemp("bin") / "api_test")


@pytest.mark.parametrize("compiler", [None, CXX], ids=["c99", "c++"])
def test_the_example_prints_the_detectors_events(library: Library, tmp_path: Path, compiler: list[str] | None) -> None:
    source = ROOT / "examples" / "c" / "detect.c"
    program = library.program(source, tmp_path / "detect", *([compiler] if compiler else []))
    wave, rate = soundfile.read(EXAMPLE, dtype="float32")
    wav = tmp_path / "stereo.wav"
    soundfile.write(wav, np.stack([wave, wave], axis=1), rate, subtype="PCM_24")
    done = subprocess.run([program, WEIGHTS, wav], capture_output=True, text=True, check=True)
    events = Detector.from_pretrained("rare-events")(wav).events
    assert len(events) == 3
    assert done.stdout == "".join(f"{e.onset:.2f}\t{e.offset:.2f}\t{e.label}\t{e.score:.3f}\n" for e in events)
    refused = subprocess.run([program, WEIGHTS, EXAMPLE], capture_output=True, text=True)
    assert refused.returncode == 1 and "no WAV file" in refused.stderr


def test_ctypes_prints_the_same(library: Library) -> None:
    script = ROOT / "examples" / "ctypes_detect.py"
    done = subprocess.run([sys.executable, script, library.file, WEIGHTS, EXAMPLE], capture_output=True, text=True)
    assert [line.split()[2] for line in done.stdout.splitlines()] == ["babycry", "glassbreak", "gunshot"], done.stderr
    refused = subprocess.run([sys.executable, script, library.file, EXAMPLE, EXAMPLE], capture_output=True, text=True)
    assert refused.returncode == 1 and "not a safetensors file" in refused.stderr


def test_calibrated_scores_are_pythons(library: Library, tmp_path: Path) -> None:
    """A weight file's calibration changes the scores, and no event: minimum scores are of the probability."""
    plain, path = Weights.load(WEIGHTS), tmp_path / "told.safetensors"
    kinds = [dataclasses.replace(c, calibration=Calibration(0.5 + i, -1.0)) for i, c in enumerate(plain.config.classes)]
    config = dataclasses.replace(plain.config, classes=tuple(kinds))
    dataclasses.replace(plain, config=config).save(path)
    events = Detector.from_pretrained(path)(EXAMPLE).events
    script = ROOT / "examples" / "ctypes_detect.py"
    done = subprocess.run([sys.executable, script, library.file, path, EXAMPLE], capture_output=True, text=True)
    assert len(events) == 3, done.stderr
    assert done.stdout == "".join(f"{e.onset:.2f}\t{e.offset:.2f}\t{e.label}\t{e.score:.3f}\n" for e in events)
    assert [e.score for e in events] != [e.score for e in Detector.from_pretrained(WEIGHTS)(EXAMPLE)]


@pytest.mark.parametrize("precision", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("isa", sorted({"portable", best_isa()}))
def test_probabilities_are_pythons_bit_for_bit(
    library: Library, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, isa: str, precision: str
) -> None:
    if precision == "bf16" and isa not in ("avx512bf16", "amx", "neonbf16"):
        pytest.skip(f"{isa} has no bf16")
    monkeypatch.setattr(_core, "chosen_isa", lambda: isa)
    expected = CpuEngine(Weights.load(WEIGHTS), precision=precision).detect_wave(np.fromfile(samples, np.float32))  # type: ignore[arg-type]
    program = library.program(Path(__file__).parent / "c" / "probabilities.c", tmp_path / "probabilities")
    for threads in ("1", "3"):
        command = [program, WEIGHTS, samples, tmp_path / "out.f32", isa, precision, threads]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.stdout.split() == [isa, precision, threads], done.stderr
        ours = np.fromfile(tmp_path / "out.f32", np.float32).reshape(expected.shape)
        assert ours.tobytes() == expected.tobytes()
    assert np.ptp(expected) > 0.5  # it hears the glass


def test_what_only_a_program_can_do(api_test: Path, samples: Path) -> None:
    done = subprocess.run([api_test, WEIGHTS, samples], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("valgrind") is None, reason="no valgrind (apt install valgrind)")
def test_valgrind_finds_nothing(library: Library, samples: Path, tmp_path: Path) -> None:
    # Valgrind knows no AVX-512. A tenth of a second is enough for every path.
    np.fromfile(samples, np.float32)[:4411].tofile(tmp_path / "short.f32")
    program = library.program(Path(__file__).parent / "c" / "api_test.c", tmp_path / "api_test")
    command: list[str | Path] = ["valgrind", "--error-exitcode=9", "--leak-check=full"]
    command += ["--errors-for-leak-kinds=definite,indirect,possible", program, WEIGHTS, tmp_path / "short.f32"]
    environment = {**os.environ, "MTFA_FAST_ISA": "portable"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and "ERROR SUMMARY: 0 errors" in done.stderr, done.stderr


@pytest.mark.skipif(shutil.which("readelf") is None, reason="no readelf (apt install binutils)")
def test_the_library_offers_its_own_names_alone(library: Library) -> None:
    def readelf(*options: str) -> str:
        return subprocess.run(
            ["readelf", *options, "-W", library.file], capture_output=True, text=True, check=True
        ).stdout

    header = (ROOT / "csrc" / "c_api" / "mtfa_fast.h").read_text()
    declared = set(re.findall(r"^MTFA_FAST_API [^;]*?\b(mtfa_\w+)\(", header, re.M))
    rows = [row for line in readelf("--dyn-syms").splitlines() if len(row := line.split()) > 7]
    offered = {row[7].partition("@@")[0] for row in rows if row[4] in ("GLOBAL", "WEAK") and row[6] != "UND"}
    assert offered - {"MTFA_FAST_1"} == declared and len(declared) > 20
    assert "SONAME" in (dynamic := readelf("-d")) and "[libmtfa_fast.so.1]" in dynamic


def test_cmake_and_pkg_config_find_it(library: Library, tmp_path: Path) -> None:
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.18)\nproject(user C)\nfind_package(mtfa_fast 0.1 REQUIRED)\n"
        f"add_executable(detect {ROOT / 'examples' / 'c' / 'detect.c'})\n"
        "target_link_libraries(detect PRIVATE mtfa_fast::mtfa_fast)\n"
    )
    configure = ["-S", tmp_path, "-B", tmp_path / "b", f"-DCMAKE_PREFIX_PATH={library.prefix}"]
    for command in (configure, ["--build", tmp_path / "b"]):
        done = subprocess.run(["cmake", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    assert subprocess.run([tmp_path / "b" / "detect"], capture_output=True).returncode == 2  # it starts, and says usage
    if shutil.which("pkg-config"):
        environment = {**os.environ, "PKG_CONFIG_PATH": str(library.lib / "pkgconfig")}

        def ask(option: str) -> str:
            command = ["pkg-config", option, "mtfa_fast"]
            return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.strip()

        assert Path(ask("--variable=weights")).read_bytes() == WEIGHTS.read_bytes()
        assert (Path(ask("--cflags").removeprefix("-I")) / "mtfa_fast.h").is_file()
        assert "-lmtfa_fast" in ask("--libs")
