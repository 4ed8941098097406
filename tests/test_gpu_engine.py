"""The GPU engine on a CPU: the same code without streams and graphs, and with Triton's interpreter."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from face import CONFIG, HOP, make_weights
from networks import random_log_mel, random_network
from torch import Tensor

from mtfa_fast import Detector, detector
from mtfa_fast.backends.support import Support
from mtfa_fast.engine import tiles
from mtfa_fast.engine.gpu import GpuEngine, batches, engine, graphs
from mtfa_fast.engine.gpu.blocks import Block, Choice
from mtfa_fast.engine.gpu.device import Device, without_tf32
from mtfa_fast.engine.gpu.network import Network
from mtfa_fast.engine.gpu.stream import Batcher
from mtfa_fast.nn import SEDNet
from mtfa_fast.nn.convert import to_weights
from mtfa_fast.ops._dispatch import Table
from mtfa_fast.postprocess import runs, threshold_and_filter

CPU = torch.device("cpu")
LONG, SHORT = 900, 300


def lively_network(**options: Any) -> SEDNet:
    """Small, with weights that do not let far neighbours fade below rounding, and probabilities that differ."""
    net = random_network(**{"channels": 4, "bands": 16, "hidden": 5, "pooling": 4, "classes": 2, **options})
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, generator=generator)
    with torch.no_grad():
        for norm in (m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            assert norm.running_var is not None
            norm.running_var.mul_(2)  # or the maps grow from block to block
        for weight in net.gru.parameters():
            weight.mul_(2)
        net.head.output.weight.mul_(4)
    return net


def spectrograms(net: SEDNet, *frames: int) -> list[np.ndarray]:
    return [random_log_mel(net, n, seed=n)[0].numpy() for n in frames]


def alone(net: SEDNet, log_mel: np.ndarray) -> np.ndarray:
    """By the plain network in float64."""
    return net.double().probabilities(torch.from_numpy(log_mel).double()[None])[0].numpy()


@pytest.fixture(scope="module")
def net() -> SEDNet:
    return lively_network()


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes at which a recording of a few seconds is a long one."""
    monkeypatch.setattr(batches, "SIZES", (192, 256))


# Windows


def test_halo_is_the_receptive_field() -> None:
    """By gradients, in float64: which input frames move an output frame at all."""
    net = lively_network(bands=8, pooling=1, channels=3).double()
    x = torch.randn(1, 400, 8, dtype=torch.float64)
    for frame in (200, 203, 204, 207):
        moved = x.clone().requires_grad_()
        net.flatten(net.attention(net.stem(moved.unsqueeze(1))))[:, frame].square().sum().backward()
        assert moved.grad is not None
        seen = torch.nonzero(moved.grad.abs().sum((0, 2))).flatten()
        low, high = tiles.needed(frame, frame)
        assert low <= seen[0] and seen[-1] <= high
        if frame in (203, 204):  # where it reaches furthest; maxima may hide single frames at its rim
            assert seen[0] <= low + 4 and high - 4 <= seen[-1]
    assert tiles.HALO_FRAMES == 80


@pytest.mark.parametrize("size", [168, 256])
@pytest.mark.parametrize("total", [8, 160, 168, 176, 256, 264, 1_000])
def test_windows_cover_everything_once_with_room(total: int, size: int) -> None:
    found = tiles.windows(total, size)
    assert [w.first for w in found] == [0, *[w.last for w in found[:-1]]] and found[-1].last == total
    for w in found:
        end = w.low + min(size, total)
        assert 0 <= w.low <= w.first < w.last <= end <= total and w.low % 8 == w.first % 8 == 0
        assert w.low == 0 or w.first - w.low >= tiles.HALO_FRAMES
        assert end == total or end - w.last >= tiles.HALO_FRAMES


def test_window_sizes_waste_little() -> None:
    for total in range(384, 4_000, 8):
        size = batches.window_size(total)
        computed = size * len(tiles.windows(total, size))
        assert size in batches.SIZES and computed <= 2 * total
    assert batches.window_size(2_056) == batches.window_size(100_000) == 2_048


@pytest.mark.parametrize("halo", [80, 72])
def test_windows_are_exact_and_the_halo_is_needed(net: SEDNet, halo: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64, where rounding hides nothing: the trunk in windows is the trunk of the whole."""
    monkeypatch.setattr(tiles, "HALO_FRAMES", halo)
    network = Network(to_weights(net), CPU, torch.float64, choice=Choice("reference"))
    x = random_log_mel(net, 600).double()
    whole = network.trunk(x)
    parts = [
        network.trunk(x[:, w.low : w.low + 208])[:, w.first - w.low : w.last - w.low] for w in tiles.windows(600, 208)
    ]
    error = float((torch.cat(parts, 1) - whole).abs().max())
    assert error < 1e-12 if halo == 80 else error > 1e-10


# The network


@pytest.mark.parametrize("variant", ["mtfa", "resatt", "res"])
@pytest.mark.parametrize("projection", [True, False])
@pytest.mark.parametrize("frames", [1, 7, 8, 9, 101])
def test_against_the_plain_network_in_float64(variant: Any, projection: bool, frames: int) -> None:
    net = lively_network(variant=variant, mask_projection=projection, pooling=1 if frames == 9 else 8)
    network = Network(to_weights(net), CPU, torch.float64, choice=Choice("reference"))
    x = random_log_mel(net, frames, batch=2).double()
    padded = torch.cat([x, x[:, -1:].expand(-1, -frames % 8, -1)], 1)
    got = network.whole(padded)[:, :frames]
    torch.testing.assert_close(got, net.double().probabilities(x), atol=5e-7, rtol=0)  # the folded weights are float32


def test_unequal_recurrences_are_exact(net: SEDNet) -> None:
    """Behind each clip's end stands something that must not matter, in the last dimension of the batch or before."""
    network = Network(to_weights(net), CPU, torch.float64, choice=Choice("reference"))
    gi = torch.randn(3, 40, 2, 15, dtype=torch.float64)
    lengths = [40, 8, 24]
    together = network.recurrent(gi.clone() * 3, torch.tensor(lengths))
    for row, length in enumerate(lengths):
        single = network.recurrent(gi[row : row + 1, :length].clone() * 3)
        torch.testing.assert_close(together[row : row + 1, :length], single, atol=1e-15, rtol=0)
    forgotten = network.recurrent(gi.clone() * 3)
    assert float((forgotten[1, :8] - together[1, :8]).abs().max()) > 1e-6


@pytest.mark.usefixtures("small_windows", "poisoned_memory")
def test_a_mixed_batch_is_each_clip_alone(net: SEDNet) -> None:
    found = GpuEngine(to_weights(net), device="cpu", batch_frames=2_048)
    clips = spectrograms(net, 1, 40, 200, 300, 300, 555, 9, 300, 300, 1_000, 201, 64)
    together = found.probabilities_of(clips)
    for clip, got in zip(clips, together, strict=True):
        assert got.dtype == np.float32 and got.shape == (len(clip), 2)
        np.testing.assert_allclose(got, alone(net, clip), atol=2e-6)
        np.testing.assert_allclose(got, found.probabilities(clip), atol=1e-6)
    assert np.ptp(together[-3]) > 0.1


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_errs_no_more_than_stock(precision: str) -> None:
    net = lively_network(channels=16, bands=32, hidden=16)
    x = random_log_mel(net, 200)
    exact = torch.from_numpy(alone(net, x[0].numpy()))
    dtype = engine.DTYPES[precision]
    net.float()
    with torch.autocast("cpu", dtype):
        stock = net.probabilities(x)[0]
    got = torch.from_numpy(GpuEngine(to_weights(net), device="cpu", precision=precision).probabilities(x[0].numpy()))
    assert got.dtype == torch.float32
    assert 0 < (got - exact).norm() <= 2 * (stock - exact).norm()


def test_triton_runs_every_part() -> None:
    pytest.importorskip("triton")
    net = lively_network(channels=16, bands=16, hidden=16, pooling=8)
    found = GpuEngine(to_weights(net), device="cpu", precision="bf16", backend="triton")
    clips = spectrograms(net, 8, 13)
    plain = GpuEngine(to_weights(net), device="cpu", precision="bf16", backend="reference")
    for got, wanted, clip in zip(found.probabilities_of(clips), plain.probabilities_of(clips), clips, strict=True):
        exact = alone(net, clip)
        assert np.linalg.norm(got - exact) <= 2 * np.linalg.norm(wanted - exact) + 1e-3
    assert {found.explain()["reasons"][part] for part in ("stem", "pooling", "gate", "recurrence")} == {
        "triton: asked for"
    }


# New kernels


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 8, 5), (1, 1, 1), (1, 3, 70)])
def test_stem_kernel(shape: tuple[int, int, int], dtype: torch.dtype, device: str, poisoned_memory: None) -> None:
    pytest.importorskip("triton")
    x = torch.randn(shape, device=device) * 3
    mean, std = torch.randn(shape[2], device=device), torch.rand(shape[2], device=device) + 0.5
    weight, bias = torch.randn(12, 1, 3, 3, device=device), torch.randn(12, device=device)
    args = (x, mean, std, weight, bias)
    got = Table("stem").choose("triton", *args, dtype)(*args, dtype)
    exact = Table("stem").choose("reference", *args, dtype)(*(a.double() for a in args), torch.float64)
    assert got.dtype == dtype and got.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got.double(), exact, atol=1e-5, rtol=2 * torch.finfo(dtype).eps)


@pytest.mark.parametrize(("down", "across"), [(2, 2), (1, 8), (1, 1)])
def test_pooling_kernel(down: int, across: int, device: str, poisoned_memory: None) -> None:
    pytest.importorskip("triton")
    x = torch.randn(2, 3, 6, 16, device=device).to(memory_format=torch.channels_last)
    x[1, 2, 3, 9] = torch.nan
    x[0, 0, 0, 0] = -torch.inf
    for dtype in (torch.float32, torch.bfloat16):
        args = (x.to(dtype), down, across)
        got, wanted = (Table("max_pool").choose(b, *args)(*args) for b in ("triton", "reference"))
        torch.testing.assert_close(got, wanted, atol=0, rtol=0, equal_nan=True)
        assert got.is_contiguous(memory_format=torch.channels_last)
    with pytest.raises(ValueError, match="channels-last"):
        Table("max_pool").choose("triton", x.contiguous(), down, across)


@pytest.mark.parametrize("backend", ["triton", "reference"])
def test_states_are_the_recurrence(backend: str, device: str) -> None:
    gi, w_hh, b_hn = (torch.randn(*shape, device=device) for shape in ((2, 9, 2, 24), (2, 24, 8), (2, 8)))
    args = (gi, w_hh, b_hn)
    exact = Table("bigru_recurrence", "bigru").choose("reference", *args)(*(a.double() for a in args))[0]
    got = Table("bigru_states").choose(backend, *args)(*args)
    torch.testing.assert_close(got.double(), exact, atol=1e-6, rtol=0)


# Recordings


@pytest.mark.usefixtures("small_windows")
def test_a_stream_hides_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtfa_fast.engine.gpu.stream.BLOCK_FRAMES", 32)
    torch.manual_seed(0)
    net = SEDNet(CONFIG).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    found = GpuEngine(to_weights(net), device="cpu")
    wave = np.random.default_rng(3).uniform(-1, 1, 1_200 * HOP + 37).astype(np.float32)
    log_mel = found.log_mel(wave).numpy()
    expected = alone(net, log_mel)
    assert expected.shape == (1_201, 2) and np.ptp(expected) > 0.01
    ahead = []
    trunk = found._batches._network.trunk
    monkeypatch.setattr(found._batches._network, "trunk", lambda x: ahead.append(len(x)) or trunk(x))
    for size in (len(wave), 1_000, 7_777):
        stream = found.stream()
        for first in range(0, len(wave), size):
            stream.push(wave[first : first + size])
        if size < len(wave):  # all but what the end decides was done on the way, and what it needed is gone
            assert len(stream._done) == (stream._next - 256 - 1) // 96 + 1 and len(ahead) >= 9
            assert sum(map(len, stream._parts)) <= 256 + 96 + 64
        np.testing.assert_allclose(stream.finish(), expected, atol=1e-6)


@pytest.mark.parametrize("samples", [1, HOP - 1, HOP, 256, 257])
def test_short_waves(samples: int) -> None:
    found = GpuEngine(make_weights(), device="cpu")
    wave = np.full(samples, 0.5, np.float32)
    got = found.detect_wave(wave)
    assert got.shape == (1 + samples // HOP, 2)
    np.testing.assert_allclose(got, found.probabilities(found.log_mel(wave).numpy()), atol=1e-6)
    with pytest.raises(ValueError, match="samples: got 0"):
        found.stream().finish()


def test_events_on_the_device() -> None:
    found = GpuEngine(make_weights(), device="cpu")
    waves = [torch.randn(n) * 0.3 for n in (40 * HOP, 7, 100 * HOP + 3)]
    detected = found.detect(waves)
    assert detected.frames == (41, 1, 101) and detected.probabilities.shape == (3, 101, 2)
    limits, filters = zip(*((c.threshold, c.filter_frames) for c in CONFIG.classes), strict=True)
    for row, (wave, frames) in enumerate(zip(waves, detected.frames, strict=True)):
        single = found.detect_wave(wave.numpy())
        np.testing.assert_allclose(detected.probabilities[row, :frames].numpy(), single, atol=1e-6)
        assert not detected.probabilities[row, frames:].any()
        active = threshold_and_filter(detected.probabilities[row, :frames].numpy(), limits, filters)
        for k in range(2):
            spans = detected.runs[row, k, : detected.counts[row, k]].numpy()
            np.testing.assert_array_equal(spans, runs(active[:, k]))
    equal = found.detect(torch.stack([waves[0], waves[0]]))
    np.testing.assert_allclose(equal.probabilities[1].numpy(), detected.probabilities[0, :41].numpy(), atol=1e-6)


# Graphs, memory, threads


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


def test_a_detector_of_many_files(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import soundfile

    weights = make_weights(1)
    monkeypatch.setattr(detector, "make_engine", lambda weights, **_: GpuEngine(weights, device="cpu"))
    found = Detector(weights, device="cuda")
    assert found._jobs >= 1
    rng = np.random.default_rng(0)
    waves = [rng.uniform(-1, 1, rng.integers(200, 9_000)).astype(np.float32) for _ in range(12)]
    paths = []
    for i, wave in enumerate(waves):
        paths.append(tmp_path / f"{i}.wav")
        soundfile.write(paths[-1], wave, 8_000, subtype="FLOAT")
    (tmp_path / "5.wav").write_bytes(b"not audio")
    for jobs in (None, 6):
        for i, (path, answer) in enumerate(found.detect_files(paths, jobs=jobs)):
            assert path == paths[i]
            if i == 5:
                assert isinstance(answer, ValueError)
            else:
                assert not isinstance(answer, Exception)
                expected = found(waves[i], sample_rate=8_000)
                np.testing.assert_allclose(answer.probabilities, expected.probabilities, atol=1e-6)


# Choices


def test_the_fastest_right_block_is_chosen_once_for_each_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = Choice.__init__.__globals__
    weights = (torch.randn(16, 16, 3, 3) / 12, torch.randn(16), torch.randn(16, 16, 3, 3) / 12, torch.randn(16))
    block = Block(weights)
    run, ran = Block.run, []

    def runs(self: Block, name: str, x: Tensor) -> Tensor:
        ran.append(name)
        if name == "cuda":
            return run(self, "reference", x)
        if name == "triton":
            return run(self, "reference", x) * 1.02
        if name == "broken":
            raise RuntimeError("no kernel image\nis available")
        return run(self, name, x)

    speeds = iter([3e-3, 1e-3, 5e-3, 4e-3])
    monkeypatch.setattr(Block, "run", runs)
    monkeypatch.setitem(tables, "ladder", lambda args: ("cuda", "triton", "broken", "reference"))
    monkeypatch.setattr(
        Choice,
        "_support",
        staticmethod(lambda name, x, block: Support.yes() if name != "cudnn" else Support.no("needs cuDNN")),
    )
    choice = Choice(timer=lambda call, device: next(speeds))
    x = torch.randn(2, 16, 8, 8)
    choice(0, block, x)
    assert choice.reasons[0] == (
        "reference: fastest at 2x16x8x8: reference 1 ms, cuda 3 ms, triton not (wrong results: relative error 0.02, "
        "allowed 1e-05), broken not (RuntimeError: no kernel image), cudnn not (needs cuDNN)"
    )
    ran.clear()
    choice(0, block, torch.randn(5, 16, 80, 8))
    assert ran == ["reference"]
    choice(1, block, x)
    assert choice.reasons[1].startswith("reference: fastest") and ran.count("cuda") == 1


def test_a_backend_asked_for_runs_or_says_why(net: SEDNet) -> None:
    found = GpuEngine(to_weights(net), device="cpu", backend="triton")
    with pytest.raises(ValueError, match=r"residual_block: backend 'triton' cannot run this: .*not 4"):
        found.probabilities(spectrograms(net, 8)[0])
    reasons = GpuEngine(to_weights(net), device="cpu").explain()["reasons"]
    assert reasons["stem"].startswith("reference (cpu: ") and "measured at the first run" in reasons["residual_block"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int8"}, "precision: got 'int8', allowed: auto, fp32, bf16, fp16"),
        ({"backend": "cuda"}, "backend: got 'cuda', allowed: auto, triton, reference"),
        ({"batch_frames": 100}, "batch_frames: got 100, allowed: an integer >= 2048"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GpuEngine(make_weights(), device="cpu", **options)


def test_wrong_calls(net: SEDNet) -> None:
    found = GpuEngine(to_weights(net), device="cpu")
    for call, message in (
        (lambda: found.probabilities(np.zeros((0, 16))), r"log_mel: got shape \(0, 16\)"),
        (lambda: found.probabilities_of([np.zeros((2, 16)), np.zeros((2, 15))]), r"log_mels\[1\]: got shape \(2, 15\)"),
        (lambda: found.network(torch.zeros(1, 4, 15)), r"log_mel: got \(1, 4, 15\) on cpu"),
        (lambda: found.detect([torch.zeros(0)]), r"waves\[0\]: got \(0,\) on cpu"),
        (lambda: found.detect([]), "waves: got none"),
        (lambda: found.warmup([(0, 3)]), r"shapes: got \(0, 3\)"),
        (lambda: found.stream().push(np.zeros(3)), "samples: got float64"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert found.probabilities(np.zeros((0, 5, 16), np.float32)).shape == (0, 5, 2)
    assert found.network(torch.zeros(0, 5, 16)).shape == (0, 5, 2)
    assert found.probabilities_of([]) == []


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
