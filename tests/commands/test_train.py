"""``mtfa-fast train`` and ``synthesize``: options reach the library, errors end without a traceback."""

from __future__ import annotations

import dataclasses
import inspect
import sys
from pathlib import Path

import pytest

from mtfa_fast.commands.cli import main
from mtfa_fast.commands.synthesize import synthesize
from mtfa_fast.commands.train import train, train_config
from mtfa_fast.config import PAPER_CLASSES, ClassConfig, NetworkConfig
from mtfa_fast.weights import Weights
from tests.source_folder import make_sources


def test_train_has_every_option_with_the_librarys_default() -> None:
    from mtfa_fast.training import TrainConfig

    options = {name: p.default for name, p in inspect.signature(train).parameters.items()}
    given = {name: value for name, value in options.items() if value is not None}
    assert train_config(given | {"sources": "s", "output": "o"}) == TrainConfig("s", "o")
    renamed = {"ebrs": "ebr", "config": "classes"}
    library = {renamed.get(f.name, f.name) for f in dataclasses.fields(TrainConfig)}
    own = {"overwrite"}  # of the command
    assert options.keys() == library | {f.name for f in dataclasses.fields(NetworkConfig)} | own


def test_train_options_reach_the_library() -> None:
    config = train_config(
        {
            "sources": "s",
            "output": "o",
            "classes": ["gunshot", "dog"],
            "variant": "res",
            "channels": 8,
            "ebr": [3.0],
            "augment": ["speed", "noise"],
            "epochs": 7,
        }
    )
    assert config.config.classes == (PAPER_CLASSES[2], ClassConfig("dog"))
    assert (config.config.network.variant, config.config.network.channels) == ("res", 8)
    assert (config.ebrs, config.epochs) == ((3.0,), 7)
    assert [name for name, on in dataclasses.asdict(config.augment).items() if on] == ["speed", "noise"]
    assert all(dataclasses.asdict(train_config({"sources": "", "output": "", "augment": ["all"]}).augment).values())


def test_initial_weights_bring_their_network_and_classes() -> None:
    given = {"sources": "s", "output": "o", "initial": "rare-events"}
    shipped = Weights.load("rare-events").config
    assert train_config(given).config == shipped
    own = train_config(given | {"classes": ["doorbell"], "dropout": 0.0}).config
    assert own.network == dataclasses.replace(shipped.network, dropout=0.0)
    assert (own.features, own.classes) == (shipped.features, (ClassConfig("doorbell"),))


def test_synthesize_has_the_librarys_defaults() -> None:
    from mtfa_fast.data.recipes import MixtureParameters

    options = {name: p.default for name, p in inspect.signature(synthesize).parameters.items()}
    for name in ("mixtures_per_class", "event_presence_prob", "seed"):
        assert options[name] == getattr(MixtureParameters(), name)


def test_train_ends_with_a_weight_file(
    tmp_path: Path, quick_statistics: None, capsys: pytest.CaptureFixture[str]
) -> None:
    sources = make_sources(tmp_path / "sources", subset="devtrain", events=3)
    size = ["--class", "gunshot", "--variant", "res", "--channels", "2", "--hidden", "3", "--batch-size", "1"]
    work = ["--chunk-frames", "16", "--steps-per-epoch", "1", "--epochs", "1", "--validation-chunks", "1"]
    assert main(["train", str(sources), "-o", str(tmp_path / "run"), *size, *work]) == 0
    best = capsys.readouterr().out.strip()
    assert best == str(tmp_path / "run" / "best.safetensors")
    assert Weights.load(best).config.class_names == ("gunshot",)
    assert main(["train", str(sources), "-o", str(tmp_path / "run"), *size, *work, "--seed", "1"]) == 2
    assert "seed: got 1, the run has 0" in capsys.readouterr().err
    wild = ["--chunk-frames", "16", "--epochs", "1", "--validation-chunks", "1", "--learning-rate", "1e30"]
    for steps, what in (("1", "validation loss"), ("3", "loss")):
        run = ["-o", str(tmp_path / what), "--steps-per-epoch", steps]
        assert main(["train", str(sources), *size, *wild, *run]) == 1
        assert f"mtfa-fast: {what} is nan at step 1; nothing is kept" in capsys.readouterr().err


def test_two_folders_are_packed_trained_on_by_folds_and_pooled(
    tmp_path: Path, quick_statistics: None, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = []
    for k in range(2):
        root = make_sources(tmp_path / f"part{k}", subset="devtrain", events=2, seed=k)
        files = [p.relative_to(root).as_posix() for p in sorted(root.rglob("*.wav"))]
        (root / "metadata.csv").write_text("\n".join(["file,group", *(f"{f},{k}-{f}" for f in files)]))
        folders.append(str(root))
    packed = str(tmp_path / "both.pack")
    assert main(["pack", *folders, "-o", packed, "--compression", "1"]) == 0
    size = ["--class", "gunshot", "--variant", "res", "--channels", "2", "--hidden", "3", "--batch-size", "1"]
    work = ["--chunk-frames", "16", "--steps-per-epoch", "1", "--epochs", "1", "--validation-chunks", "1"]
    runs = [str(tmp_path / f"run{k}") for k in (1, 2)]
    for k, sources in ((1, [packed]), (2, folders)):
        run = ["-o", runs[k - 1], "--folds", "2", "--fold", str(k)]
        assert main(["train", *sources, *run, *size, *work]) == 0
    weights = [option for run in runs for option in ("--weights", f"{run}/best.safetensors")]
    kept = str(tmp_path / "kept.npz")
    capsys.readouterr()
    assert main(["pool", *folders, *weights, "-o", kept, "-n", "2"]) == 0
    out, err = capsys.readouterr()
    assert out.strip() == kept and "4 mixtures, 0.05 hours of backgrounds" in err
    assert main(["evaluate", kept]) == 0 and "False alarms in 0.05 hours" in capsys.readouterr().out
    first = [*folders, *weights[:2], "-o", str(tmp_path / "first.npz"), "-n", "2", "--folds"]
    assert main(["pool", *first, "2"]) == 0 and "2 mixtures" in capsys.readouterr().err
    assert main(["pool", *first, "0"]) == 2 and "--folds: got 0, allowed: at least 1" in capsys.readouterr().err
    assert main(["pack", *folders, "-o", packed, "--compression", "2"]) == 2
    assert "compression: got 2.0, allowed: 0 to 1" in capsys.readouterr().err
    assert main(["pool", folders[0], folders[0], *weights, "-o", kept]) == 2
    assert "twice, allowed: different folders" in capsys.readouterr().err


def test_synthesize_writes_the_official_layout(
    devtest_sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["synthesize", str(devtest_sources), str(tmp_path / "out"), "--split", "test", "-n", "2"]
    assert main([*command, "--class", "gunshot", "--ebr", "0", "--seed", "3"]) == 0
    out, err = capsys.readouterr()
    folder = Path(out.strip())
    assert "2 mixtures written, 0 already there" in err
    assert len(list((folder / "audio").glob("mixture_devtest_gunshot_*.wav"))) == 2
    assert "ebrs: [0]" in (folder / "parameters.yaml").read_text()
    assert "seed: 3" in (folder / "parameters.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "nowhere", "-o", "run"], "nowhere: no source folder"),
        (["train", "nowhere", "-o", "run", "--epochs", "0"], "epochs: got 0"),
        (["train", "nowhere", "-o", "run", "--augment", "louder"], "augment: got louder, allowed: all, "),
        (["train", "nowhere", "-o", "run", "--channels", "0"], "channels: got 0"),
        (["train", "nowhere", "-o", "run", "--validation", "v"], "validation: got 'v', allowed: only with recorded"),
        (["train", "nowhere", "-o", "run", "--distractors", "d", "--augment", "noise"], "distractors: got 'd'"),
        (["train", "nowhere"], "--output"),
        (["synthesize", "nowhere", "out"], "nowhere: no source folder"),
        (["synthesize", "nowhere", "out", "-n", "0"], "mixtures_per_class: got 0"),
        (["synthesize", "nowhere"], "OUTPUT"),
    ],
)
def test_wrong_commands(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_train_without_torch_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "mtfa_fast.training.loop", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["train", "nowhere", "-o", "run"]) == 2
    assert "train needs PyTorch, which is not installed: pip install 'mtfa-fast[torch]'" in capsys.readouterr().err
