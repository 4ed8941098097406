"""How the GPU engine runs: graphs, memory, threads. Its choice of kernels: test_gpu_blocks.py."""

from __future__ import annotations

import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mtfa_fast.config import NetworkConfig
from mtfa_fast.engine.batcher import Batcher
from mtfa_fast.engine.gpu import GpuEngine, graphs
from mtfa_fast.engine.gpu.device import Device, without_tf32
from mtfa_fast.nn import SEDNet
from mtfa_fast.nn.convert import to_weights
from tests.engine.lively import CompilationError, alone, lively_network, spectrograms
from tests.face import CONFIG, HOP, make_weights
from tests.networks import random_log_mel

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def net() -> SEDNet:
    return lively_network()


class FakeGraphs:
    """Captures as CUDA does: into fixed buffers, whose content the next replay overwrites."""

    def __init__(self, refuse: str = "") -> None:
        self.captured: list[tuple[int, ...]] = []
        self.replays = 0
        self.refuse = refuse

    def __call__(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[Tensor], Tensor]:
        if self.refuse:
            raise RuntimeError(self.refuse)
        held = torch.full_like(x, torch.nan)
        self.captured.append(tuple(x.shape))
        out = function(x.clone())

        def replay(x: Tensor) -> Tensor:
            self.replays += 1
            out.copy_(function(held.copy_(x)))
            return out.clone()

        return replay


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeGraphs:
    found = FakeGraphs()
    monkeypatch.setattr(Device, "capture", lambda self: found)
    return found


def test_warm_shapes_are_graphs(net: SEDNet, fake: FakeGraphs, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mtfa_fast")
    found = GpuEngine(to_weights(net), device="cpu")
    found.warmup([(1, 21), (3, 21)])
    assert fake.captured == [(1, 24, 16), (2, 24, 16)]  # three are two and one
    assert sum("CUDA graph for the network" in line for line in caplog.messages) == 2
    fake.replays = 0
    clips = spectrograms(net, 21, 23)
    for clip in clips:
        np.testing.assert_allclose(found.probabilities(clip), alone(net, clip), atol=2e-6)
    batch = np.stack([clips[0], clips[1][:21], clips[0][::-1]])
    np.testing.assert_allclose(found.probabilities(batch)[1], alone(net, clips[1][:21]), atol=2e-6)
    assert fake.replays == 4 and len(fake.captured) == 2
    assert found.explain()["graphs"] == ["network 1 x 24", "network 2 x 24"]


def test_a_shape_that_comes_again_is_captured_while_there_is_room(
    net: SEDNet, fake: FakeGraphs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "MOST_GRAPHS", 2)
    found = GpuEngine(to_weights(net), device="cpu")
    for frames in (8, 16, 24, 8, 8, 16, 24, 24, 24):
        found.probabilities(spectrograms(net, frames)[0])
    assert fake.captured == [(1, 8, 16), (1, 16, 16)]
    found.warmup([(1, 40)])  # what is asked for makes room
    assert found.explain()["graphs"] == ["network 1 x 16", "network 1 x 40"]


def test_what_cannot_be_captured_runs_and_says_why(net: SEDNet, fake: FakeGraphs) -> None:
    fake.refuse = "operation not permitted when stream is capturing\nand more"
    found = GpuEngine(to_weights(net), device="cpu")
    found.warmup([(1, 16)])
    clip = spectrograms(net, 16)[0]
    np.testing.assert_allclose(found.probabilities(clip), alone(net, clip), atol=2e-6)
    reason = found.explain()["reasons"]["graphs"]
    assert reason == "not network 1 x 16: operation not permitted when stream is capturing"


def test_a_refused_capture_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the input's copy nor what was computed of it, without waiting for the garbage collector."""
    alive: list[weakref.ref[Tensor]] = []

    class Refuses:
        def synchronize(self) -> None:
            raise CompilationError("no kernel for this")

    def function(x: Tensor) -> Tensor:
        out = x * 2
        alive.extend((weakref.ref(x), weakref.ref(out)))
        return out

    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    stream: Any = Refuses()
    programs = graphs.Programs(graphs.cuda_capture(stream))
    gc.disable()
    try:
        for frames in range(1, 5):
            programs.capture("network", function, torch.ones(1, frames, 2))
        assert len(programs.refused) == 4 and len(alive) == 8
        assert all(reference() is None for reference in alive)
    finally:
        gc.enable()


def test_two_engines_capture_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    inside, most = 0, 0

    @contextmanager
    def capturing(graph: Any, **_: Any) -> Iterator[None]:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        time.sleep(0.05)
        inside -= 1
        yield

    class Stream:
        def synchronize(self) -> None:
            pass

    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", capturing)
    stream: Any = Stream()
    captures = [graphs.cuda_capture(stream) for _ in range(3)]
    threads = [threading.Thread(target=capture, args=(lambda x: x, torch.ones(3))) for capture in captures]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_memory_that_runs_out_makes_batches_smaller_once(
    net: SEDNet, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = GpuEngine(to_weights(net), device="cpu", batch_frames=16_384)
    room, sizes = 4_096, []
    trunk = found._batches._network.trunk

    def cramped(x: Tensor) -> Tensor:
        sizes.append(x.shape[0] * x.shape[1])
        if sizes[-1] > room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 5 GiB")
        return trunk(x)

    monkeypatch.setattr(found._batches._network, "trunk", cramped)
    clips = spectrograms(net, *[256] * 40)
    got = found.probabilities_of(clips)
    np.testing.assert_allclose(got[-1], alone(net, clips[-1]), atol=2e-6)
    assert sizes[0] > room and max(sizes[1:]) <= room
    assert sum("out of memory" in line for line in caplog.messages) == 1
    assert "after memory ran out" in found.explain()["reasons"]["batch"]
    room = 100
    with pytest.raises(RuntimeError, match="memory is not enough for 4096 frames at a time: give the engine a smaller"):
        found.probabilities(clips[0])


def test_calls_that_meet_share_batches() -> None:
    served: list[list[int]] = []
    gate = threading.Event()

    def run(items: list[int]) -> list[Callable[[], int]]:
        served.append(items)
        if items == [0]:
            gate.wait(5)
        if 7 in items:
            raise ValueError("seven")
        return [lambda item=item: item * 10 for item in items]  # type: ignore[misc]

    batcher = Batcher[int, int](run, limit=4)
    answers: dict[int, int | str] = {}

    def call(item: int) -> None:
        try:
            answers[item] = batcher(item)
        except ValueError as error:
            answers[item] = str(error)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(8)]
    threads[0].start()
    while not served:
        time.sleep(0.001)
    for thread in threads[1:]:
        thread.start()
        while len(batcher._waiting) < threads.index(thread):
            time.sleep(0.001)
    gate.set()
    for thread in threads:
        thread.join(5)
    assert served == [[0], [1, 2, 3, 4], [5, 6, 7]]
    assert answers == {**{i: 10 * i for i in range(5)}, 5: "seven", 6: "seven", 7: "seven"}
    assert batcher(8) == 80


def test_a_backend_asked_for_runs_or_says_why(net: SEDNet) -> None:
    found = GpuEngine(to_weights(net), device="cpu", backend="triton")
    with pytest.raises(ValueError, match=r"residual_block: backend 'triton' cannot run this: .*not 4"):
        found.probabilities(spectrograms(net, 8)[0])
    reasons = GpuEngine(to_weights(net), device="cpu").explain()["reasons"]
    assert reasons["stem"].startswith("reference (cpu: ")
    wanted = "measured at the first run or warmup(): cpu, reference, not cudnn (needs cuDNN)"
    assert torch.cuda.is_available() or reasons["residual_block"] == wanted


def test_exact_float32_is_a_state_of_the_moment() -> None:
    cudnn: Any = torch.backends.cudnn
    before = cudnn.allow_tf32
    try:
        for value in (True, False):
            cudnn.allow_tf32 = value
            with without_tf32():
                assert not cudnn.allow_tf32
            assert cudnn.allow_tf32 is value
        if hasattr(cudnn, "conv"):
            cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = "tf32", "ieee"
            with without_tf32():
                assert (cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision) == ("ieee", "ieee")
            assert (cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision) == ("tf32", "ieee")
    finally:
        cudnn.allow_tf32 = before


def test_a_replay_reads_the_new_input_and_keeps_the_old_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real capture, around a graph that only pretends to be one."""
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []
    options: dict[str, Any] = {}

    def function(x: Tensor) -> Tensor:
        inputs.append(x)
        outputs.append(x * 2)
        return outputs[-1]

    class FakeGraph:
        def replay(self) -> None:
            outputs[-1].copy_(inputs[-1] * 2)

    class FakeStream:
        def synchronize(self) -> None:
            assert len(inputs) == 1  # what must not be captured has run once, before the capture

    def capturing(graph: FakeGraph, **given: Any) -> Any:
        options.update(given)
        return nullcontext()

    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", capturing)
    stream: Any = FakeStream()
    first = torch.ones(3)
    program = graphs.cuda_capture(stream)(function, first)
    assert options == {"pool": "pool", "stream": stream, "capture_error_mode": "thread_local"}
    second, third = program(torch.full((3,), 5.0)), program(torch.full((3,), 7.0))
    assert second.tolist() == [10.0] * 3 and third.tolist() == [14.0] * 3 and first.tolist() == [1.0] * 3


@pytest.mark.gpu
def test_a_graph_replays_what_it_captured() -> None:
    engine = GpuEngine(to_weights(lively_network(channels=64, bands=128, hidden=64, pooling=8)), precision="bf16")
    inputs = [random_log_mel(lively_network(bands=128), 301, batch=2, seed=i).cuda() for i in range(3)]
    eager = engine.network(inputs[0])
    assert not engine.explain()["graphs"]
    replays = [engine.network(x) for x in inputs * 3]
    assert engine.explain()["graphs"] == ["network 2 x 304"] and not engine._batches._programs.refused
    assert torch.equal(replays[0], eager)
    for i in range(3):
        assert torch.equal(replays[i], replays[i + 3]) and torch.equal(replays[i], replays[i + 6])
        assert i == 0 or not torch.equal(replays[0], replays[i])


@pytest.mark.gpu
def test_results_belong_to_the_callers_stream() -> None:
    engine = GpuEngine(to_weights(lively_network(channels=64, bands=128, hidden=64, pooling=8)), precision="bf16")
    x = random_log_mel(lively_network(bands=128), 2_500, batch=3).cuda()
    wanted = engine.network(x).cpu()
    side = torch.cuda.Stream()
    for _ in range(5):
        with torch.cuda.stream(side):
            late = torch.zeros_like(x)
            torch.cuda._sleep(20_000_000)
            late.copy_(x)
            got = engine.network(late).mul(2)
            late.fill_(torch.nan)  # once the engine has read it
        side.synchronize()
        torch.testing.assert_close(got.cpu(), 2 * wanted, atol=1e-2, rtol=0)


@pytest.mark.gpu
def test_threads_may_capture_while_others_push() -> None:
    engine = GpuEngine(make_weights(1, replace(CONFIG, network=NetworkConfig(channels=16, hidden=16))))
    rng = np.random.default_rng(0)
    waves = [rng.uniform(-1, 1, n).astype(np.float32) for n in (9_000, 40_000, 400_000, 20_000) * 4]
    wanted = [engine.detect_wave(wave) for wave in waves[:4]]
    found: dict[int, np.ndarray] = {}

    def push(i: int) -> None:
        stream = engine.stream()
        for first in range(0, len(waves[i]), 8_000):
            stream.push(waves[i][first : first + 8_000])
        found[i] = stream.finish()

    threads = [threading.Thread(target=push, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    engine.warmup([(n, frames) for n in (1, 2, 4) for frames in (251, 500, 700)])
    for thread in threads:
        thread.join()
    again = [engine.detect_wave(wave) for wave in waves[:4]]
    assert not engine._batches._programs.refused
    for i in range(16):
        assert found[i].shape == (1 + len(waves[i]) // HOP, 2)
    for i in range(4):
        np.testing.assert_allclose(again[i], wanted[i], atol=1e-2)


@pytest.mark.gpu
def test_two_engines_may_capture_at_once() -> None:
    weights = make_weights(1, replace(CONFIG, network=NetworkConfig(channels=16, hidden=16)))
    engines = [GpuEngine(weights) for _ in range(2)]
    shapes = [(n, frames) for n in (1, 2, 4) for frames in (40, 80, 160)]
    threads = [threading.Thread(target=engine.warmup, args=(shapes,)) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not any(engine._batches._programs.refused for engine in engines)
    assert all(len(engine.explain()["graphs"]) == len(shapes) for engine in engines)


@pytest.mark.gpu
def test_memory_does_not_grow_with_the_recording() -> None:
    engine = GpuEngine(to_weights(lively_network(channels=64, bands=128, hidden=64, pooling=8)), precision="bf16")
    peaks = []
    for frames in (60_000, 240_000):  # 20 and 80 minutes
        x = random_log_mel(lively_network(bands=128), frames)[0].numpy()
        torch.cuda.reset_peak_memory_stats()
        assert np.isfinite(engine.probabilities(x)).all()
        peaks.append(torch.cuda.max_memory_allocated())
    per_frame = (peaks[1] - peaks[0]) / 180_000
    assert per_frame < 8_000  # spectrogram and projections; one feature map alone is 16 kB a frame


@pytest.mark.gpu
def test_real_memory_that_runs_out(caplog: pytest.LogCaptureFixture) -> None:
    weights = to_weights(lively_network(channels=64, bands=128, hidden=64, pooling=8))
    x = random_log_mel(lively_network(bands=128), 1_501, batch=32).cuda()
    wanted = GpuEngine(weights, precision="bf16", graphs=False).network(x).cpu()
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + 2.5e9) / total)
    try:
        got = GpuEngine(weights, precision="bf16", graphs=False).network(x).cpu()
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert sum("out of memory" in line for line in caplog.messages) == 1
    torch.testing.assert_close(got, wanted, atol=1e-2, rtol=0)
