"""The outsider's scores become sets that tune and evaluate understand, each class at its own place in a patch."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import outsider, screening
from mtfa_fast.config import ClassConfig, Config
from mtfa_fast.data.annotations import Annotation
from mtfa_fast.data.layout import Mixture
from mtfa_fast.scoring.evaluation import evaluate_probabilities

NAMES = sorted({name for sets in outsider.SETS.values() for names in sets for name in names})


def heard(late: int) -> tuple[outsider.Heard, list[Mixture]]:
    """Two mixtures a class, one with an event: its first class is sure from ``late`` patches before the onset on."""
    scores, mixtures = [], []
    for k, (label, sets) in enumerate(outsider.SETS.items()):
        for present in (True, False):
            part = np.full((62, len(NAMES)), 0.01, np.float32)
            events = ()
            if present:
                at = 20 + 3 * k
                part[at - late : at + 3, NAMES.index(sets[0][0])] = 0.9
                events = (Annotation(label, at * 0.48 + 0.1, at * 0.48 + 1.0),)
            scores.append(part)
            mixtures.append(Mixture(Path(f"{label}{present}.wav"), label, events))
    return outsider.Heard(scores, [30.0] * len(scores), NAMES, {}), mixtures


@pytest.mark.parametrize("late", [0, 2])
def test_the_best_decision_is_found_wherever_a_patch_is_sure(late: int) -> None:
    found, mixtures = heard(late)
    best = outsider.choose(found, mixtures)
    chosen = {label: (names, shift) for label, (names, shift, _) in best.items()}
    kinds = tuple(ClassConfig(c.label, c.threshold, c.filter_frames) for _, _, c in best.values())
    config = Config(features=outsider.FEATURES, classes=kinds)
    kept = outsider.kept(found, chosen, config, mixtures)
    assert evaluate_probabilities(kept).error_rate == 0 == sum(c.counts.error_rate for _, _, c in best.values())
    assert all((shift >= 2) == (late == 2) for _, shift in chosen.values())
    [event] = [e for r in kept.results() if r.source == "gunshotTrue.wav" for e in r.events]
    assert abs(event.onset - (26 * 0.48 + 0.1)) <= 0.5


def test_the_table_is_that_of_its_file() -> None:
    content = json.loads(outsider.FILE.read_text("utf-8"))
    lines = outsider.table(content).splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| YAMNet", "| mtfa-fast"]
    assert f"{content['rows'][0]['error_rate']:.2f}" in lines[2]


def test_judged_backgrounds_have_a_note_wherever_a_judge_spoke() -> None:
    with screening.FILE.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len({row["filename"] for row in rows}) == len(rows) == 194
    for row in rows:
        loud = max(float(row[f"yamnet_{label}"].split("@")[0]) for label in screening.JUDGES)
        assert bool(row["note"]) == bool(row["network"] or loud >= 0.15), row["filename"]
        assert set(row["holds"].split()) <= set(screening.JUDGES)
