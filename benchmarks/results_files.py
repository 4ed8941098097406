"""Result files: one folder for each device, one JSON file for each section, complete or not at all."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from mtfa_fast.files import write_beside
from mtfa_fast.measuring.rows import Row

RESULTS = Path(__file__).parent / "results"
Section = dict[str, Any]  # an environment (benchmark.machine), with "section", "rooflines" and "rows"


def device_name(environment: dict[str, Any]) -> str:
    """A folder's name: the processor and the threads that were used."""
    words = re.sub(r"[^a-z0-9]+", "-", environment["device"].lower()).strip("-")
    return f"{words}-{environment['threads']}t"


def save(folder: Path, section: str, environment: dict[str, Any], rows: list[Row], **facts: Any) -> Path:
    path = folder / device_name(environment) / f"{section}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"section": section} | environment | facts | {"rows": [row.to_dict() for row in rows]}
    with write_beside(path) as file:
        file.write(_short(json.dumps(content, indent=1)) + "\n")
    return path


def load(folder: Path, device: str, section: str) -> Section | None:
    path = folder / device / f"{section}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def rows_of(section: Section | None, part: str | None = None) -> list[Row]:
    """The rows of a section, or those of one part; none where there is no section."""
    rows = [Row.from_dict(data) for data in section["rows"]] if section else []
    return [row for row in rows if part is None or row.part == part]


def newest(folder: Path, section: str = "headline") -> str | None:
    """The device whose section was measured last."""
    found = [
        json.loads(path.read_text(encoding="utf-8")) | {"folder": path.parent.name}
        for path in folder.glob(f"*/{section}.json")
    ]
    return max(found, key=lambda section: section["date"])["folder"] if found else None


def _short(text: str) -> str:
    """A list of numbers on one line, so that a difference between two runs can be read."""
    return re.sub(r"\[\s+([-\d.e,\s]+?)\s+\]", lambda found: "[" + " ".join(found[1].split()) + "]", text)
