"""docs/live.md says what its result file says, and the default delay is the one that it promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import look_ahead
from mtfa_fast.live import CHUNK, LOOK_AHEAD


def test_the_pages_table_is_that_of_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = tmp_path / "live.md"
    page.write_text(look_ahead.PAGE.read_text("utf-8"), "utf-8")
    monkeypatch.setattr(look_ahead, "PAGE", page)
    monkeypatch.setattr(look_ahead, "FIGURE", tmp_path / "figure.svg")
    look_ahead.render()
    assert page.read_text("utf-8") == (look_ahead.ROOT / "docs" / "live.md").read_text("utf-8")
    assert "3.46 s" in page.read_text("utf-8") and (tmp_path / "figure.svg").stat().st_size > 1_000


def test_the_default_costs_little() -> None:
    offline, *live = json.loads(look_ahead.FILE.read_text("utf-8"))["rows"]
    [default] = [row for row in live if (row["chunk"], row["look_ahead"]) == (CHUNK, LOOK_AHEAD)]
    assert offline["delay"] is None and default["error_rate"] - offline["error_rate"] < 0.02
