"""docs/scale.md says what its result file says, and the parts can be measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import scale


def test_the_page_is_that_of_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = tmp_path / "scale.md"
    text = scale.PAGE.read_text("utf-8")
    page.write_text(text.replace("| MP3, 44.1 kHz", "| something else"), "utf-8")
    monkeypatch.setattr(scale, "PAGE", page)
    scale.render()
    assert page.read_text("utf-8") == text and text.count("MP3, 44.1 kHz") == 3


def test_a_plan_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    monkeypatch.setattr(scale, "RECORDINGS", 1_500)
    found = scale.plan_much()
    assert found["partitions"] == 4 and 0 < found["bytes of an event"] < 100 and found["cpu seconds"] > 0
