"""Scores of a detector over a set, after the protocol: against sed_eval, run by hand as the protocol says."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest
import sed_eval
from rich.console import Console

from mtfa_fast.config import ClassConfig, Config
from mtfa_fast.data.annotations import Annotation, write_annotations
from mtfa_fast.data.layout import Mixture
from mtfa_fast.data.probabilities import ProbabilitySet, Recording
from mtfa_fast.events.result import Result
from mtfa_fast.scoring.evaluation import evaluate, evaluate_lists, evaluate_probabilities

LABELS = ("babycry", "glassbreak", "gunshot")
CONFIG = Config(classes=tuple(ClassConfig(label, 0.5, 5) for label in LABELS))
FRAMES = 500  # 10 s


def random_set(seed: int, per_class: int) -> tuple[list[Mixture], dict[Path, np.ndarray]]:
    """Mixtures with at most one event, and probabilities that find some events and invent others, of every class."""
    rng = np.random.default_rng(seed)
    mixtures, probabilities = [], {}
    for label in LABELS:
        for i in range(per_class):
            path = Path(f"{label}_{i}.wav")
            p = rng.uniform(0, 0.4, (FRAMES, 3)).astype(np.float32)
            events: tuple[Annotation, ...] = ()
            if rng.random() < 0.6:
                onset = float(rng.uniform(0.5, 8))
                events = (Annotation(label, onset, onset + 0.9),)
                start = int(onset * 50) + int(rng.integers(-40, 40))
                p[max(start, 0) : start + 45, LABELS.index(label)] = 0.9
            for _ in range(rng.integers(0, 3)):
                start = int(rng.integers(0, FRAMES))
                p[start : start + 20, rng.integers(0, 3)] = 0.8
            mixtures.append(Mixture(path, label, events, float(rng.choice([-6, 6])) if events else None))
            probabilities[path] = p
    return mixtures, probabilities


@pytest.fixture(scope="module")
def drawn():
    return random_set(1, 40)


def detector(probabilities):
    return lambda path: Result(probabilities[path], CONFIG, str(path), FRAMES * 0.02)


def test_scores_follow_the_protocol_as_sed_eval_counts_it(drawn):
    mixtures, probabilities = drawn
    calls = []
    evaluation, _ = evaluate(
        detector(probabilities), mixtures, jobs=3, progress=lambda *p: calls.append(p), facts={"seed": 1}
    )
    assert calls == [(i + 1, 120) for i in range(120)]
    error_rates, f1s = [], []
    for label in LABELS:
        own = [m for m in mixtures if m.label == label]
        for ebr in (None, -6.0, 6.0):
            judge = sed_eval.sound_event.EventBasedMetrics([label], evaluate_offset=False, t_collar=0.5)
            for m in own:
                if ebr is None or m.ebr == ebr:
                    found = [e for e in detector(probabilities)(m.path).events if e.label == label]
                    judge.evaluate(
                        *(
                            [{"event_label": e.label, "onset": e.onset, "offset": e.offset} for e in events]
                            for events in (m.events, found)
                        )
                    )
            theirs = judge.results()["class_wise"][label]
            score = evaluation.classes[label]
            counts = score.counts if ebr is None else score.by_ebr[ebr]
            assert counts.error_rate == pytest.approx(theirs["error_rate"]["error_rate"], abs=1e-12)
            assert counts.f1 == pytest.approx(theirs["f_measure"]["f_measure"], abs=1e-12)
            if ebr is None:
                error_rates.append(theirs["error_rate"]["error_rate"])
                f1s.append(theirs["f_measure"]["f_measure"])
        empty = [m for m in own if not m.events]
        alarms = sum(e.label == label for m in empty for e in detector(probabilities)(m.path).events)
        assert (score.files, score.empty_files, score.false_alarms) == (40, len(empty), alarms) and alarms > 0
        assert score.false_alarms_per_hour == pytest.approx(alarms / (len(empty) * 10) * 3600)
    assert evaluation.error_rate == pytest.approx(np.mean(error_rates), abs=1e-12)
    assert evaluation.f1 == pytest.approx(np.mean(f1s), abs=1e-12)
    assert 0 < evaluation.f1 < 1


def test_stored_probabilities_and_written_lists_score_the_same(drawn, tmp_path):
    mixtures, probabilities = drawn
    evaluation, kept = evaluate(detector(probabilities), mixtures)
    kept.save(tmp_path / "kept.npz")
    loaded = ProbabilitySet.load(tmp_path / "kept.npz")
    assert loaded.config == CONFIG
    for before, after in zip(kept.recordings, loaded.recordings, strict=True):
        assert np.array_equal(before.probabilities, after.probabilities)
        assert vars(before) | {"probabilities": None} == vars(after) | {"probabilities": None}
    assert evaluate_probabilities(loaded).classes == evaluation.classes
    for i, label in enumerate(LABELS):  # a list per class, files under another folder, as another system would write
        own = [r for r in kept.results() if r.source.startswith(label)]
        write_annotations(tmp_path / f"{i}.txt", {f"somewhere/{r.source}": r.events for r in own})
    from_lists = evaluate_lists([tmp_path / f"{i}.txt" for i in range(3)], mixtures)
    for label in LABELS:
        assert from_lists.classes[label].counts == evaluation.classes[label].counts
        assert from_lists.classes[label].by_ebr == evaluation.classes[label].by_ebr
    only = evaluate_lists([tmp_path / f"{i}.txt" for i in range(3)], mixtures, classes=["gunshot"])
    assert {k: v.counts for k, v in only.classes.items()} == {"gunshot": evaluation.classes["gunshot"].counts}
    assert only.facts["files_md5"] != from_lists.facts["files_md5"] == evaluation.facts["files_md5"]
    stricter = Config(classes=tuple(ClassConfig(label, 0.85, 5) for label in LABELS))
    assert evaluate_probabilities(kept, stricter).f1 > evaluation.f1  # the inventions have 0.8


def test_recordings_of_no_class_count_for_every_class(drawn):
    _, probabilities = drawn
    p = probabilities[Path("gunshot_0.wav")].copy()
    p[:] = 0
    p[50:100, 1:] = 0.9
    both = Recording("both.wav", p, 10.0, (Annotation("gunshot", 1.0, 2.0),))
    scores = evaluate_probabilities(ProbabilitySet(CONFIG, (both,))).classes
    assert list(scores) == list(LABELS)
    assert (scores["gunshot"].counts.correct, scores["gunshot"].counts.insertions) == (1, 0)
    assert (scores["glassbreak"].counts.insertions, scores["glassbreak"].false_alarms) == (1, 1)
    assert scores["babycry"].counts.estimated == 0


def test_the_json_holds_everything_and_is_json(drawn):
    mixtures, probabilities = drawn
    silent = {path: np.zeros_like(p) for path, p in probabilities.items()}
    for given in (probabilities, silent):
        evaluation, _ = evaluate(detector(given), mixtures, facts={"weights": "w"})
        data = json.loads(json.dumps(evaluation.to_dict(), allow_nan=False))
        assert data["weights"] == "w" and data["protocol"]["collar_seconds"] == 0.5
        assert {"mtfa-fast", "numpy", "python"} <= set(data["versions"])
        assert data["decisions"]["gunshot"] == {"threshold": 0.5, "filter_frames": 5, "minimum_score": 0.0}
        assert data["classes"]["gunshot"]["by_ebr"]["-6"]["events"] > 0
        console = Console(file=io.StringIO(), width=160)
        console.print(evaluation.table())
        text = console.file.getvalue()
        assert all(word in text for word in (*LABELS, "mean", "ER -6 dB", f"{evaluation.error_rate:.3f}"))
    assert data["error_rate"] == pytest.approx(1.0) and data["f1"] == 0.0
    assert data["classes"]["gunshot"]["precision"] is None


def test_a_class_without_events_has_no_error_rate(drawn):
    p = drawn[1][Path("gunshot_0.wav")]
    evaluation, _ = evaluate(lambda path: Result(p, CONFIG, str(path), 10.0), [Mixture(Path("a.wav"), "gunshot")])
    assert math.isnan(evaluation.error_rate) and evaluation.to_dict()["error_rate"] is None


def test_failures_and_unknown_names_are_reported(drawn, tmp_path):
    mixtures, probabilities = drawn

    def failing(path):
        raise ValueError(f"{path}: cannot be read")

    with pytest.raises(ValueError, match=r"babycry_0\.wav: cannot be read"):
        evaluate(failing, mixtures)
    with pytest.raises(ValueError, match="mixtures: got none"):
        evaluate(failing, [])
    other = [dataclasses.replace(mixtures[0], label="dog")]
    with pytest.raises(ValueError, match="mixtures: got class 'dog', allowed: the detector's babycry"):
        evaluate(detector(probabilities), other)
    with pytest.raises(ValueError, match="classes: got dog, allowed: babycry, glassbreak, gunshot"):
        evaluate_lists([], mixtures, classes=["dog"])
    write_annotations(tmp_path / "list.txt", {"elsewhere.wav": []})
    with pytest.raises(
        ValueError, match=r"got 'elsewhere\.wav' \(1 of 1 files\), allowed: the mixtures, such as 'baby"
    ):
        evaluate_lists([tmp_path / "list.txt"], mixtures)


@pytest.mark.parametrize(
    ("recording", "message"),
    [
        (Recording("a", np.zeros((5, 2), np.float32), 1.0), r"a: got float32 \(5, 2\), allowed: float32 \(frames, 3\)"),
        (Recording("a", np.full((5, 3), np.nan, np.float32), 1.0), "a: probabilities: allowed: 0 <= probability"),
        (Recording("a", np.full((5, 3), 1.5, np.float32), 1.0), "a: probabilities: allowed"),
        (Recording("a", np.zeros((5, 3), np.float32), 1.0, label="dog"), "a: label: got 'dog'"),
        (Recording("a", np.zeros((5, 3), np.float32), 1.0, (Annotation("dog", 0, 1),)), "a: label: got 'dog'"),
    ],
)
def test_unusable_probabilities_are_refused_by_recording(recording, message):
    with pytest.raises(ValueError, match=message):
        ProbabilitySet(CONFIG, (recording,))


def test_damaged_files_of_probabilities_are_refused_by_name(tmp_path):
    path = tmp_path / "kept.npz"
    with pytest.raises(FileNotFoundError):
        ProbabilitySet.load(path)
    ProbabilitySet(CONFIG, ()).save(path)
    assert ProbabilitySet.load(path).recordings == ()
    whole = path.read_bytes()
    place = whole.index("babycry".encode("utf-32-le"))
    for damaged in (whole[: len(whole) // 2], b"", b"text", whole[:place] + b"x" + whole[place + 1 :]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"kept\.npz: not a file of frame probabilities"):
            ProbabilitySet.load(path)
    np.savez(path, something=np.zeros(3))
    with pytest.raises(ValueError, match=r"kept\.npz: not a file"):
        ProbabilitySet.load(path)
