"""The rules of the house: arrows go down only, and the torch-free part is torch-free."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mtfa_fast"

# From the ground up: a part imports from its own level and those before it. A new part takes its place here.
LEVELS: tuple[set[str], ...] = (
    {"_core", "arguments", "config", "extras", "files", "versions"},
    {"audio", "features", "matching", "metrics", "postprocess", "weights", "backends"},
    {"events", "writers", "ops"},
    {"nn", "data", "testing"},
    {"engine"},
    {
        "detector",
        "scores",
        "evaluation",
        "threshold_search",
        "tuning",
        "training",
        "visualization",
        "reference",
        "comparison",
        "verification",
        "benchmark",
    },
    {"experiments"},
    {"commands"},
    {"cli", "__main__"},
)
# Whoever installs without [torch] has none of these; everything else must work.
NEED_TORCH = (
    "nn",
    "ops",
    "testing",
    "backends",
    "engine.gpu",
    "training.loop",
    "training.net",
    "training.state",
    "reference",
    "verification",
    "benchmark.checks",
    "benchmark.contestants",
    "benchmark.onnx_peers",
    "benchmark.peers",
    "benchmark.torch_peers",
    "benchmark.rows",
    "benchmark.run",
    "benchmark.text",
)


def modules() -> dict[str, Path]:
    """Dotted name below mtfa_fast -> file; a package under its own name, the root as ''."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(module: str) -> set[str]:
    """What a module imports anywhere in its file: 'mtfa_fast.config', 'torch.nn', ..."""
    path = MODULES[module]
    package = path.parent.relative_to(ROOT).parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *filter(None, [node.module])])
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def inner(module: str) -> set[str]:
    """Names below mtfa_fast that a module imports; a name inside a module counts as the module."""
    names = {name.removeprefix("mtfa_fast.") for name in imports(module) if name.startswith("mtfa_fast.")}
    return {name if name in MODULES else name.rpartition(".")[0] or name for name in names}


def level(module: str) -> int:
    part = module.split(".")[0]
    found = [number for number, parts in enumerate(LEVELS) if part in parts]
    assert found, f"mtfa_fast.{module}: '{part}' has no place in LEVELS of tests/test_layering.py"
    return found[0]


@pytest.mark.parametrize("module", [name for name in MODULES if name])
def test_arrows_go_down(module: str) -> None:
    # What the root offers lies anywhere; only its version, in its own file, is below everybody.
    for other in inner(module) - {"__version__", ""}:
        assert level(other) <= level(module), f"mtfa_fast.{module} imports mtfa_fast.{other}, which lies above it"


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("backends.")])
def test_backends_stand_alone(module: str) -> None:
    own = module.split(".")[1]
    backends = {name.split(".")[1] for name in MODULES if name.count(".") >= 2 and name.startswith("backends.")}
    for other in inner(module):
        parts = other.split(".")
        assert parts[0] != "ops", f"mtfa_fast.{module} imports mtfa_fast.{other}"
        if parts[0] == "backends" and len(parts) > 1 and own in backends:
            assert parts[1] not in backends - {own}, f"mtfa_fast.{module} imports mtfa_fast.{other}"


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("backends.reference")])
def test_reference_imports_torch_and_nothing_else(module: str) -> None:
    for name in imports(module):
        allowed = name.startswith("mtfa_fast.backends.reference.") or name.split(".")[0] in {
            "torch",
            *sys.stdlib_module_names,
        }
        assert allowed, f"mtfa_fast.{module} imports {name}"


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_quick_and_light() -> None:
    code = """
import sys, time
start = time.process_time()  # not the clock's time, which other processes make longer
import mtfa_fast
print(time.process_time() - start, *sorted({"torch", "matplotlib", "triton", "scipy", "librosa"} & set(sys.modules)))
"""
    answers = [run(code).split() for _ in range(3)]
    assert all(loaded == [] for _, *loaded in answers), answers
    assert min(float(seconds) for seconds, *_ in answers) < 0.2, answers


def test_torch_free_part_works_without_torch() -> None:
    free = [f"mtfa_fast.{name}" for name in MODULES if name and not name.startswith(NEED_TORCH)]
    assert {"mtfa_fast.detector", "mtfa_fast.cli", "mtfa_fast.engine.cpu", "mtfa_fast.metrics"} <= set(free)
    run(f"""
import importlib, sys
for absent in ("torch", "triton", "matplotlib", "scipy", "librosa"):
    sys.modules[absent] = None  # importing it raises ImportError
for name in {free!r}:
    importlib.import_module(name)
""")
