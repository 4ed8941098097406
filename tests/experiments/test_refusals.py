"""What an experiment refuses, before it has written anything: unusable recordings, other folders; and a divergence."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

from mtfa_fast.commands.cli import main
from mtfa_fast.experiments.table1 import table1
from tests.experiments.toy_experiment import ONE, TINY, config, options
from tests.source_folder import RATE, linked_copy

pytestmark = pytest.mark.usefixtures("quick_statistics")


def listed(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        path = root / "cv_setup" / name
        path.write_text(yaml.safe_dump(change(yaml.safe_load(path.read_text()))))

    return apply


def cut_short(name: str, seconds: float) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        path = root / name
        wave, rate = soundfile.read(path)
        path.unlink()  # a link to the file that other tests use
        soundfile.write(path, wave[: int(seconds * rate)], rate)

    return apply


def words(root: Path) -> None:
    (root / "bgs/audio/b000.wav").unlink()
    (root / "bgs/audio/b000.wav").write_text("not audio")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (listed("events_devtest.yaml", lambda e: {k: e[k] for k in ("babycry", "gunshot")}),
         "events_devtest.yaml: no events of class 'glassbreak', listed are babycry, gunshot"),
        (lambda root: shutil.rmtree(root / "events/glassbreak"), "glassbreak_0.wav, which does not exist"),
        (listed("events_devtrain.yaml", lambda e: {}), "events_devtrain.yaml: no events of class 'babycry'"),
        (listed("events_devtest.yaml", lambda e: e | {"gunshot": []}), "no events of class 'gunshot'"),
        (listed("bgs_devtest.yaml", lambda b: []), "bgs_devtest.yaml: no backgrounds"),
        (lambda root: (root / "cv_setup/bgs_devtrain.yaml").unlink(), "bgs_devtrain.yaml: cannot be read"),
        (listed("events_devtrain.yaml", lambda e: e | {"gunshot": e["gunshot"][:1]}),
         "events of gunshot: got 1 source, allowed: at least 2 to hold one out"),
        (cut_short("bgs/audio/b002.wav", 0.2), "b002.wav: background of 0.200 s, allowed: at least 0.38 s"),
        (cut_short("bgs/audio/b002.wav", 29), "b002.wav: background of 29.000 s, allowed: at least 30 s"),
        (cut_short("events/gunshot/gunshot_1.wav", 0.2), "gunshot_1.wav: segment 0.05 to"),
        (words, "b000.wav"),
    ],
)  # fmt: skip
def test_sources_that_cannot_be_used(
    toy_sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None], message: str
) -> None:
    root = linked_copy(toy_sources, tmp_path / "damaged")
    damage(root)
    arguments = ["experiment", "table1", str(root), "-o", str(tmp_path / "out"), *options(TINY)]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_folders_that_are_not_this_experiments(
    toy_sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def files(folder: Path) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def refused(output: Path, sources: Path = toy_sources, **changes: Any) -> str:
        before = files(tmp_path)
        arguments = ["experiment", "table1", str(sources), "-o", str(output), *options(ONE | changes)]
        assert main(arguments) == 2
        assert files(tmp_path) == before
        return capsys.readouterr().err

    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("years of work")
    assert "holds thesis.tex (1 such) and no experiment.json" in refused(foreign)
    assert "allowed: a folder" in refused(foreign / "thesis.tex")

    out = tmp_path / "out"
    table1(config(toy_sources, out, **ONE))
    error = refused(out, channels=3, epochs=7)
    assert "channels: got 3, the experiment has 2; epochs: got 7, the experiment has 2" in error
    with open(out / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another process works on this experiment" in refused(out)

    other = linked_copy(toy_sources, tmp_path / "other")
    (other / "events/gunshot/gunshot_0.wav").unlink()
    soundfile.write(other / "events/gunshot/gunshot_0.wav", np.full(2 * RATE, 0.1), RATE)
    assert "other data (train: got {'sha256': " in refused(out, other)

    scores = out / "networks/res-all-seed0/test.json"
    text = scores.read_text()
    scores.write_text(text[:-20])
    assert f"{scores}: cannot be read as scores" in refused(out)
    scores.write_text(text.replace('"weights_sha256": "', '"weights_sha256": "0'))
    assert f"{scores}: scores of other weights" in refused(out)
    scores.write_text(text)
    shutil.rmtree(out / "test")  # nothing needs it any more
    table1(config(toy_sources, out, **ONE))
    assert not (out / "test").exists()

    (out / "experiment.json").write_text("{}")
    assert "not an experiment of this version" in refused(out)


def test_a_training_that_diverges_ends_with_a_reason(
    toy_sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["experiment", "table1", str(toy_sources), "-o", str(tmp_path / "out"), *options(ONE)]
    assert main([*arguments, "--learning-rate", "1e30"]) == 1
    assert "mtfa-fast: loss is nan at step" in capsys.readouterr().err
