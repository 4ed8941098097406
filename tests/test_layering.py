"""The rules of the house: arrows go down only and in no circles, and the torch-free part is torch-free."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mtfa_fast"

# From the ground up: a room imports itself and rooms of the levels below it. A new room takes its place here.
LEVELS: tuple[set[str], ...] = (
    {"_core", "arguments", "config", "extras", "files", "versions"},
    {"audio", "events", "weights", "backends"},
    {"data", "ops"},
    {"nn", "scoring"},
    {"engine"},
    {"live"},
    {"checking", "detector", "training"},
    {"bulk", "experiments", "export", "measuring", "visualization"},
    {"commands"},
    {"__main__"},
)
LOOSE = 10  # modules that may stand loose in mtfa_fast/: everything else has a room
# Whoever installs without [torch] has none of these; everything else must work.
NEED_TORCH = (
    "nn",
    "ops",
    "backends",
    "engine.gpu",
    "training.chunks",
    "training.chunks",
    "training.loop",
    "training.net",
    "training.render",
    "training.sampler",
    "training.sounds",
    "training.render",
    "training.sampler",
    "training.sounds",
    "training.state",
    "checking.cases",
    "checking.reference",
    "checking.verification",
    "export",
    "measuring.calibration",
    "measuring.checks",
    "measuring.contestants",
    "measuring.onnx_peers",
    "measuring.peers",
    "measuring.quantized_peers",
    "measuring.torch_peers",
    "measuring.rows",
    "measuring.run",
    "measuring.text",
)


class Tree:
    """The modules of one folder of Python files, and who imports whom anywhere in its file, for type checkers too."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, folder.name
        self.files: dict[str, Path] = {}  # dotted name below the folder; a package under its own, the root as ''
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            self.files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path

    def imports(self, module: str) -> set[str]:
        """'mtfa_fast.config', 'torch.nn', ..."""
        path = self.files[module]
        package = path.parent.relative_to(self.folder.parent).parts
        found = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                above = package[: len(package) - node.level + 1] if node.level else ()
                base = ".".join([*above, *filter(None, [node.module])])
                found |= {f"{base}.{alias.name}" for alias in node.names}
        return found

    def inner(self, module: str) -> set[str]:
        """Names below the folder that a module imports; a name inside a module counts as the module."""
        prefix = self.name + "."
        names = {name.removeprefix(prefix) for name in self.imports(module) if name.startswith(prefix)}
        return {name if name in self.files else name.rpartition(".")[0] or name for name in names}

    def upward(self) -> list[str]:
        """Imports of a room on the same level or above. What the root offers lies anywhere, its version below."""
        return [
            f"{module} imports {other}"
            for module in filter(None, self.files)
            for other in self.inner(module) - {"__version__", ""}
            if room(other) != room(module) and (level(other) >= level(module) > 0 or level(other) > level(module))
        ]

    def circles(self) -> list[str]:
        """Modules that import each other, directly or through others; the root, which is lazy, is not looked at."""
        reached: dict[str, set[str]] = {m: self.inner(m) & self.files.keys() - {m, ""} for m in self.files if m}
        grown = True
        while grown:
            grown = False
            for others in reached.values():
                more = set().union(*(reached[other] for other in others)) - others if others else set()
                if more:
                    others |= more
                    grown = True
        return [f"{module}: {', '.join(sorted(others))}" for module, others in reached.items() if module in others]

    def loose(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("*.py"))


def room(module: str) -> str:
    return module.split(".")[0]


def level(module: str) -> int:
    found = [number for number, parts in enumerate(LEVELS) if room(module) in parts]
    assert found, f"mtfa_fast.{module}: '{room(module)}' has no place in LEVELS of tests/test_layering.py"
    return found[0]


HOUSE = Tree(PACKAGE)
MODULES = HOUSE.files


def test_arrows_go_down() -> None:
    assert HOUSE.upward() == []


@pytest.mark.parametrize("tree", [HOUSE, Tree(ROOT / "benchmarks")], ids=lambda tree: tree.name)
def test_no_two_modules_import_each_other(tree: Tree) -> None:
    assert tree.circles() == []


def test_what_stands_loose_fits_on_one_hand_and_the_other() -> None:
    assert len(HOUSE.loose()) <= LOOSE, HOUSE.loose()


def test_these_rules_see_what_breaks_them(tmp_path: Path) -> None:
    house = tmp_path / "mtfa_fast"
    shutil.copytree(PACKAGE, house, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    with open(house / "audio" / "features.py", "a") as file:
        file.write("\nfrom ..events import result\n")
    with open(house / "scoring" / "matching.py", "a") as file:
        file.write("\nif False:\n    from . import tuning\n")
    for number in range(LOOSE - len(HOUSE.loose()) + 1):
        (house / f"loose{number}.py").touch()
    broken = Tree(house)
    assert len(broken.loose()) == LOOSE + 1
    assert any(line.startswith("scoring.matching: ") for line in broken.circles())
    for number in range(LOOSE - len(HOUSE.loose()) + 1):
        (house / f"loose{number}.py").unlink()
    assert Tree(house).upward() == ["audio.features imports events.result"]


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("backends.")])
def test_backends_stand_alone(module: str) -> None:
    own = module.split(".")[1]
    backends = {name.split(".")[1] for name in MODULES if name.count(".") >= 2 and name.startswith("backends.")}
    for other in HOUSE.inner(module):
        parts = other.split(".")
        assert parts[0] != "ops", f"mtfa_fast.{module} imports mtfa_fast.{other}"
        if parts[0] == "backends" and len(parts) > 1 and own in backends:
            assert parts[1] not in backends - {own}, f"mtfa_fast.{module} imports mtfa_fast.{other}"


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("backends.reference")])
def test_reference_imports_torch_and_nothing_else(module: str) -> None:
    for name in HOUSE.imports(module):
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
    assert {"mtfa_fast.detector", "mtfa_fast.commands.cli", "mtfa_fast.engine.cpu", "mtfa_fast.scoring.metrics"} <= set(
        free
    )
    run(f"""
import importlib, sys
for absent in ("torch", "triton", "matplotlib", "scipy", "librosa"):
    sys.modules[absent] = None  # importing it raises ImportError
for name in {free!r}:
    importlib.import_module(name)
""")
