"""Verification finds nothing in a sound engine, and finds a kernel that is 1 % wrong."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from mtfa_fast import _core
from mtfa_fast.audio.features import log_mel
from mtfa_fast.checking import reference, verification
from mtfa_fast.checking.comparison import Check, compare, relative_error
from mtfa_fast.checking.int8 import check_convolutions
from mtfa_fast.checking.reference import Reference
from mtfa_fast.checking.verification import check_parts, check_seams, check_stages, probe, verify
from mtfa_fast.commands.cli import main
from mtfa_fast.config import Config, FeatureConfig, NetworkConfig
from mtfa_fast.engine import cpu
from mtfa_fast.engine.cpu import CpuEngine, CpuStream
from mtfa_fast.engine.quantization import calibrate
from mtfa_fast.measuring.checks import Oracle
from mtfa_fast.measuring.networks import random_weights
from mtfa_fast.nn import SEDNet
from mtfa_fast.nn.convert import to_weights
from mtfa_fast.weights import Weights
from tests.networks import random_network

PRECISIONS = ["fp32", *(["bf16"] if _core.chosen_isa() in ("avx512bf16", "amx") else [])]


@pytest.fixture(scope="module")
def weights() -> Weights:
    """Small, with thresholds that some frames pass."""
    found = to_weights(random_network(channels=16, bands=16))
    frames = Reference(found).probabilities(_log_mel(found, 1.0))
    classes = (
        dataclasses.replace(c, threshold=float(round(np.median(frames[:, k]), 3)), filter_frames=5)
        for k, c in enumerate(found.config.classes)
    )
    return Weights(dataclasses.replace(found.config, classes=tuple(classes)), found.tensors)


def _log_mel(weights: Weights, seconds: float) -> np.ndarray:
    return log_mel(probe(weights.config, seconds), weights.config.features)


Change = Callable[[np.ndarray], None]


def everything(tensor: np.ndarray) -> None:
    tensor *= np.float32(1.01)


def hardly(tensor: np.ndarray) -> None:
    tensor *= np.float32(1 + 1e-5)


def one_weight(tensor: np.ndarray) -> None:
    """The largest."""
    tensor.flat[np.argmax(np.abs(tensor))] *= np.float32(1.01)


def reset_gate(tensor: np.ndarray) -> None:
    tensor[: len(tensor) // 3] *= np.float32(1.01)


def one_band(mel: np.ndarray) -> None:
    mel[5] *= np.float32(1.01)


def inject(monkeypatch: pytest.MonkeyPatch, name: str, change: Change) -> None:
    """Engines are faulty from now on: in the folded tensor ``name``, the core's ``"mel"``, or what ``"gate"`` makes."""
    fold, log_mel, tap = cpu.fold, _core.LogMel, CpuEngine.tap

    def faulty_fold(weights: Weights) -> dict[str, np.ndarray]:
        tensors = fold(weights)
        tensors[name] = tensors[name].copy()  # the reference keeps the right ones
        change(tensors[name])
        return tensors

    def faulty_log_mel(window: np.ndarray, mel: np.ndarray, *others: Any) -> Any:
        mel = np.array(mel)
        change(mel)
        return log_mel(window, mel, *others)

    def faulty_tap(engine: CpuEngine, stage: str, frames: np.ndarray) -> np.ndarray:
        made = tap(engine, stage, frames)
        if stage == name:
            change(made)
        return made

    if name == "gate":
        monkeypatch.setattr(CpuEngine, "tap", faulty_tap)
    elif name == "mel":
        monkeypatch.setattr(_core, "LogMel", faulty_log_mel)
    else:
        monkeypatch.setattr(cpu, "fold", faulty_fold)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_sound_engine_passes_every_check(weights: Weights, precision: str) -> None:
    engine = CpuEngine(weights, precision=precision, threads=2)  # type: ignore[arg-type]
    wave = probe(weights.config, 1.0)
    checks = list(verify(weights, engine, {"probe": wave}))
    assert [c for c in checks if not c.passed] == []
    assert len(checks) == verification.checks_per_recording(engine)
    events = next(c for c in checks if c.stage == "events")
    assert not events.note.startswith("0 of 0"), "the sound must have events, or nothing is compared"


@pytest.mark.parametrize("samples", [44_100, 1])
def test_no_false_alarm(samples: int) -> None:
    """On this noise the whole network errs 12 times as much as stock PyTorch, and none of its parts twice."""
    weights = Weights.load("rare-events")
    engine = CpuEngine(weights, precision="fp32", threads=2)
    wave = (0.1 * np.random.default_rng(19).standard_normal(samples)).astype(np.float32)
    assert [c for c in verify(weights, engine, {"noise": wave}) if not c.passed] == []


@pytest.mark.parametrize(
    "shape",
    [
        dict(channels=10, bands=40, pooling=5),
        dict(channels=16, bands=40, variant="resatt"),
        dict(channels=16, bands=40, variant="res"),
        dict(channels=16, bands=40, mask_projection=False),
    ],
)
def test_every_stage_of_every_variant_is_seen(shape: dict[str, Any]) -> None:
    net = random_network(**shape)
    weights = to_weights(net)
    engine = CpuEngine(weights, precision="fp32", threads=2)
    both = Reference(weights), Reference(weights, "fp32")
    checks = list(check_stages(*both, engine, "probe", _log_mel(weights, 0.25)))  # 13 frames
    assert [c for c in checks if not c.passed] == []
    masks = {"masks"} if net.attention.mask is not None else set()
    assert {c.stage for c in checks} == {*modules_with_maps(net), *masks, "gate", "gru", "drift"}


def modules_with_maps(net: SEDNet) -> set[str]:
    """Blocks and hourglasses whose output an engine holds; the outermost sum is part of the gate with a projection."""
    kinds = ("Stem", "ResidualBlock", "Hourglass")
    outer = {"attention.mask"} if net.attention.projection is not None else set()
    return {name for name, module in net.named_modules() if type(module).__name__ in kinds} - outer


# What a kernel reads wrongly, and the stage that must show it first.
FAULTS: dict[str, tuple[str, Change, str]] = {
    "one mel band": ("mel", one_band, "features"),
    "stem": ("stem.conv.weight", everything, "stem"),
    "one weight": ("attention.features.1.conv1.weight", one_weight, "attention.features.1"),
    "deep block": ("attention.mask.inner.inner.inner.conv2.bias", everything, "attention.mask.inner.inner.inner"),
    "mask": ("attention.projection.weight", everything, "masks"),
    "one weight of the mask": ("attention.projection.weight", one_weight, "masks"),
    "gate": ("gate", everything, "gate"),
    "one gate": ("gru.weight_hh_l1_reverse", reset_gate, "gru"),
    "head": ("head.output.weight", everything, "recurrent part"),
    "recurrence by 1e-5": ("gru.weight_hh_l1", hardly, "gru"),
    "first recurrence by 1e-5": ("gru.weight_hh_l0", hardly, "gru"),
    "head by 1e-5": ("head.output.weight", hardly, "recurrent part"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_an_error_is_found_where_it_is(weights: Weights, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, change, stage = FAULTS[fault]
    inject(monkeypatch, name, change)
    engine = CpuEngine(weights, precision="fp32", threads=2)
    found = verify(weights, engine, {"probe": probe(weights.config, 0.3)})
    assert next(check.stage for check in found if not check.passed) == stage


BF16_FAULTS: dict[str, tuple[Change, str]] = {
    "attention.features.0.conv1.weight": (everything, "scales"),
    "attention.mask.inner.skip.conv2.weight": (everything, "scales"),
    "attention.projection.weight": (everything, "scales"),
    "gru.weight_ih_l0": (reset_gate, "recurrent part"),
    "gru.weight_hh_l1": (reset_gate, "recurrent part"),
    "head.hidden.weight": (everything, "recurrent part"),
}


@pytest.mark.skipif("bf16" not in PRECISIONS, reason=f"no bf16 products with {_core.chosen_isa()}")
@pytest.mark.parametrize("name", BF16_FAULTS)
def test_an_error_of_one_percent_is_not_lost_in_bf16(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where every output is rounded by up to 0.4 %."""
    weights = random_weights(Config(FeatureConfig(mel_bands=32), NetworkConfig(channels=16, hidden=32)))
    log_mel = Oracle(weights).input("network", 1, verification.SCALE_FRAMES)[0]
    change, stage = BF16_FAULTS[name]
    inject(monkeypatch, name, change)
    engine = CpuEngine(weights, precision="bf16", threads=2)
    (failed,) = [c for c in check_parts(Reference(weights), engine, "probe", log_mel) if not c.passed]
    assert failed.stage == stage
    assert stage != "scales" or name.split(".conv")[0] in failed.note


@pytest.mark.skipif("bf16" not in PRECISIONS, reason=f"no bf16 products with {_core.chosen_isa()}")
def test_an_output_that_is_too_large_as_a_whole_is_not_lost_in_bf16(weights: Weights) -> None:
    engine, block = CpuEngine(weights, precision="bf16", threads=2), "attention.mask.inner.inner.low_out"
    sound, log_mel = engine.tap, _log_mel(weights, 0.5)
    engine.tap = lambda name, x: sound(name, x) * (1.01 if name == block else 1)  # type: ignore[method-assign]
    both = Reference(weights), Reference(weights, "mixed")
    failed = [c for c in check_stages(*both, engine, "probe", log_mel) if not c.passed]
    assert "drift" in [c.stage for c in failed] and block in failed[-1].note


def test_seams_are_found_to_the_last_bit(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, wave = CpuEngine(weights, threads=2), probe(weights.config, 0.5)
    frames = log_mel(wave, weights.config.features)
    assert all(c.passed for c in check_seams(engine, "probe", wave, frames))
    finish = CpuStream.finish

    def one_bit(stream: CpuStream) -> np.ndarray:
        found = finish(stream)
        found[7, 1] = np.nextafter(found[7, 1], np.float32(1))
        return found

    monkeypatch.setattr(CpuStream, "finish", one_bit)
    failed = [c for c in check_seams(engine, "probe", wave, frames) if not c.passed]
    assert len(failed) == 2 and all("blocks" in c.stage and 0 < c.error < 1e-6 for c in failed)


def test_events_may_differ_only_at_the_threshold(weights: Weights) -> None:
    """A frame decided otherwise is excused within 0.01 of the threshold, and counted beyond."""
    limit = weights.config.classes[0].threshold
    exact = np.full((3, 3), 0.0)
    exact[:, 0] = limit - 0.008, limit - 0.05, limit + 0.2

    class Fixed:
        def __init__(self, found: np.ndarray) -> None:
            self.found = found

        def probabilities(self, _: np.ndarray) -> np.ndarray:
            return self.found

    for row, moved, counted in ((0, limit + 0.001, 0), (1, limit + 0.001, 1), (2, limit + 0.1, 0)):
        got = exact.astype(np.float32)
        got[row, 0] = moved

        class Moved:
            config = weights.config

            def probabilities(self, _: np.ndarray, got: np.ndarray = got) -> np.ndarray:
                return got

        found = verification.check_probabilities(Fixed(exact), Fixed(exact), Moved(), "", np.zeros((3, 40)), 3 * 882)  # type: ignore[arg-type]
        events = next(c for c in found if c.stage == "events")
        assert events.error == counted and events.passed == (counted == 0)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_trunk_and_recurrent_part_alone_are_the_whole(weights: Weights, precision: str) -> None:
    engine = CpuEngine(weights, precision=precision, threads=2)  # type: ignore[arg-type]
    frames = _log_mel(weights, 0.3)  # 16 frames: none is padded
    vectors = engine.tap("gate", frames).reshape(len(frames), -1)
    np.testing.assert_array_equal(engine.recurrent(vectors), engine.probabilities(frames))
    exact = Reference(weights)
    alone = exact.recurrent(exact.vectors(frames))
    np.testing.assert_allclose(alone, exact.probabilities(frames), rtol=0, atol=1e-13)


def test_a_number_that_is_none_fails() -> None:
    assert not Check("stem", "", float("nan"), 1.0).passed
    assert np.isnan(relative_error(np.array([1.0, np.nan]), np.ones(2)))
    ones = np.ones(3, np.float32)
    for stock in (np.array([1, np.inf, 1]), np.array([np.nan, 1, 1])):  # no yardstick: the last place is what is left
        assert compare("", "", ones, ones, stock).passed
        assert not compare("", "", 1.001 * ones, ones, stock).passed
    with pytest.raises(ValueError, match=r"got: shape \(2,\), allowed: \(3,\)"):
        relative_error(np.ones(2), np.ones(3))


def test_yardsticks_err_as_their_precision_does(weights: Weights) -> None:
    log_mel = _log_mel(weights, 0.3)
    exact = Reference(weights).probabilities(log_mel)
    error = {
        precision: relative_error(Reference(weights, precision).probabilities(log_mel), exact)
        for precision in reference.PRECISIONS
    }
    assert error["fp64"] == 0 and 0 < error["fp32"] < 1e-6
    assert 1e-6 < error["mixed"] < error["bf16"] < 0.02, "mixed is the stricter of the two"
    assert 1e-6 < error["fp16"] < error["bf16"]


def test_the_reference_in_tiles_is_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Borders of the reference's own tiles, and what pads the end, cannot be seen in float64."""
    monkeypatch.setattr(reference, "TILE_FRAMES", 64)
    net = random_network(channels=8, bands=16)
    frames = np.random.default_rng(0).standard_normal((3 * 64 + 13, 16)).astype(np.float32)
    exact, stock = (Reference(to_weights(net), precision).probabilities(frames) for precision in ("fp64", "fp32"))
    want = net.double().probabilities(torch.from_numpy(frames).double()[None])[0].numpy()
    np.testing.assert_allclose(exact, want, rtol=0, atol=1e-13)
    assert exact.dtype == np.float64 and 1e-9 < np.abs(stock - want).max() < 1e-5


def test_command(weights: Weights, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    sound = tmp_path / "weights.safetensors"
    weights.save(sound)
    clip = tmp_path / "clip.wav"
    soundfile.write(clip, probe(weights.config, 0.3), 44_100)
    assert main(["verify", str(sound), str(clip), "--threads", "2", "--seconds", "inf"]) == 0
    out = capsys.readouterr().out
    rows = [line for line in out.splitlines() if line.split()[:1] == ["attention.mask.skip"]]
    assert len(rows) == len(PRECISIONS) and "FAIL" not in out

    inject(monkeypatch, "attention.features.0.conv1.weight", everything)
    assert main(["verify", str(sound), str(clip), "--precision", "fp32"]) == 1
    found = capsys.readouterr()
    lines = [line for line in found.out.splitlines() if "FAIL" in line]
    assert lines[0].split()[0] == "attention.features.0" and "NOT EQUAL" in found.err
    assert main(["verify", str(sound), str(tmp_path / "none.wav")]) == 2
    assert "none.wav" in capsys.readouterr().err


def test_a_wrong_8_bit_convolution_is_found(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single weight of one convolution that is 1 % off."""
    quantized = calibrate(weights, [_log_mel(weights, 1.0)], threads=1)
    log_mel = _log_mel(weights, 0.5)
    assert check_convolutions(CpuEngine(quantized, precision="int8", threads=1), quantized, "", log_mel).passed
    inject(monkeypatch, "attention.mask.inner.skip.conv1.weight", one_weight)
    faulty = CpuEngine(quantized, precision="int8", threads=1)
    monkeypatch.undo()
    check = check_convolutions(faulty, quantized, "", log_mel)
    assert not check.passed and "most in attention.mask.inner.skip.conv1" in check.note
