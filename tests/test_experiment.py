"""``mtfa-fast experiment table1`` on toy data: its numbers, its rules, and that no stop costs anything."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import inspect
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml
from source_folder import RATE, make_sources

from mtfa_fast.cli import main
from mtfa_fast.commands.experiment import table1 as command
from mtfa_fast.data.layout import open_mixture_set
from mtfa_fast.data.recipes import MixtureParameters, draw, load_sources, read_recipes, recipes_path
from mtfa_fast.detector import Detector
from mtfa_fast.evaluation import evaluate
from mtfa_fast.experiments.config import Table1Config
from mtfa_fast.experiments.recordings import mix_test
from mtfa_fast.experiments.report import markdown, table
from mtfa_fast.experiments.table1 import table1
from mtfa_fast.training.chunks import recorded_chunks
from mtfa_fast.weights import Weights

TINY: dict[str, Any] = {
    "one_network": True, "mixtures": 0, "test_mixtures": 2, "channels": 2, "hidden": 3, "chunk_frames": 16,
    "batch_size": 2, "steps_per_epoch": 2, "epochs": 2, "validation_chunks": 2, "threads": 1,
}  # fmt: skip
ONE = TINY | {"classes": ("gunshot",), "variants": ("res",), "seeds": (0,)}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtfa_fast.training.loop.STATISTICS_CHUNKS", 2)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sources")
    for subset in ("devtrain", "devtest"):  # the same files in both, of which the table must warn
        make_sources(root, subset=subset, events=3)
    shutil.copy(root / "bgs/audio/b000.wav", root / "bgs/audio/b001.wav")  # at 44.1 kHz: resampling takes its time
    return root


def config(sources: Path, output: Path, **changes: Any) -> Table1Config:
    return Table1Config(str(sources), str(output), **TINY | changes)


def options(settings: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for name, value in settings.items():
        values = value if isinstance(value, tuple) else (value,)
        option = f"--{name.replace('_', '-')}"
        found += [option] if value is True else [text for v in values for text in (option, str(v))]
    return found


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


def test_the_whole_table(sources: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    learning = {"steps_per_epoch": 10, "batch_size": 4, "learning_rate": 0.05, "presence": 0.9}
    settings = config(sources, out, variants=("mtfa", "res"), seeds=(0, 5), **learning)
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
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = ONE | {"mixtures": 2, "steps_per_epoch": 1}
    table1(config(sources, tmp_path / "whole", **settings))
    whole = content(tmp_path / "whole")

    refused: list[str] = []
    sync = os.fsync

    def full_once(descriptor: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        name = path.name[1:].rsplit(".", 2)[0]  # of the file that it is to become
        if name not in refused:
            refused.append(name)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr("os.fsync", full_once)
    out = tmp_path / "out"
    arguments = ["experiment", "table1", str(sources), "-o", str(out), *options(settings)]
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
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = TINY | {"classes": ("gunshot",), "variants": ("res",), "seeds": (0, 1)}
    table1(config(sources, tmp_path / "whole", **settings))
    out = tmp_path / "out"
    arguments = ["experiment", "table1", str(sources), "-o", str(out), *options(settings)]

    def interrupt(facts: dict[str, Any]) -> None:
        if facts.get("step") == 3 and (out / "networks/res-all-seed0/test.json").exists():
            raise KeyboardInterrupt  # in the second epoch of the second network

    with monkeypatch.context() as patch:
        run = table1
        patch.setattr("mtfa_fast.experiments.table1.table1", lambda config, report: run(config, interrupt))
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


def test_protocol_of_mixtures_and_a_network_a_class(sources: Path, tmp_path: Path) -> None:
    """Training and validation mixtures share no recording; an epoch is every chunk once."""
    settings = config(
        sources, tmp_path, **ONE | {"classes": ("babycry", "gunshot"), "one_network": False, "mixtures": 4,
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


def test_numbers_over_seeds(tmp_path: Path) -> None:
    """A seed counts where all of its classes are scored; a class without events has no rate and no average."""
    settings = Table1Config("s", "o", classes=("a", "b"), variants=("res", "mtfa"), seeds=(1, 2, 3))
    rates = {("a", 1): (0.1, 0.9), ("b", 1): (0.3, 0.8), ("a", 2): (0.2, 0.7), ("b", 2): (0.8, 0.6), ("a", 3): (9, 0)}
    networks = {(n.variant, n.classes[0], n.seed): n for n in settings.networks()}
    scores = {
        networks["res", label, seed]: {"classes": {label: {"error_rate": er, "f1": f1}}}
        for (label, seed), (er, f1) in rates.items()
    }
    scores[networks["mtfa", "a", 1]] = {"classes": {"a": {"error_rate": None, "f1": None}}}
    scores[networks["mtfa", "b", 1]] = {"classes": {"b": {"error_rate": 0.5, "f1": 0.5}}}
    data = {"train": {"sha256": "0" * 64}, "test": {"sha256": "1" * 64}, "in_both_splits": 0}
    result = table(settings, data, {"test": scores})
    res, mtfa = result["rows"]
    assert res["seeds"] == [1, 2] and mtfa["seeds"] == [1]
    assert res["average"]["error_rate"]["values"] == pytest.approx([0.2, 0.5])
    assert res["average"]["error_rate"]["standard_deviation"] == pytest.approx(0.3 / 2**0.5)
    lines = markdown(result).splitlines()
    assert lines[2] == (
        "| ResRNN, here | test split | 2 | 0.150 ± 0.071 | 80.0 ± 14.1 | 0.550 ± 0.354 | 70.0 ± 14.1 "
        "| 0.350 ± 0.212 | 75.0 ± 14.1 |"
    )
    assert lines[5] == "| MTFA, here | test split | 1 | – | – | 0.500 | 50.0 | – | – |"
    assert len(result["unfinished"]) == 5 and "**Unfinished**: 5 of 12" in markdown(result)
    assert "**Not a test**" not in markdown(result)


def listed(name: str, change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        path = root / "cv_setup" / name
        path.write_text(yaml.safe_dump(change(yaml.safe_load(path.read_text()))))

    return apply


def cut_short(name: str, seconds: float) -> Callable[[Path], None]:
    def apply(root: Path) -> None:
        path = root / name
        wave, rate = soundfile.read(path)
        path.unlink()  # it may be a link to the file that other tests use
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
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: Callable[[Path], None], message: str
) -> None:
    root = tmp_path / "damaged"
    shutil.copytree(sources, root, copy_function=os.link)
    for path in (root / "cv_setup").iterdir():  # links would change the lists of the other tests
        text = path.read_text()
        path.unlink()
        path.write_text(text)
    damage(root)
    arguments = ["experiment", "table1", str(root), "-o", str(tmp_path / "out"), *options(TINY)]
    assert main(arguments) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_folders_that_are_not_this_experiments(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def files(folder: Path) -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    def refused(output: Path, sources: Path = sources, **changes: Any) -> str:
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
    table1(config(sources, out, **ONE))
    error = refused(out, channels=3, epochs=7)
    assert "channels: got 3, the experiment has 2; epochs: got 7, the experiment has 2" in error
    with open(out / ".lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another process works on this experiment" in refused(out)

    other = tmp_path / "other"
    shutil.copytree(sources, other)
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
    table1(config(sources, out, **ONE))
    assert not (out / "test").exists()

    (out / "experiment.json").write_text("{}")
    assert "not an experiment of this version" in refused(out)


def test_a_training_that_diverges_ends_with_a_reason(
    sources: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["experiment", "table1", str(sources), "-o", str(tmp_path / "out"), *options(ONE)]
    assert main([*arguments, "--learning-rate", "1e30"]) == 1
    assert "mtfa-fast: loss is nan at step" in capsys.readouterr().err


def test_the_test_set_is_the_official_recipes(sources: Path, tmp_path: Path) -> None:
    """One class has the mixtures that it has among all; the quirk puts an event where its last draw put it."""
    drawn = draw(load_sources(sources, "test"), MixtureParameters(12, seed=9), replicate_quirk=True)["gunshot"]
    settings = config(sources, tmp_path, **ONE | {"test_mixtures": 12, "data_seed": 9, "replicate_quirk": True})
    made = mix_test(settings, None)
    assert [bool(m.events) for m in made] == [d.event is not None for d in drawn]
    onsets = [m.events[0].onset for m in made if m.events]
    assert onsets == [d.onset for d in drawn if d.event] and len(set(onsets)) < len(onsets)
    kept = {m.path: m.path.stat().st_mtime_ns for m in made}
    made[0].path.unlink()
    assert mix_test(settings, None) == made
    assert {m.path: m.path.stat().st_mtime_ns for m in made[1:]} == {m.path: kept[m.path] for m in made[1:]}


def test_command_has_every_option_with_the_librarys_default() -> None:
    found = {name: p.default for name, p in inspect.signature(command).parameters.items()}
    library = {f.name: f.default for f in dataclasses.fields(Table1Config)}
    assert found.keys() == library.keys()
    for name, value in found.items():
        assert value in (None, inspect.Parameter.empty, library[name]), name


def test_defaults_are_the_papers_protocol() -> None:
    settings = Table1Config("s", "o")
    networks = settings.networks()
    assert [n.seed for n in networks] == [0] * 9 + [1] * 9 + [2] * 9  # what is unfinished compares what it has
    for network in networks[:9]:
        run = settings.training(network, "s", "v", 7, 9)
        (label,) = network.classes
        (decision,) = run.config.classes
        assert (run.chunk_frames, run.chunk_shift, run.learning_rate, run.patience) == (256, 128, 1e-3, 10)
        assert run.config.network.dropout == (0.4 if label == "gunshot" else 0.3)
        assert (decision.threshold, decision.filter_frames) == (0.2 if label == "glassbreak" else 0.4, 27)
        assert (run.config.network.channels, run.config.network.hidden, run.recorded) == (64, 64, True)
        # The variants differ in nothing else.
        (other,) = (n for n in networks[:9] if n.variant == "mtfa" and n.classes == network.classes)
        as_mtfa = dataclasses.replace(run.config, network=dataclasses.replace(run.config.network, variant="mtfa"))
        assert dataclasses.replace(run, config=as_mtfa, output="") == dataclasses.replace(
            settings.training(other, "s", "v", 7, 9), output=""
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": ()}, "seeds: got"),
        ({"seeds": (1, 1)}, "seeds: got"),
        ({"variants": ("big",)}, "variants: got 'big', allowed: mtfa, resatt, res"),
        ({"classes": ("a/b",)}, "classes: got 'a/b'"),
        ({"mixtures": 1}, "mixtures: got 1"),
        ({"mixtures": 0}, "steps_per_epoch: got 0, allowed: >= 1 where mixtures is 0"),
        ({"test_mixtures": 1}, "test_mixtures: got 1"),
        ({"chunk_frames": 1502}, "chunk_frames: got 1502, allowed: at most 1501"),
        ({"data_seed": -1}, "seed: got -1"),
        ({"channels": 0}, "channels: got 0"),
        ({"presence": 2.0}, "event_presence_prob: got 2.0"),
    ],
)
def test_wrong_settings(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        Table1Config("s", "o", **changes)
