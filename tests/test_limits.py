"""docs/limits.md has the code's numbers: constants, settings' defaults, what refusals say; and none is missing."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mtfa_fast.config import ClassConfig, Config, FeatureConfig, NetworkConfig
from mtfa_fast.data.recipes import MixtureParameters
from mtfa_fast.experiments.config import Table1Config
from mtfa_fast.training import TrainConfig

ROOT = Path(__file__).resolve().parents[1]
ROWS = [
    tuple(cell.strip() for cell in line.strip("|").split(" | "))
    for line in (ROOT / "docs" / "limits.md").read_text("utf-8").splitlines()
    if line.startswith("| ") and not line.startswith(("| ---", "| what |", "| setting |"))
]
CONSTANTS = [row for row in ROWS if " of `" in row[2]]
SETTINGS = {row[0].strip("`"): row for row in ROWS if row not in CONSTANTS}
NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e-?\d+)?(?!\d)")
# Settings, and what else each class needs.
CLASSES: dict[type, dict[str, Any]] = {
    FeatureConfig: {},
    NetworkConfig: {},
    ClassConfig: {"name": "x"},
    MixtureParameters: {},
    TrainConfig: {"sources": "", "output": ""},
    Table1Config: {"sources": "", "output": "", "steps_per_epoch": 1},
}
# One of them every setting with a limit refuses.
WRONG: tuple[Any, ...] = (-1, 0, 1, 2, 3, 9, "", ())
# Of how the code does it: nobody is refused by them.
INNER = {"_MOST_THREADS", "kMaxLogMelLanes"}


def constants(path: str) -> dict[str, Any]:
    """A module's names; a C++ header's integers: ``constexpr int kA = 1, kB = 1 << 20;``."""
    if path.endswith(".py"):
        return vars(importlib.import_module(f"mtfa_fast.{path.removesuffix('.py').replace('/', '.')}"))
    lines = re.findall(r"constexpr \w+ ([^;]*);", (ROOT / path).read_text("utf-8"))
    found = re.findall(r"\b(k\w+) = (\d+)(?: << (\d+))?(?=,|$)", "\n".join(lines), re.M)
    return {name: int(number) << int(shift or 0) for name, number, shift in found}


def flat(value: Any) -> Iterator[Any]:
    if isinstance(value, (tuple, list, frozenset)):
        for one in value:
            yield from flat(one)
    else:
        yield value


def numbers(text: str) -> list[float]:
    return [float(number.replace(",", "")) for number in NUMBER.findall(text)]


def same(written: float, meant: float) -> bool:
    """To the last digit, but for tiny ones, of which two are written."""
    return math.isclose(written, meant, rel_tol=1e-12) or (0 < meant < 1e-5 and f"{written:.1e}" == f"{meant:.1e}")


@pytest.mark.parametrize("row", CONSTANTS, ids=lambda row: row[0])
def test_a_constant_is_what_the_page_says(row: tuple[str, str, str]) -> None:
    named, _, path = row[2].rpartition(" of ")
    there = constants(path.strip("`"))
    values = [one for name in re.findall(r"`(\w+)`", named) for one in flat(there[name])]
    if isinstance(values[0], str):
        assert set(re.findall(r"`([^`]+)`", row[1])) == set(values)
        return
    written = numbers(row[1])
    assert len(written) == len(values) and all(map(same, written, values)), (row, values)


@pytest.mark.parametrize("kind", CLASSES)
def test_a_setting_is_what_the_page_says(kind: type) -> None:
    fields = [f for f in dataclasses.fields(kind) if isinstance(f.default, (int, float, tuple))]
    fields = [f for f in fields if not isinstance(f.default, bool) and all(type(x) is not str for x in flat(f.default))]
    named = {f.name for f in fields}
    rows = {name.partition(".")[2]: row for name, row in SETTINGS.items() if name.startswith(f"{kind.__name__}.")}
    assert named <= rows.keys(), f"{kind.__name__}: no row for {named - rows.keys()}"
    for field in dataclasses.fields(kind):
        if field.name not in rows:
            continue
        _, default, allowed = rows[field.name]
        said = numbers(default) if field.name in named else default
        assert said == (list(flat(field.default)) if field.name in named else str(field.default).lower()), field.name
        refusals = {text for value in WRONG if (text := refusal(kind, field.name, value))}
        for text in refusals:
            assert text in allowed, f"{kind.__name__}.{field.name}: {text!r} is not in {allowed!r}"
        assert refusals or allowed.startswith("as `"), f"{kind.__name__}.{field.name}: nothing of {WRONG} is refused"


def refusal(kind: type, name: str, value: Any) -> str:
    """What is allowed of this setting, if this is not; what else it makes impossible is other settings' business."""
    try:
        made = kind(**(CLASSES[kind] | {name: value}))
        if kind is NetworkConfig:
            Config(network=made)
    except TypeError:  # of another type altogether
        return ""
    except ValueError as error:
        said, _, allowed = str(error).partition(", allowed: ")
        return allowed if said.startswith(name) else ""
    return ""


def test_every_limit_has_a_row() -> None:
    """A constant that is named as a limit, in the package or in the core's headers."""
    named = {name for row in CONSTANTS for name in re.findall(r"`(\w+)`", row[2].rpartition(" of ")[0])}
    found = set()
    for path in (ROOT / "mtfa_fast").rglob("*.py"):
        for node in ast.parse(path.read_text("utf-8")).body:
            targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
            found |= {
                name.id for target in targets if target for name in ast.walk(target) if isinstance(name, ast.Name)
            }
    limits = {name for name in found if re.match(r"_?(MAX|MIN|MOST|LARGEST|LONGEST)(_|$)", name)}
    for path in (ROOT / "csrc" / "core").rglob("*.h"):
        limits |= set(re.findall(r"\b(k(?:Max|Min)\w+) =", path.read_text("utf-8")))
    assert limits - INNER <= named, f"no row in docs/limits.md for {limits - INNER - named}"
