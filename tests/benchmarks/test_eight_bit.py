"""What 8 bits cost in detection: everybody is scored on the same mixtures, again only where something changed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from benchmarks import eight_bit
from mtfa_fast.config import ClassConfig, Config, FeatureConfig, NetworkConfig
from mtfa_fast.measuring.checks import Part
from mtfa_fast.measuring.contestants import Call
from mtfa_fast.measuring.networks import random_weights
from mtfa_fast.weights import Weights

FEATURES = FeatureConfig(sample_rate=8_000, window_length=320, hop=160, fft_length=512, mel_bands=16)
CONFIG = Config(
    FEATURES, NetworkConfig(channels=16, hidden=16), (ClassConfig("gunshot", threshold=0.5, filter_frames=1),)
)


class Peer:
    """Our fp32 with ``add`` on every probability; counts its calls."""

    calls = 0

    def __init__(self, weights: Weights, add: float) -> None:
        self._engine = eight_bit.Ours(weights, "fp32", 1).engine
        self._add, self.name, self.version, self.settings = add, "peer", "1", f"adds {add}"

    def prepare(self, part: Part, batch: int, frames: int) -> Call:
        assert (part, batch) == ("network", 1)

        def call(given: np.ndarray) -> np.ndarray:
            Peer.calls += 1
            assert given.shape == (1, frames, 16)
            found: np.ndarray = self._engine.probabilities(given) + np.float32(self._add)
            return found

        return call


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[dict[str, Any]]]:
    """Three mixtures of noise, two of them with an event, and two peers; runs the command and reads what it wrote."""
    monkeypatch.chdir(tmp_path)
    weights = random_weights(CONFIG)
    weights.save("w.safetensors")
    for part in ("audio", "meta"):
        Path("set", part).mkdir(parents=True)
    rng, lines = np.random.default_rng(0), []
    for number in range(3):
        soundfile.write(f"set/audio/{number}.wav", 0.1 * rng.standard_normal(8000 + 800 * number), 8000)
        lines.append(f"{number}.wav" + ("\t0.1\t0.4\tgunshot" if number else ""))
    Path("set/meta/event_list_devtest_gunshot.csv").write_text("\n".join(lines) + "\n")

    def run() -> list[dict[str, Any]]:
        arguments = ["set", "--weights", "w.safetensors", "--calibration", "set/audio", "--out", "scores.json"]
        assert eight_bit.main([*arguments, "--threads", "1"]) == 0
        rows: list[dict[str, Any]] = json.loads(Path("scores.json").read_text())["rows"]
        return rows

    return run


def test_everybody_is_scored_once(command: Callable[[], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch) -> None:
    makers: dict[str, Callable[[], Any]] = {}
    heard: list[Sequence[np.ndarray]] = []

    def contestants(weights: Weights, threads: int, sounds: Sequence[np.ndarray], variants: bool) -> Any:
        heard.append(sounds)
        assert weights.steps and threads == 1 and not variants
        return {name: (lambda make=make: make(weights)) for name, make in makers.items()}

    def absent(weights: Weights) -> Any:
        raise ImportError("no such thing", name="nothing")

    monkeypatch.setattr(eight_bit, "contestants", contestants)
    makers |= {"same": lambda w: Peer(w, 0.0), "off": lambda w: Peer(w, -0.25), "absent": absent}
    ours, same, off = command()
    assert Peer.calls == 6 and len(heard[0]) == 3, "two peers on three mixtures; all recordings are heard"
    assert ours["name"] == "mtfa-fast fp32" and ours["identical"] == 3 and ours["error"] == ours["off"] == 0
    assert same["settings"] == "adds 0.0" and {key: same[key] for key in FIGURES} == {key: ours[key] for key in FIGURES}
    assert off["off"] == pytest.approx(0.25, abs=1e-6) and off["error"] > 0.3 and off["identical"] == 0
    assert off["classes"]["gunshot"]["events"] == 2

    assert command() == [ours, same, off] and Peer.calls == 6, "nothing is done twice"
    makers["off"] = lambda w: Peer(w, -0.125)
    assert [row["settings"] for row in command()][1:] == ["adds 0.0", "adds -0.125"] and Peer.calls == 9
    soundfile.write("set/audio/0.wav", np.zeros(8000), 8000)  # other sounds, other steps
    command()
    assert Peer.calls == 15


FIGURES = "error_rate", "f1", "classes", "error", "off", "identical"


def test_scores_belong_to_their_weights(tmp_path: Path) -> None:
    weights, path = random_weights(CONFIG), tmp_path / "scores.json"
    assert eight_bit.scores_of(weights, path) is None
    path.write_text(json.dumps({"weights": eight_bit.fingerprint(weights), "rows": []}))
    assert eight_bit.scores_of(dataclasses.replace(weights, metadata={"a": "b"}), path) is not None
    weights.tensors["std"][0] *= np.float32(1.001)
    assert eight_bit.scores_of(weights, path) is None


def test_variants_are_the_settings_of_the_search() -> None:
    weights = random_weights(CONFIG)
    names = list(eight_bit.contestants(weights, 1, [], variants=True))
    assert names[:3] == ["mtfa-fast int8", "OpenVINO int8", "ONNX Runtime int8"]
    made = [make() for name, make in eight_bit.contestants(weights, 1, [], variants=True).items() if ": " in name]
    assert len({one.settings for one in made}) == len(names) - 3 == 9
