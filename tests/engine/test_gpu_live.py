"""Live streams on the GPU engine: the definition that the C++ core keeps, too; on a CPU where there is no GPU."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch

from mtfa_fast import _core
from mtfa_fast.checking.reference import Reference
from mtfa_fast.engine.cpu import CpuEngine
from mtfa_fast.engine.gpu import GpuEngine
from mtfa_fast.nn import SEDNet
from mtfa_fast.nn.convert import to_weights
from tests.engine.lively import lively_network

SHAPES = [(8, 0), (16, 40), (64, 16), (40, 400)]


@pytest.fixture(scope="module")
def net() -> SEDNet:
    return lively_network()


def wave(seed: int, hops: int, net: SEDNet) -> np.ndarray:
    rng, size = np.random.default_rng(seed), hops * net.config.features.hop + 37
    return (rng.standard_normal(size) * np.abs(np.sin(np.arange(size) / 20_000)) * 0.3).astype(np.float32)


def answer(engine: Any, samples: np.ndarray, size: int, chunk: int, look_ahead: int | None) -> np.ndarray:
    stream = engine.live(chunk, look_ahead)
    parts = [stream.push(samples[first : first + size]) for first in range(0, len(samples), size)]
    return np.concatenate([*parts, stream.finish()])


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize(("chunk", "look_ahead"), SHAPES)
@pytest.mark.parametrize("hops", [0, 30, 301])
def test_against_the_definition_in_float64(net: SEDNet, device: str, chunk: int, look_ahead: int, hops: int) -> None:
    found = GpuEngine(to_weights(net), device=device, precision="fp32")
    samples = wave(1, hops, net)
    log_mel = found.log_mel(samples).cpu().numpy()
    exact = Reference(to_weights(net)).live_probabilities(log_mel, chunk, look_ahead)
    for size in (len(samples), 5_000):
        np.testing.assert_allclose(answer(found, samples, size, chunk, look_ahead), exact, atol=3e-6)
    if look_ahead < 100 and hops == 301:
        assert np.abs(exact - Reference(to_weights(net)).probabilities(log_mel)).max() > 1e-3


def test_both_engines_say_the_same_at_the_same_time(net: SEDNet, device: str) -> None:
    samples, hop = wave(2, 300, net), net.config.features.hop
    gpu = GpuEngine(to_weights(net), device=device, precision="fp32").live(16, 24)
    cpu = CpuEngine(to_weights(net), precision="fp32", threads=1).live(16, 24)
    assert gpu.delay == cpu.delay == 16 + 24 + 80
    for first in range(0, len(samples), hop // 2):
        block = samples[first : first + hop // 2]
        np.testing.assert_allclose(gpu.push(block), cpu.push(block), atol=3e-6)
    np.testing.assert_allclose(gpu.finish(), cpu.finish(), atol=3e-6)


def test_many_streams_in_one_batch(net: SEDNet, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of unequal shapes and starts; alone, from one call and from threads."""
    found = GpuEngine(to_weights(net), device=device, precision="fp32")
    waves = [wave(seed, 200, net) for seed in range(5)]
    shapes = [(16, 24), (16, 24), (8, 8), (16, 24), (32, 0)]
    want = [answer(found, x, 8_820, *shape) for x, shape in zip(waves, shapes, strict=True)]
    batches: list[int] = []
    trunk = found._live._network.trunk
    monkeypatch.setattr(found._live._network, "trunk", lambda x: batches.append(len(x)) or trunk(x))
    streams = [found.live(*shape) for shape in shapes]
    parts: list[list[np.ndarray]] = [[] for _ in streams]
    for first in range(0, len(waves[0]), 8_820):
        blocks = [x[first : first + 8_820] for x in waves]
        for part, rows in zip(parts, found.push_live(streams, blocks), strict=True):
            part.append(rows)
    assert max(batches) >= 3
    for part, stream, expected in zip(parts, streams, want, strict=True):
        np.testing.assert_allclose(np.concatenate([*part, stream.finish()]), expected, atol=1e-6)
    with ThreadPoolExecutor(5) as pool:
        threaded = pool.map(lambda i: answer(found, waves[i], 8_820, *shapes[i]), range(5))
        for got, expected in zip(threaded, want, strict=True):
            np.testing.assert_allclose(got, expected, atol=1e-6)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_keeps_the_state_in_float32(precision: str, device: str) -> None:
    net = lively_network(channels=16, bands=32, hidden=16)
    samples = wave(4, 200, net)
    found = GpuEngine(to_weights(net), device=device, precision=precision)
    log_mel = found.log_mel(samples).cpu().numpy()
    exact = Reference(to_weights(net)).live_probabilities(log_mel, 16, 24)
    stock = Reference(to_weights(net), precision).live_probabilities(log_mel, 16, 24)
    got = answer(found, samples, 9_999, 16, 24)
    assert 0 < np.linalg.norm(got - exact) <= 2 * np.linalg.norm(stock - exact)


def test_without_an_end_of_look_ahead_it_is_the_engines_answer(net: SEDNet, device: str) -> None:
    found = GpuEngine(to_weights(net), device=device, precision="fp32")
    samples = wave(5, 100, net)
    assert found.live(16, None).delay is None
    np.testing.assert_array_equal(answer(found, samples, len(samples), 16, None), found.detect_wave(samples))


def test_memory_does_not_grow(net: SEDNet, device: str) -> None:
    stream = GpuEngine(to_weights(net), device=device, precision="fp32").live(16, 24)
    block = np.zeros(44_100, np.float32)
    sizes = []
    for _ in range(4):
        stream.push(block)
    for _ in range(12):
        stream.push(block)
        assert stream.mel is not None and stream.gates is not None
        storage = (stream.mel.untyped_storage().nbytes(), stream.gates.untyped_storage().nbytes())
        sizes.append(sum(storage) + sum(map(len, stream.frames._waiting)))
    assert max(sizes) < 2 * min(sizes)


def test_bad_input_is_named(net: SEDNet, device: str) -> None:
    found = GpuEngine(to_weights(net), device=device, precision="fp32")
    for chunk, look_ahead, name in ((0, 8, "chunk: got 0"), (8, 9, "look_ahead: got 9")):
        with pytest.raises(ValueError, match=f"{name}, allowed: a multiple of 8"):
            found.live(chunk, look_ahead)
    with pytest.raises(ValueError, match="samples: got 'NaN or infinity at 3'"):
        found.live(8, 8).push(np.array([0, 0, 0, np.nan], np.float32))
    with pytest.raises(ValueError, match="samples: got 0"):
        found.live(8, 8).finish()
    with pytest.raises(ValueError, match="backend: got 'triton' with a live stream"):
        GpuEngine(to_weights(net), device=device, precision="fp32", backend="triton").live(8, 8)
    assert torch.is_grad_enabled() and _core.available_isas()
