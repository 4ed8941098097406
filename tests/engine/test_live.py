"""A live stream in the C++ core: against the definition in float64, and against itself cut in other ways."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from mtfa_fast import _core
from mtfa_fast.backends.reference.bigru_live import bigru_live
from mtfa_fast.checking.reference import Reference
from mtfa_fast.engine.cpu import CpuEngine
from mtfa_fast.nn.convert import to_weights
from tests.engine.lively import by_log_mel, lively_network
from tests.networks import random_log_mel, random_network

PRECISIONS = ["fp32", *(["bf16"] if _core.chosen_isa() in ("avx512bf16", "amx") else [])]
SHAPES = [(8, 0), (16, 40), (24, 8), (64, 16), (40, 400)]


def test_the_definition_with_endless_look_ahead_is_the_bidirectional_gru() -> None:
    gru = torch.nn.GRU(5, 7, 2, batch_first=True, bidirectional=True).double()
    x, weights = torch.randn(2, 33, 5, dtype=torch.float64), [w.detach() for w in gru.parameters()]
    whole = gru(x)[0].detach()
    torch.testing.assert_close(bigru_live(x, weights, 8, 40), whole, atol=1e-14, rtol=0)
    short = bigru_live(x, weights, 8, 4)
    assert float((short - whole).abs().max()) > 1e-3
    # The end is seen from where it lies within the look-ahead, and the future behind it never.
    torch.testing.assert_close(bigru_live(x[:, :20], weights, 8, 4)[:, :16], short[:, :16], atol=1e-14, rtol=0)


@pytest.mark.parametrize(("chunk", "look_ahead"), SHAPES)
@pytest.mark.parametrize("frames", [1, 9, 40, 333])
def test_fp32_against_the_definition(chunk: int, look_ahead: int, frames: int) -> None:
    net = lively_network(channels=16, hidden=16)
    log_mel = random_log_mel(net, frames)[0].numpy()
    weights = to_weights(net)
    exact = Reference(weights).live_probabilities(log_mel, chunk, look_ahead)
    stock = Reference(weights, "fp32").live_probabilities(log_mel, chunk, look_ahead)
    got = by_log_mel(CpuEngine(weights, precision="fp32", threads=2), log_mel, chunk, look_ahead)
    assert got.shape == exact.shape
    assert np.linalg.norm(got - exact) <= 2 * np.linalg.norm(stock - exact) + 1e-7
    if frames == 333 and look_ahead < 100:
        assert np.abs(exact - Reference(weights).probabilities(log_mel)).max() > 1e-3  # another answer than offline


@pytest.mark.parametrize("variant", ["mtfa", "resatt", "res"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_endless_look_ahead_is_the_engines_answer_to_the_bit(variant: str, precision: str) -> None:
    """Rows of the trunk come as early as they can, in other groups than the engine's, some of them in halves of a pair:
    at every length up to some periods of the schedule."""
    net = random_network(channels=16, bands=16, hidden=16, variant=variant)  # type: ignore[arg-type]
    engine = CpuEngine(to_weights(net), precision=precision, threads=2)  # type: ignore[arg-type]
    for chunk in (8, 16, 24, 32, 56, 64):
        for frames in (*range(1, 300, 37), 512, 800):
            log_mel = random_log_mel(net, frames)[0].numpy()
            got = by_log_mel(engine, log_mel, chunk, 1_600)
            np.testing.assert_array_equal(got, engine.probabilities(log_mel), err_msg=f"{chunk} {frames}")
    for chunk, look_ahead in SHAPES:  # finite, of any phase: the trunk's rows against the same schedule in one push
        log_mel = random_log_mel(net, 700)[0].numpy()
        whole = by_log_mel(engine, log_mel, chunk, look_ahead)
        exact = Reference(to_weights(net)).live_probabilities(log_mel, chunk, look_ahead)
        np.testing.assert_allclose(whole, exact, atol=2e-6 if precision == "fp32" else 0.05)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_bits_do_not_depend_on_cuts_threads_or_company(precision: str) -> None:
    net = random_network(channels=16, bands=40)
    rng = np.random.default_rng(0)
    waves = (rng.standard_normal((3, 882 * 500 + 17)) * 0.1).astype(np.float32)
    alone = CpuEngine(to_weights(net), precision=precision, threads=1)  # type: ignore[arg-type]

    def run(engine: CpuEngine, sizes: Sequence[int], together: bool) -> list[np.ndarray]:
        streams = [_core.LiveStream(engine._engine, 16, 40) for _ in waves]
        parts: list[list[np.ndarray]] = [[] for _ in waves]
        at = 0
        while at < waves.shape[1]:
            size = int(rng.choice(sizes))
            blocks = [wave[at : at + size] for wave in waves]
            if together:
                found = _core.push_live(streams, blocks, engine.threads)
            else:
                found = [_core.push_live([s], [b], engine.threads)[0] for s, b in zip(streams, blocks, strict=True)]
            for part, rows in zip(parts, found, strict=True):
                part.append(rows)
            at += size
        return [np.concatenate([*p, s.finish(engine.threads)]) for p, s in zip(parts, streams, strict=True)]

    whole = run(alone, [waves.shape[1]], False)
    assert whole[0].shape == (501, 3)
    for threads, sizes, together in ((1, [1_000], True), (2, [0, 17, 882, 9_000], True), (3, [44_100], False)):
        engine = CpuEngine(to_weights(net), precision=precision, threads=threads)  # type: ignore[arg-type]
        for got, want in zip(run(engine, sizes, together), whole, strict=True):
            np.testing.assert_array_equal(got, want)


def test_every_frame_is_answered_in_time() -> None:
    net = lively_network()
    hop = net.config.features.hop
    engine = CpuEngine(to_weights(net), precision="fp32", threads=1)
    for chunk, look_ahead in SHAPES:
        stream = _core.LiveStream(engine._engine, chunk, look_ahead)
        assert stream.delay == chunk + look_ahead + 80
        answered, latest = 0, 0
        for pushed in range(1, 900):
            [rows] = _core.push_live([stream], [np.zeros(hop, np.float32)], 1)
            answered += len(rows)
            latest = max(latest, pushed - answered)
        assert latest == stream.delay - 1


def test_memory_does_not_grow() -> None:
    code = """
import resource, numpy as np
from mtfa_fast import _core
from mtfa_fast.config import *
from mtfa_fast.engine.cpu import CpuEngine
from mtfa_fast.weights import Weights, expected_shapes
config = Config(network=NetworkConfig(variant="res", channels=16))
rng = np.random.default_rng(0)
tensors = {n: rng.random(s, dtype=np.float32) * 0.1 + 0.01 for n, s in expected_shapes(config).items()}
engine = CpuEngine(Weights(config, tensors), threads=2)
second = rng.standard_normal(44100).astype(np.float32)
stream = _core.LiveStream(engine._engine, 16, 40)
peaks = []
for seconds in (30, 300):
    for _ in range(seconds):
        assert np.isfinite(_core.push_live([stream], [second], 2)[0]).all()
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
print(peaks[1] - peaks[0])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 500_000  # an offline stream stores 30 MB in that time


def test_bad_input_is_named_and_changes_nothing() -> None:
    net = lively_network()
    engine = CpuEngine(to_weights(net), precision="fp32", threads=1)
    for chunk, look_ahead, name in (
        (0, 8, "chunk: got 0"),
        (12, 8, "chunk: got 12"),
        (8, -8, "look_ahead: got -8"),
        (8, 9, "look_ahead: got 9"),
    ):
        with pytest.raises(ValueError, match=f"{name}, allowed: a multiple of 8"):
            _core.LiveStream(engine._engine, chunk, look_ahead)
    wave = np.random.default_rng(0).standard_normal(90_000).astype(np.float32)
    streams = [_core.LiveStream(engine._engine, 8, 8) for _ in range(2)]
    first = _core.push_live(streams, [wave, wave], 1)
    bad = wave.copy()
    bad[7] = np.nan
    with pytest.raises(ValueError, match="samples: got NaN or infinity at 7, allowed: finite"):
        _core.push_live(streams, [wave, bad], 1)
    second = _core.push_live(streams, [wave, wave], 1)
    for rows in (first, second):
        np.testing.assert_array_equal(rows[0], rows[1])
    for wrong in ([streams[0], streams[0]], [streams[0], None], [streams[0]]):
        with pytest.raises(ValueError, match="streams: allowed: different ones"):
            _core.push_live(wrong, [wave, wave], 1)  # type: ignore[list-item]
    with pytest.raises(ValueError, match="no audio"):
        _core.LiveStream(engine._engine, 8, 8).finish(1)
    streams[0].finish(1)
    with pytest.raises(RuntimeError, match="stream: closed"):
        _core.push_live(streams, [wave, wave], 1)
    np.testing.assert_array_equal(streams[1].finish(1).shape[1], 2)
