"""Settings of an experiment, its test set, and the arithmetic of its table; nothing is trained."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pytest

from mtfa_fast.commands.experiment import table1 as command
from mtfa_fast.data.recipes import MixtureParameters, draw, load_sources
from mtfa_fast.experiments.config import Table1Config
from mtfa_fast.experiments.recordings import mix_test
from mtfa_fast.experiments.report import markdown, table
from tests.experiments.toy_experiment import ONE, config


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


def test_the_test_set_is_the_official_recipes(toy_sources: Path, tmp_path: Path) -> None:
    """One class has the mixtures that it has among all; the quirk puts an event where its last draw put it."""
    drawn = draw(load_sources(toy_sources, "test"), MixtureParameters(12, seed=9), replicate_quirk=True)["gunshot"]
    settings = config(toy_sources, tmp_path, **ONE | {"test_mixtures": 12, "data_seed": 9, "replicate_quirk": True})
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
    assert found.keys() == library.keys() | {"overwrite"}  # the command's own
    del found["overwrite"]
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
