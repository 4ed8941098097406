"""Which files commands may write: not inputs, not recordings, not what somebody else wrote, unless told to."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile

from mtfa_fast import detector as detector_module
from mtfa_fast.commands.cli import main
from mtfa_fast.commands.outputs import written_by_us
from mtfa_fast.data.opening import require_recordings
from mtfa_fast.data.synthesis import synthesize
from mtfa_fast.weights import Weights
from tests.face import RATE, LoudnessEngine, knock, make_weights
from tests.source_folder import make_sources


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(detector_module, "make_engine", LoudnessEngine)
    monkeypatch.chdir(tmp_path)
    make_weights().save("w.safetensors")
    soundfile.write("a.wav", knock(2.0, 0.5), RATE)
    return tmp_path


@pytest.mark.parametrize(
    ("output", "form"),
    [("out/", "audacity"), ("a.wav", "csv"), ("keep.WAV", "csv"), ("out.csv", "csv"), ("talk.m4a", "json")],
)
def test_what_is_not_ours_is_not_replaced(
    folder: Path, capsys: pytest.CaptureFixture[str], output: str, form: str
) -> None:
    Path("out").mkdir()
    for own in ("out/a.txt", "out.csv"):
        Path(own).write_text("0.5\t0.7\tmy own label\n")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    command = ["detect", "a.wav", "--weights", "w.safetensors", "--format", form, "-o", output]
    assert main(command) == 2
    assert "or --overwrite" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before
    assert main([*command, "--overwrite"]) == 0


@pytest.mark.parametrize("form", ["csv", "json", "table"])
def test_our_own_tables_are_replaced(folder: Path, form: str) -> None:
    for threshold in ("0.5", "0.9", "0.5"):  # the second has no events
        assert (
            main(["detect", "a.wav", "--weights", "w.safetensors", "--format", form, "-o", "x", "-t", threshold]) == 0
        )


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate", "kept.npz", "-o", "notes.txt"],
        ["evaluate", "kept.npz", "-o", "kept.npz"],
        ["evaluate", "kept.npz", "-o", "scores.wav"],
        ["tune", "kept.npz", "-o", "mine.safetensors"],
        ["visualize", "a.wav", "-o", "mine.html", "--no-masks", "--weights", "w.safetensors"],
        ["train", "in", "-o", "run"],
        ["export", "w.safetensors", "-o", "mine.onnx"],
        ["pack", "in", "-o", "mine.pack"],
        ["pool", "in", "-o", "kept.npz", "--weights", "w.safetensors"],
        ["quantize", "w.safetensors", "a.wav", "-o", "mine.safetensors"],
    ],
    ids=lambda command: " ".join(command[:4]),
)
def test_one_rule_for_every_command(folder: Path, capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    Path("run").mkdir()
    for own in (
        "notes.txt",
        "kept.npz",
        "mine.safetensors",
        "mine.html",
        "mine.onnx",
        "mine.pack",
        "run/best.safetensors",
    ):
        Path(own).write_text("somebody's own")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert main(command) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_pages_and_weights_of_ours_are_known(folder: Path) -> None:
    assert written_by_us("w.safetensors")
    for suffix in ("html", "png", "svg", "pdf"):
        target = f"x.{suffix}"
        for _ in range(2):
            command = ["visualize", "a.wav", "-o", target, "--weights", "w.safetensors", "--no-masks"]
            assert main(command) == 0
    Path("x.html").write_text("<!doctype html><p>mtfa-fast is what I use")
    assert not written_by_us("x.html")
    make_weights().save("w.safetensors")
    assert Weights.load("w.safetensors").config.class_names == ("loud", "audible")


def test_mixtures_do_not_replace_what_else_lies_in_their_folder(folder: Path) -> None:
    from mtfa_fast.data.recipes import MixtureParameters, load_sources

    sources = load_sources(make_sources(folder / "in"), "test")
    parameters = MixtureParameters(1)
    own = folder / "out" / "mixture_data" / "devtest" / parameters.hash / "meta" / "event_list_devtest_gunshot.csv"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    with pytest.raises(ValueError, match="without the parameters"):
        synthesize(sources, folder / "out", parameters, classes=["gunshot"])
    assert own.read_text() == "mine"


def test_recordings_are_opened_before_a_run_and_hidden_files_are_no_recordings(folder: Path) -> None:
    from mtfa_fast.audio.files import sound_files

    for name in ("._a.wav", ".Trash/b.wav"):
        Path("day", name).parent.mkdir(parents=True, exist_ok=True)
        Path("day", name).write_bytes(b"\0\5\x16\7")
    soundfile.write("day/a.wav", knock(2.0, 0.5), RATE)
    Path("day/._w.safetensors").write_bytes(b"\0\5\x16\7")
    make_weights().save("day/w.safetensors")
    assert sound_files("day") == [Path("day/a.wav")]
    assert Weights.load("day").config.class_names
    Path("day/broken.wav").write_bytes(b"words")
    with pytest.raises(ValueError, match=r"recordings that cannot be read: .*broken\.wav"):
        require_recordings(sound_files("day"))
