"""A toy experiment: seconds of training on sources of noise and tones."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mtfa_fast.experiments.config import Table1Config
from tests.source_folder import make_sources, unchanged

TINY: dict[str, Any] = {
    "one_network": True, "mixtures": 0, "test_mixtures": 2, "channels": 2, "hidden": 3, "chunk_frames": 16,
    "batch_size": 2, "steps_per_epoch": 2, "epochs": 2, "validation_chunks": 2, "threads": 1,
}  # fmt: skip
ONE = TINY | {"classes": ("gunshot",), "variants": ("res",), "seeds": (0,)}


@pytest.fixture(scope="session")
def toy_sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Train and test splits of the same files, of which the table must warn. To change them, take a ``linked_copy``."""
    root = tmp_path_factory.mktemp("toy_sources")
    for subset in ("devtrain", "devtest"):
        make_sources(root, subset=subset, events=3)
    shutil.copy(root / "bgs/audio/b000.wav", root / "bgs/audio/b001.wav")  # at 44.1 kHz: resampling takes its time
    with unchanged(root):
        yield root


@pytest.fixture
def quick_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training begins after two chunks for mean and standard deviation."""
    monkeypatch.setattr("mtfa_fast.training.loop.STATISTICS_CHUNKS", 2)


def config(sources: Path, output: Path, **changes: Any) -> Table1Config:
    return Table1Config(str(sources), str(output), **TINY | changes)


def options(settings: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for name, value in settings.items():
        values = value if isinstance(value, tuple) else (value,)
        option = f"--{name.replace('_', '-')}"
        found += [option] if value is True else [text for v in values for text in (option, str(v))]
    return found
