"""``mtfa-fast evaluate``: a detector, kept probabilities or event lists against annotated mixtures."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mtfa_fast import detector as detector_module
from mtfa_fast.commands.cli import main
from mtfa_fast.config import ClassConfig
from mtfa_fast.data.annotations import Annotation
from mtfa_fast.data.probabilities import ProbabilitySet, Recording
from mtfa_fast.weights import Weights
from tests.face import CONFIG, RATE, LoudnessEngine, knock, make_weights

CLASSES = (ClassConfig("gunshot", 0.6, 3), ClassConfig("babycry", 0.6, 3))
ONSETS = {"hit": 1.0, "late": 2.0, "missed": 0.5, "empty": None}  # of the annotation
LOUD = {"hit": 1.2, "late": 2.6, "missed": None, "empty": None}  # of the sound


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four mixtures of one class: an event within the collar, one beyond it, one unheard, and none."""
    monkeypatch.setattr(detector_module, "make_engine", LoudnessEngine)
    monkeypatch.chdir(tmp_path)
    make_weights(config=dataclasses.replace(CONFIG, classes=CLASSES)).save("w.safetensors")
    for part in ("audio", "meta"):
        (tmp_path / "set" / part).mkdir(parents=True)
    rows = []
    for name, onset in ONSETS.items():
        sound = LOUD[name]
        wave = knock(4.0, 0.0 if sound is None else sound, loudness=0.1 if sound is None else 0.8)
        soundfile.write(tmp_path / "set" / "audio" / f"{name}.wav", wave, RATE)
        rows.append(f"{name}.wav" + (f"\t{onset}\t{onset + 0.3}\tgunshot" if onset else ""))
    (tmp_path / "set" / "meta" / "event_list_devtest_gunshot.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def evaluate(*arguments: str) -> int:
    return main(["evaluate", *arguments, "-o", "scores.json"])


def figures(label: str = "gunshot") -> tuple[int, int, int]:
    """(events, detections, correct) of the JSON file, which is removed."""
    scores = json.loads(Path("scores.json").read_text())["classes"][label]
    Path("scores.json").unlink()
    return scores["events"], scores["detections"], scores["correct"]


def test_a_detector_is_scored(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("set", "--weights", "w.safetensors", "--keep", "kept.npz") == 0
    out = capsys.readouterr().out
    assert "gunshot" in out and "1.000" in out  # (2 deletions + 1 insertion) / 3 events
    assert figures() == (3, 2, 1)
    assert evaluate("set", "--weights", "w.safetensors", "--collar", "0.7") == 0
    assert figures() == (3, 2, 2)
    assert evaluate("set", "--weights", "w.safetensors", "-t", "gunshot=0.05", "--split", "test") == 2
    assert evaluate("set", "--weights", "w.safetensors", "-t", "gunshot=0.05", "--subset", "test") == 0
    assert figures() == (3, 4, 2)  # the faint sounds at 0 s are heard, one within the collar
    for arguments in ([], ["-t", "0.05"]):
        assert evaluate("kept.npz", *arguments) == 0
        assert figures() == ((3, 4, 2) if arguments else (3, 2, 1))


def test_event_lists_are_scored(folder: Path) -> None:
    assert main(["detect", "set/audio", "--weights", "w.safetensors", "-t", "babycry=1", "-o", "found.tsv"]) == 0
    assert evaluate("set", "--events", "found.tsv") == 0
    assert figures() == (3, 2, 1)


def test_false_alarms_on_backgrounds(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By place: the group of a metadata.csv, a subfolder, or the file itself."""
    for name, loud in (("park/1.wav", True), ("park/2.wav", False), ("alone.wav", True), ("known.wav", False)):
        path = folder / "quiet" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, knock(4.0, 1.0, loudness=0.8 if loud else 0.1), RATE)
    (folder / "metadata.csv").write_text("file,group\nquiet/known.wav,home\n")
    weights = ["--weights", "w.safetensors"]
    assert evaluate("set", "--background", "quiet", *weights, "--keep", "kept.npz", "--figure", "curve.svg") == 0
    out = capsys.readouterr().out
    assert "False alarms in 0.00 hours" in out and "alone" in out and "1 without any" in out
    found = json.loads(Path("scores.json").read_text())
    assert found["classes"]["gunshot"]["events"] == 3 and found["classes"]["gunshot"]["detections"] == 2
    assert found["background"]["places"] == {
        "alone": {"seconds": 4.0, "gunshot": 1, "babycry": 1},
        "home": {"seconds": 4.0, "gunshot": 0, "babycry": 0},
        "park": {"seconds": 8.0, "gunshot": 1, "babycry": 1},
    }
    rows = found["curve"]["gunshot"]
    assert rows[0]["missed"] <= rows[-1]["missed"] == 1.0 and rows[-1]["false_alarms_per_hour"] == 0.0
    assert rows[0]["false_alarms_per_hour"] == pytest.approx(4 * 3_600 / 16.0)
    assert Path("curve.svg").read_text().startswith("<?xml")
    assert evaluate("kept.npz") == 0
    again = json.loads(Path("scores.json").read_text())
    assert again["background"] == found["background"] and again["curve"] == found["curve"]
    assert evaluate("--background", "quiet", *weights) == 0
    assert json.loads(Path("scores.json").read_text())["background"] == found["background"]
    for arguments, message in (
        ([], "MIXTURES: got none, allowed: mixtures, --background, or both"),
        (["--background", "nowhere"], "nowhere: no such folder"),
        (["--background", "set/meta"], "set/meta: no sound files"),
        (["kept.npz", "--background", "quiet"], "--background: got a folder, but no network runs"),
        (["--background", "quiet", "--figure", "c.svg"], "figure: got backgrounds without mixtures"),
        (["set", "--figure", "c.svg"], "--figure: got a picture, but there are no backgrounds"),
    ):
        assert evaluate(*arguments, *([] if "kept.npz" in arguments else weights)) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere: no such folder"),
        (["set/audio"], "no set of mixtures"),
        (["set", "--class", "dog"], "no event list of dog, there are gunshot"),
        (["set", "--subset", "train"], "no devtrain mixtures, there are devtest"),
        (["set", "--collar", "0"], "collar: got 0"),
        (["set", "--threshold", "2"], "threshold of gunshot: got 2.0"),
        (["set", "--jobs", "0"], "jobs: got 0, allowed: an integer >= 1"),
        (["set", "--events", "none.csv"], "none.csv"),
        (["set", "--events", "x.csv", "--keep", "k.npz"], "--keep: got a file, but no network runs"),
        (["set", "--events", "x.csv", "-t", "0.5"], "--threshold: got one with --events"),
        (["w.safetensors", "--class", "gunshot"], "--class: got one with a file of --keep"),
        (["set", "--keep", "no/where.npz"], "--keep: folder 'no' does not exist"),
        (["w.safetensors"], "w.safetensors: not a file of frame probabilities"),
    ],
)
def test_wrong_commands(folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str) -> None:
    before = set(folder.iterdir())
    assert evaluate(*arguments, "--weights", "w.safetensors") == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err
    assert set(folder.iterdir()) == before


def test_a_broken_mixture_costs_only_itself(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "set" / "audio" / "late.wav").write_bytes(b"damaged")
    assert evaluate("set", "--weights", "w.safetensors", "--keep", "kept.npz") == 1
    err = capsys.readouterr().err
    assert "late.wav: cannot be decoded" in err and "1 of 4 mixtures could not be read" in err
    assert json.loads(Path("scores.json").read_text())["failed"] == ["late.wav"]
    assert figures() == (2, 1, 1)
    assert evaluate("kept.npz") == 0  # what was computed is there
    assert figures() == (2, 1, 1)
    assert main(["tune", "set", "--weights", "w.safetensors"]) == 1
    for name in ONSETS:
        (folder / "set" / "audio" / f"{name}.wav").write_bytes(b"damaged")
    assert evaluate("set", "--weights", "w.safetensors") == 2
    assert not Path("scores.json").exists()


def test_lists_of_each_recording_are_scored_together(folder: Path) -> None:
    """A folder's CSVs, most of them without events, and label tracks, which name no file."""
    base = ["detect", "set/audio", "--weights", "w.safetensors", "-t", "babycry=1"]
    for form, suffix in (("csv", "csv"), ("audacity", "txt")):
        assert main([*base, "--format", form, "-o", f"{form}/"]) == 0
        lists = [argument for name in ONSETS for argument in ("--events", f"{form}/{name}.{suffix}")]
        assert evaluate("set", *lists) == 0
        assert figures() == (3, 2, 1)


def test_tuned_decisions_are_written_and_score_as_promised(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Weights.load("w.safetensors")
    assert main(["tune", "set", "--weights", "w.safetensors", "--collar", "0.7", "-o", "tuned.safetensors"]) == 0
    out, err = capsys.readouterr()
    assert "(0.6)" in out  # the old threshold
    assert "written to tuned.safetensors" in err
    after = Weights.load("tuned.safetensors")
    assert after.config.classes[0] != before.config.classes[0]
    assert after.config.classes[1] == before.config.classes[1]  # no mixtures of it
    assert evaluate("set", "--weights", "tuned.safetensors", "--collar", "0.7", "--keep", "kept.npz") == 0
    events, detections, correct = figures()
    files = set(folder.iterdir())
    assert main(["tune", "kept.npz", "--weights", "w.safetensors", "--collar", "0.7"]) == 0
    errors = f"{(events - correct + detections - correct) / events:.3f}"
    assert errors in out and errors in capsys.readouterr().out
    assert main(["tune", "kept.npz", "--weights", "w.safetensors", "--scores", "-o", "scored.safetensors"]) == 0
    assert "score" in capsys.readouterr().out
    assert Weights.load("scored.safetensors").config.classes[0].minimum_score in [i / 20 for i in range(20)]
    files |= {folder / "scored.safetensors"}
    assert set(folder.iterdir()) == files
    for arguments, message in (
        (["kept.npz", "-o", "tuned.pt"], "--output: got 'tuned.pt'"),
        (["kept.npz", "--subset", "test"], "--subset: got one with a file of --keep"),
        (["kept.npz", "--longest-filter", "4"], "longest_filter: got 4"),
        (["kept.npz", "--class", "babycry"], "classes: got babycry, allowed: gunshot"),
        (["kept.npz", "--objective", "speed"], "speed"),
        (["nowhere"], "nowhere"),
    ):
        assert main(["tune", *arguments, "--weights", "w.safetensors"]) == 2
        assert message in capsys.readouterr().err
    assert set(folder.iterdir()) == files


def test_scores_alone_are_calibrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    rng, recordings = np.random.default_rng(1), []
    for i in range(60):
        p = np.zeros((100, 2), np.float32)
        p[20:30, 0] = peak = rng.uniform(0.61, 0.99)
        events = (Annotation("loud", 0.4, 0.6),) if rng.random() < peak**3 else ()
        recordings.append(Recording(f"{i}.wav", p, 2.0, events, "loud"))
    ProbabilitySet(CONFIG, tuple(recordings)).save("kept.npz")
    make_weights().save("w.safetensors")
    assert main(["tune", "kept.npz", "--weights", "w.safetensors", "--only", "calibration", "-o", "t.safetensors"]) == 0
    assert "60" in capsys.readouterr().out
    told = Weights.load("t.safetensors").config.classes
    assert told[0].calibration is not None and told[1] == CONFIG.classes[1]
    assert dataclasses.replace(told[0], calibration=None) == CONFIG.classes[0]
    assert main(["tune", "kept.npz", "--weights", "t.safetensors", "--only", "decisions", "-o", "d.safetensors"]) == 0
    decided = Weights.load("d.safetensors").config.classes[0]
    assert decided.calibration == told[0].calibration and decided.threshold != told[0].threshold
    ProbabilitySet(CONFIG, tuple(recordings[:19])).save("few.npz")
    assert main(["tune", "few.npz", "--weights", "w.safetensors", "--only", "calibration", "-o", "f.safetensors"]) == 0
    assert "loud: 19 events, allowed: at least 20; its scores stay as they are" in capsys.readouterr().err
    assert Weights.load("f.safetensors").config.classes[0].calibration is None
    assert main(["tune", "kept.npz", "--only", "calibration"]) == 2  # of the shipped weights' classes
    assert "differ from those of the probabilities (loud, audible)" in capsys.readouterr().err
