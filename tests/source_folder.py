"""A small folder of source recordings in the shape of DCASE 2017 Task 2, made of noise and tones."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml

from mtfa_fast.config import FeatureConfig

RATE = 44_100
HORNS = FeatureConfig(sample_rate=8_000, window_length=320, hop=160, fft_length=512, mel_bands=16)  # of make_horns
CLASSES = ("babycry", "glassbreak", "gunshot")
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data" / "rare_events"  # real recordings, where they exist
NO_RECORDINGS = "no real recordings here (shared/data/rare_events beside the project)"


def make_sources(root: Path, *, backgrounds: int = 3, events: int = 2, subset: str = "devtest", seed: int = 0) -> Path:
    """Events of 0.3 to 1.5 s with margins around them, backgrounds of 30 s; one background is stereo at 48 kHz."""
    rng = np.random.default_rng(seed)
    listed: dict[str, list[dict]] = {}
    for k, label in enumerate(CLASSES):
        folder = root / "events" / label
        folder.mkdir(parents=True, exist_ok=True)
        listed[label] = []
        for i in range(events):
            seconds = float(rng.uniform(0.3, 1.5))
            t = np.arange(int((seconds + 0.1) * RATE)) / RATE
            wave = 0.6 * np.sin(2 * np.pi * (300 + 400 * k + 50 * i) * t) * np.exp(-t)
            soundfile.write(folder / f"{label}_{i}.wav", wave, RATE, subtype="PCM_16")
            listed[label].append({"audio_filename": f"{label}_{i}.wav", "segment": [0.05, round(0.05 + seconds, 4)]})
    (root / "bgs" / "audio").mkdir(parents=True, exist_ok=True)
    bgs = []
    for i in range(backgrounds):
        rate, channels = (48_000, 2) if i == 1 else (RATE, 1)
        level = 0.02 * np.linspace(0.5, 2.0, 30 * rate)[:, None]  # so that the level depends on the place
        wave = level * rng.standard_normal((30 * rate, channels))
        soundfile.write(root / "bgs" / "audio" / f"b{i:03d}.wav", wave, rate, subtype="PCM_16")
        bgs.append({"filepath": f"audio/b{i:03d}.wav", "classname": ["park", "home"][i % 2], "classid": 1 - i % 2})
    (root / "cv_setup").mkdir(exist_ok=True)
    (root / "cv_setup" / f"events_{subset}.yaml").write_text(yaml.safe_dump(listed))
    (root / "cv_setup" / f"bgs_{subset}.yaml").write_text(yaml.safe_dump(bgs))
    return root


@pytest.fixture(scope="session")
def devtest_sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """One folder for all tests that only read it."""
    root = make_sources(tmp_path_factory.mktemp("devtest_sources"))
    with unchanged(root):
        yield root


@contextmanager
def unchanged(root: Path) -> Iterator[None]:
    """Fails at the end if a file was written to, through a hard link too, or is gone."""

    def state() -> dict[Path, tuple[int, int]]:
        return {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in root.rglob("*") if p.is_file()}

    before = state()
    yield
    assert state() == before, f"a test changed {root}, which other tests read"


def linked_copy(root: Path, target: Path) -> Path:
    """A copy to change: its audio is hard links, to be replaced and never written into."""

    def copy(source: str, copied: str) -> object:
        return os.link(source, copied) if source.endswith(".wav") else shutil.copy2(source, copied)

    return Path(shutil.copytree(root, target, copy_function=copy))


def make_horns(root: Path) -> Path:
    """The official shape at 8 kHz: bgs/ with lists that say audio/, two files from each of six makers and four places,
    screening."""
    rng = np.random.default_rng(0)
    rows, events, backgrounds = ["file,class,group"], [], []
    for folder in ("events/horn", "bgs", "cv_setup"):
        (root / folder).mkdir(parents=True)
    for i in range(12):
        name = f"horn_{i}.wav"
        soundfile.write(root / "events/horn" / name, 0.5 * rng.uniform(-1, 1, 8_000), 8_000, subtype="FLOAT")
        rows.append(f"events/horn/{name},horn,maker{i // 2}")
        events.append(f"- {{audio_filename: {name}, segment: [0.25, {0.5 + 0.02 * i}]}}")
    for i in range(8):
        name = f"street_{i}.wav"
        soundfile.write(root / "bgs" / name, 1e-3 * rng.standard_normal(24_000), 8_000, subtype="FLOAT")
        rows.append(f"bgs/{name},background,place{i // 2}")
        backgrounds.append(f"- {{filepath: audio/{name}, classname: street, classid: 0}}")
    (root / "metadata.csv").write_text("\n".join(rows))
    (root / "bg_screening.csv").write_text("filename,horn\nstreet_0.wav,x\nstreet_1.wav,\n")
    for split in ("devtrain", "devtest"):
        (root / f"cv_setup/events_{split}.yaml").write_text("horn:\n" + "\n".join(events))
        (root / f"cv_setup/bgs_{split}.yaml").write_text("\n".join(backgrounds))
    return root
