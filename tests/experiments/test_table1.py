"""``mtfa-fast experiment table1`` on toy data: its numbers, its protocol, and that no stop costs anything."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtfa_fast.commands.cli import main
from mtfa_fast.data.layout import open_mixture_set
from mtfa_fast.data.recipes import read_recipes, recipes_path
from mtfa_fast.detector import Detector
from mtfa_fast.experiments.table1 import table1
from mtfa_fast.scoring.evaluation import evaluate
from mtfa_fast.training.chunks import recorded_chunks
from mtfa_fast.weights import Weights
from tests.experiments.toy_experiment import ONE, TINY, config, options

pytestmark = pytest.mark.usefixtures("quick_statistics")


def without_times(value: Any) -> Any:
    """JSON values without what differs from run to run."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k != "seconds"}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def content(folder: Path) -> dict[str, Any]:
    """Everything that an experiment leaves, in a form that is equal where the results are."""
    found: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name not in ("checkpoint.pt", "train.json")):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".jsonl" or path.name in ("test.json", "evaluation.json", "table1.json"):
            texts = path.read_text("utf-8").splitlines() if path.suffix == ".jsonl" else [path.read_text("utf-8")]
            found[name] = [without_times(json.loads(text)) for text in texts]
        elif path.suffix == ".safetensors":
            weights = Weights.load(path)
            found[name] = weights.metadata, {k: v.tobytes() for k, v in weights.tensors.items()}
        elif path.name != ".lock":
            found[name] = path.read_bytes()
    return found


def test_the_whole_table(toy_sources: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    learning = {"steps_per_epoch": 10, "batch_size": 4, "learning_rate": 0.05, "presence": 0.9}
    settings = config(toy_sources, out, variants=("mtfa", "res"), seeds=(0, 5), **learning)
    lines = [line.split(" | ") for line in table1(settings).read_text("utf-8").splitlines() if line.startswith("| ")]
    result = json.loads((out / "table1.json").read_text("utf-8"))
    mixtures = open_mixture_set(out / "test").mixtures()
    assert len(mixtures) == 6 and sum(bool(m.events) for m in mixtures) == 3
    for variant, name, line in (("mtfa", "MTFA", 2), ("res", "ResRNN", 5)):
        found = []
        for seed in (0, 5):
            weights = Weights.load(out / "networks" / f"{variant}-all-seed{seed}" / "best.safetensors")
            assert (
                weights.config.network.variant == variant and json.loads(weights.metadata["training"])["seed"] == seed
            )
            found.append(evaluate(Detector(weights, precision="fp32"), mixtures)[0])
        (row,) = (r for r in result["rows"] if r["variant"] == variant)
        rates = [*([s.classes[label] for s in found] for label in settings.classes), found]
        cells = [f"| {name}, here", "test split", "2"]
        for scores, part in zip(rates, [*row["classes"].values(), row["average"]], strict=True):
            values = np.array([(s.error_rate, s.f1) for s in scores])
            assert np.allclose([part["error_rate"]["values"], part["f1"]["values"]], values.T)
            (er, f1), (er_spread, f1_spread) = values.mean(0), values.std(0, ddof=1)
            cells += [f"{er:.3f} ± {er_spread:.3f}", f"{100 * f1:.1f} ± {100 * f1_spread:.1f}"]
        assert lines[line] == [*cells[:-1], f"{cells[-1]} |"]
    assert len({json.dumps(n["scores"]["test"]["classes"]) for n in result["networks"]}) > 1  # not all alike
    dashes = ["–"] * 7
    assert lines[3] == ["| MTFA, paper", "DCASE 2017 development", *dashes, "0.07", "– |"]
    assert lines[7] == ["| ResRNN, paper", "DCASE 2017 evaluation", *dashes, "0.18", "– |"]
    text = (out / "table1.md").read_text("utf-8")
    assert "12 files are in the train and in the test split" in text and "torch 2" in text
    assert result["data"]["train"]["sha256"][:16] in text and result["unfinished"] == []

    # A seed more and a second set: what is there is not trained, mixed or scored again.
    before = {p: p.stat().st_mtime_ns for p in [*out.glob("networks/*/*"), *out.rglob("*.wav")]}
    told: list[dict[str, Any]] = []
    table1(dataclasses.replace(settings, evaluation=str(out / "test"), seeds=(0, 5, 6), variants=("res",)), told.append)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert [t["network"] for t in told if t.get("stage") == "training"] == ["res-all-seed6"]
    result = json.loads((out / "table1.json").read_text("utf-8"))
    rows = {row["set"]: row for row in result["rows"]}
    assert rows["test"]["seeds"] == rows["evaluation"]["seeds"] == [0, 5, 6]
    assert rows["test"]["average"] == rows["evaluation"]["average"]
    assert "| ResRNN, here | evaluation set | 3 |" in (out / "table1.md").read_text("utf-8")


def test_a_disk_that_is_full_at_every_file_once(
    toy_sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ONE | {"mixtures": 2, "steps_per_epoch": 1}
    table1(config(toy_sources, tmp_path / "whole", **settings))
    whole = content(tmp_path / "whole")

    refused: list[str] = []
    sync = os.fsync

    def full_once(descriptor: int) -> None:
        name = sys._getframe(1).f_locals["target"].name  # in write_beside: of the file that this one is to become
        if name not in refused:
            refused.append(name)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr("os.fsync", full_once)
    out = tmp_path / "out"
    arguments = ["experiment", "table1", str(toy_sources), "-o", str(out), *options(settings)]
    runs = 1
    while code := main(arguments):
        error = capsys.readouterr().err
        assert code == 1 and f"the same command goes on in {out}" in error
        assert "No space left on device" in error
        assert any(name in error.splitlines()[-1] for name in refused[-2:])  # a thread may have begun another mixture
        assert not list(out.rglob("*.part"))
        runs += 1
    assert capsys.readouterr().out.strip() == str(out / "table1.md")
    files = {"experiment.json", "train.json", "best.safetensors", "last.safetensors", "checkpoint.pt", "log.jsonl"}
    assert files | {"test.json", "table1.json", "table1.md", "parameters.yaml"} <= set(refused)
    assert len(refused) >= runs - 1 > 16
    assert content(out) == whole


def test_interrupted_and_gone_on(
    toy_sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = TINY | {"classes": ("gunshot",), "variants": ("res",), "seeds": (0, 1)}
    table1(config(toy_sources, tmp_path / "whole", **settings))
    out = tmp_path / "out"
    arguments = ["experiment", "table1", str(toy_sources), "-o", str(out), *options(settings)]

    def interrupt(facts: dict[str, Any]) -> None:
        if facts.get("step") == 3 and (out / "networks/res-all-seed0/test.json").exists():
            raise KeyboardInterrupt  # in the second epoch of the second network

    with monkeypatch.context() as patch:
        run = table1
        patch.setattr("mtfa_fast.experiments.table1.table1", lambda config, report, **_: run(config, interrupt))
        assert main(arguments) == 130
    assert f"nothing that was finished is lost, the same command goes on in {out}" in capsys.readouterr().err
    assert "**Unfinished**: 1 of 2 networks" in (out / "table1.md").read_text("utf-8")
    assert json.loads((out / "table1.json").read_text())["rows"][0]["seeds"] == [0]
    first = (out / "networks/res-all-seed0/best.safetensors").stat().st_mtime_ns
    assert main(arguments) == 0
    err = capsys.readouterr().err
    assert "[2/2] res-all-seed1: training" in err and "[1/2]" not in err
    assert "epoch    2" in err and "epoch    1" not in err  # it went on in the middle
    assert (out / "networks/res-all-seed0/best.safetensors").stat().st_mtime_ns == first
    assert content(out) == content(tmp_path / "whole")


def test_protocol_of_mixtures_and_a_network_a_class(toy_sources: Path, tmp_path: Path) -> None:
    """Training and validation mixtures share no recording; an epoch is every chunk once."""
    settings = config(
        toy_sources, tmp_path, **ONE | {"classes": ("babycry", "gunshot"), "one_network": False, "mixtures": 4,
        "steps_per_epoch": 0, "validation_chunks": 0, "chunk_frames": 300, "chunk_shift": 1201, "epochs": 1},
    )  # fmt: skip
    told: list[dict[str, Any]] = []
    table1(settings, told.append)
    used = {}
    for name in ("train", "validation"):
        recipes = [
            recipe
            for label in settings.classes
            for made in [open_mixture_set(tmp_path / name)]
            for recipe in read_recipes(recipes_path(made.folder, made.subset, label))
        ]
        used[name] = {r[key] for r in recipes for key in ("bg_path", "event_path") if key in r}
        assert len(recipes) == (8 if name == "train" else 4)
    assert used["train"] and used["validation"] and not used["train"] & used["validation"]
    runs = {n.classes[0]: (n, f"{tmp_path}/train", f"{tmp_path}/validation") for n in settings.networks()}
    for label, dropout, threshold in (("babycry", 0.3, 0.4), ("gunshot", 0.4, 0.4)):
        run = tmp_path / "networks" / f"res-{label}-seed0"
        written = json.loads((run / "train.json").read_text())
        network, classes = written["config"]["network"], written["config"]["classes"]
        assert network["dropout"] == dropout
        assert [(c["name"], c["threshold"], c["filter_frames"]) for c in classes] == [(label, threshold, 27)]
        assert written["steps_per_epoch"] == 4 * 2 // 2 and written["validation_chunks"] == 2 * 2
        assert json.loads((run / "test.json").read_text())["classes"].keys() == {label}
        learned, validated = recorded_chunks(settings.training(*runs[label], 1, 1))
        assert [len(c.mixtures) for c in (learned, validated)] == [4, 2]
        assert {m.path.relative_to(tmp_path).parts[0] for m in learned.mixtures} == {"train"}
        assert {m.path.relative_to(tmp_path).parts[0] for m in validated.mixtures} == {"validation"}
    assert json.loads((tmp_path / "table1.json").read_text())["rows"][0]["seeds"] == [0]
    assert "averages over three classes, not over these" in (tmp_path / "table1.md").read_text("utf-8")
