"""Harder scenes for choosing weights: what is changed is said, is the same every time, and is held out of training."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mtfa_fast.commands.cli import main
from mtfa_fast.data.annotations import read_annotations
from mtfa_fast.data.distractors import Distractors
from mtfa_fast.data.recipes import MixtureParameters, draw, load_sources, read_recipes
from mtfa_fast.data.scenes import HardScenes
from mtfa_fast.data.sources import SourceAudio, SourceSet
from mtfa_fast.data.synthesis import mixture, synthesize
from tests.source_folder import RATE, make_sources


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_hard_scenes_change_what_they_say_and_nothing_else(devtest_sources, tmp_path):
    """Same draws, seeds and levels; every change is in the recipe, and the annotation follows the event's length."""
    easy, hard = (MixtureParameters(12, 0.75, seed=5, hard=hard) for hard in (False, True))
    assert easy.hash != hard.hash and "hard: true" in hard.text
    sources = load_sources(devtest_sources, "devtest")
    noises = tmp_path / "noises" / "claps"
    noises.mkdir(parents=True)
    soundfile.write(noises / "clap.wav", np.sin(2 * np.pi * 9_000 * np.arange(RATE) / RATE), RATE)
    distractors = Distractors.load(noises.parent)
    bare = synthesize(sources, tmp_path, easy, classes=["gunshot"]).folder
    made = synthesize(sources, tmp_path, hard, classes=["gunshot"], jobs=3, distractors=distractors)
    before, after = (read_recipes(f / "meta" / "mixture_recipes_devtest_gunshot.yaml") for f in (bare, made.folder))
    lists = read_annotations(made.folder / "meta" / "event_list_devtest_gunshot.csv")
    changes = []
    for one, other in zip(before, after, strict=True):
        same = set(one) - {"mixture_audio_filename", "annotation_string", "event_length_seconds", "scaling_factor"}
        assert {k: other[k] for k in same} == {k: one[k] for k in same}
        waves = [
            soundfile.read(f / "audio" / r["mixture_audio_filename"])[0] for f, r in ((bare, one), (made.folder, other))
        ]
        assert np.abs(waves[0] - waves[1]).max() > 0.001
        said = " ".join(other["changes"])
        changes += other["changes"]
        spectrum = np.abs(np.fft.rfft(waves[1]))[30 * 8_990 : 30 * 9_010]
        assert (spectrum.max() > 7 * np.median(spectrum)) == ("distractor" in said), (
            "the clap is heard where it is said"
        )
        if other["event_present"]:
            slower = re.search(r"event of (\d+) samples in (\d+)", said)
            factor = int(slower[2]) / int(slower[1]) if slower else 1
            assert other["event_length_seconds"] == pytest.approx(factor * one["event_length_seconds"])
            (event,) = lists[other["mixture_audio_filename"]]
            assert event.onset == one["event_start_in_mixture_seconds"] and event.offset < 30
            assert event.offset - event.onset == pytest.approx(other["event_length_seconds"])
    for word in ("background filtered", ".wav filtered", " dB", "distractor", "samples in", "event filtered"):
        assert any(word in change for change in changes), word

    again = synthesize(sources, tmp_path / "again", hard, classes=["gunshot"], distractors=distractors)
    assert files(again.folder) == files(made.folder)
    (made.folder / "audio" / after[3]["mixture_audio_filename"]).unlink()
    assert synthesize(sources, tmp_path, hard, classes=["gunshot"], distractors=distractors).kept == 11
    alone = synthesize(sources, tmp_path / "alone", hard, classes=["gunshot"]).folder
    assert set(files(alone)) != set(files(made.folder)), "without other recordings, pieces of backgrounds"
    with pytest.raises(ValueError, match="distractors: got some, allowed: none without hard scenes"):
        synthesize(sources, tmp_path, easy, distractors=distractors)


def test_hard_scenes_take_no_background_that_holds_a_class(devtest_sources):
    sources = load_sources(devtest_sources, "devtest")
    marked = dataclasses.replace(
        sources, backgrounds=tuple(dataclasses.replace(b, marks=frozenset({"babycry"})) for b in sources.backgrounds)
    )
    drawn = draw(marked, MixtureParameters(20, 0.0, seed=1))["gunshot"]
    scenes = HardScenes(marked, SourceAudio(RATE), 1)
    said = [change for d in drawn for change in mixture(d, SourceAudio(RATE), "devtest", scenes)[1]["changes"]]
    assert said and not any("dB" in change for change in said)


def test_held_out_recordings_are_those_of_training(tmp_path, capsys):
    root = make_sources(tmp_path / "sources", subset="devtrain", events=6, backgrounds=4)
    held = SourceSet.load(root, "train", ("gunshot",)).cut(0.3, 7)[1]
    command = ["synthesize", str(root), str(tmp_path / "out"), "-n", "8", "--class", "gunshot", "--held-out", "0.3"]
    assert main([*command, "--held-out-seed", "7", "--hard"]) == 0
    path = Path(capsys.readouterr().out.strip()) / "meta" / "mixture_recipes_devtrain_gunshot.yaml"
    recipes = read_recipes(path)
    assert {r["bg_path"] for r in recipes} <= {b.name for b in held.backgrounds}
    assert {r["event_path"] for r in recipes if r["event_present"]} <= {e.name for e in held.events["gunshot"]}
    others = {b.name for b in SourceSet.load(root, "train").backgrounds} - {b.name for b in held.backgrounds}
    assert others and not any(name in path.read_text() for name in others)
    for bad in ("0", "1", "2"):
        assert main([*command[:-1], bad]) == 2
        assert f"fraction: got {float(bad)}" in capsys.readouterr().err
