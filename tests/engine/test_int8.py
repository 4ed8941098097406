"""The engine with 8-bit maps: the definition's bytes in every stage, the same bits however it is run, no NaN lost."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mtfa_fast import _core
from mtfa_fast.checking.int8 import check_convolutions
from mtfa_fast.engine.cpu import CpuEngine
from mtfa_fast.engine.quantization import calibrate
from mtfa_fast.nn.convert import to_weights
from mtfa_fast.weights import Weights, quantized_shapes
from tests.engine.lively import by_log_mel
from tests.networks import random_log_mel, random_network

CASES = {
    "c32-d40": dict(channels=32, bands=40),
    "c10": dict(channels=10, bands=40, pooling=5),  # channels that fill no vector
    "c64-d8": dict(channels=64, bands=8, pooling=1, hidden=16, classes=1),
    "resatt": dict(channels=16, bands=40, variant="resatt"),
    "res": dict(channels=16, bands=40, variant="res"),
    "no-projection": dict(channels=16, bands=40, mask_projection=False),
    "resatt-no-projection": dict(channels=16, bands=40, variant="resatt", mask_projection=False),
}


def quantized(case: str, frames: int = 120) -> tuple[Weights, np.ndarray]:
    net = random_network(**CASES[case])  # type: ignore[arg-type]
    log_mel = random_log_mel(net, frames)[0].numpy()
    return calibrate(to_weights(net), [log_mel], threads=1), log_mel


@pytest.mark.parametrize("case", CASES)
def test_stages_are_the_definitions_and_near_float32(case: str) -> None:
    weights, log_mel = quantized(case)
    assert {name: a.shape for name, a in weights.steps.items()} == quantized_shapes(weights.config)
    engine, exact = (CpuEngine(weights, precision=p, threads=2) for p in ("int8", "fp32"))
    assert engine.stage_names() == exact.stage_names()
    for frames in (41, 1):
        check = check_convolutions(engine, weights, case, log_mel[:frames])
        assert check.passed, check
    for name in engine.stage_names():
        got, want = engine.tap(name, log_mel), exact.tap(name, log_mel)
        assert np.sqrt(np.mean((got - want) ** 2)) < 0.06 * np.sqrt(np.mean(want**2)), name
    off = np.abs(engine.probabilities(log_mel) - exact.probabilities(log_mel))
    assert 0 < off.max() < 0.03


def test_bits_do_not_depend_on_threads_batch_or_blocks() -> None:
    weights, log_mel = quantized("c32-d40", 340)
    rng = np.random.default_rng(0)
    waves = (rng.standard_normal((3, 882 * 333 + 17)) * 0.1).astype(np.float32)
    alone = CpuEngine(weights, precision="int8", threads=1)
    whole = [alone.detect_wave(wave) for wave in waves]
    batch = np.stack([log_mel, log_mel[::-1], log_mel])
    single = np.stack([alone.probabilities(clip) for clip in batch])
    for threads in (1, 2, 3):
        engine = CpuEngine(weights, precision="int8", threads=threads)
        stream, position = engine.stream(), 0
        while position < waves.shape[1]:
            size = int(rng.integers(0, 40_000))
            stream.push(waves[0, position : position + size])
            position += size
        np.testing.assert_array_equal(stream.finish(), whole[0])
        np.testing.assert_array_equal(engine.probabilities(batch), single)


@pytest.mark.parametrize("chunk", [8, 24, 64])
def test_a_live_stream_is_the_engines_answer_to_the_bit(chunk: int) -> None:
    """With endless look-ahead; a live trunk's rows come in other groups, some of them in halves of a pair."""
    weights, log_mel = quantized("c32-d40", 340)
    engine = CpuEngine(weights, precision="int8", threads=2)
    for frames in (1, 38, 75, 223, 340):
        got = by_log_mel(engine, log_mel[:frames], chunk, 1_600, cuts=range(0, frames, 17))
        np.testing.assert_array_equal(got, engine.probabilities(log_mel[:frames]), err_msg=str(frames))


def test_every_instruction_set_makes_the_same_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, log_mel = quantized("c32-d40", 41)
    found = {}
    for isa in _core.available_isas():
        monkeypatch.setattr(_core, "chosen_isa", lambda isa=isa: isa)
        engine = CpuEngine(weights, precision="int8", threads=1)
        assert engine.isa == isa
        found[isa] = {name: engine.tap(name, log_mel) for name in engine.map_names()}
    for isa, maps in found.items():
        for name, values in maps.items():
            np.testing.assert_array_equal(values, found["portable"][name], err_msg=f"{isa} {name}")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_makes_no_answer_a_number(bad: float) -> None:
    weights, log_mel = quantized("c32-d40")
    engine = CpuEngine(weights, precision="int8", threads=2)
    with_bad = log_mel.copy()
    with_bad[60, 3] = bad
    answers = engine.probabilities(np.stack([log_mel, with_bad, log_mel]))
    assert np.isnan(answers[1]).all()
    np.testing.assert_array_equal(answers[2], answers[0])
    assert np.isfinite(engine.probabilities(log_mel)).all()  # nothing is left behind


def test_maps_far_beyond_their_steps_saturate() -> None:
    weights, log_mel = quantized("c32-d40")
    small = replace(weights, steps={n: (a / 20).astype(np.float32) for n, a in weights.steps.items()})
    engine = CpuEngine(small, precision="int8", threads=2)
    assert check_convolutions(engine, small, "small steps", log_mel[:41]).passed
    largest = engine.tap("stem", log_mel).max(axis=(0, 1))
    np.testing.assert_array_equal(largest, 255 * small.steps["int8.step.stem"])


def test_weights_without_steps_are_refused_and_auto_is_not_int8() -> None:
    weights, _ = quantized("c10", 8)
    with pytest.raises(ValueError, match="precision: got 'int8' and weights without calibrated steps"):
        CpuEngine(replace(weights, steps={}), precision="int8")
    assert CpuEngine(weights).precision in ("fp32", "bf16")
    assert "vp" in _core.int8_products("avx2") if "avx2" in _core.available_isas() else True
    with pytest.raises(ValueError, match="recordings: got none"):
        calibrate(weights, [])
