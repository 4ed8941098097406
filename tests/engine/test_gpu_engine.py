"""What the GPU engine answers: on a GPU, else on a CPU, where the same code runs without streams and graphs."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from mtfa_fast import ops
from mtfa_fast.engine.gpu import GpuEngine, batches, engine
from mtfa_fast.engine.gpu.blocks import Choice
from mtfa_fast.engine.gpu.network import Network
from mtfa_fast.engine.gpu.scores import keep_scored
from mtfa_fast.events.postprocess import runs, threshold_and_filter
from mtfa_fast.events.result import Result, decide
from mtfa_fast.nn import SEDNet
from mtfa_fast.nn.convert import to_weights
from tests.engine.lively import alone, lively_network, spectrograms
from tests.face import CONFIG, HOP, make_weights
from tests.networks import random_log_mel

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def net() -> SEDNet:
    return lively_network()


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sizes at which a recording of a few seconds is a long one."""
    monkeypatch.setattr(batches, "SIZES", (192, 256))


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
def test_a_mixed_batch_is_each_clip_alone(net: SEDNet, device: str) -> None:
    found = GpuEngine(to_weights(net), device=device, precision="fp32", batch_frames=2_048)
    clips = spectrograms(net, 1, 40, 200, 300, 300, 555, 9, 300, 300, 1_000, 201, 64)
    together = found.probabilities_of(clips)
    for clip, got in zip(clips, together, strict=True):
        assert got.dtype == np.float32 and got.shape == (len(clip), 2)
        np.testing.assert_allclose(got, alone(net, clip), atol=2e-6)
        np.testing.assert_allclose(got, found.probabilities(clip), atol=1e-6)
    assert np.ptp(together[-3]) > 0.1


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_errs_no_more_than_stock(precision: str, device: str) -> None:
    net = lively_network(channels=16, bands=32, hidden=16)
    x = random_log_mel(net, 200)
    exact = torch.from_numpy(alone(net, x[0].numpy()))
    dtype = engine.DTYPES[precision]
    net.float()
    with torch.autocast("cpu", dtype):
        stock = net.probabilities(x)[0]
    got = torch.from_numpy(GpuEngine(to_weights(net), device=device, precision=precision).probabilities(x[0].numpy()))
    assert got.dtype == torch.float32
    assert 0 < (got - exact).norm() <= 2 * (stock - exact).norm()


def test_triton_runs_every_part(device: str) -> None:
    net = lively_network(channels=16, bands=16, hidden=16, pooling=8)
    found = GpuEngine(to_weights(net), device=device, precision="bf16", backend="triton")
    clips = spectrograms(net, 8, 13)
    plain = GpuEngine(to_weights(net), device=device, precision="bf16", backend="reference")
    for got, wanted, clip in zip(found.probabilities_of(clips), plain.probabilities_of(clips), clips, strict=True):
        exact = alone(net, clip)
        assert np.linalg.norm(got - exact) <= 2 * np.linalg.norm(wanted - exact) + 1e-3
    reasons = found.explain()["reasons"]
    assert {reasons[part] for part in ("stem", "pooling", "recurrence")} == {"triton: asked for"}
    assert reasons["gate"] == "triton, with projection and pooling in one kernel"


@pytest.mark.usefixtures("small_windows")
def test_a_stream_hides_its_blocks(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr("mtfa_fast.engine.gpu.stream.BLOCK_FRAMES", 32)
    torch.manual_seed(0)
    net = SEDNet(CONFIG).eval()
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    found = GpuEngine(to_weights(net), device=device, precision="fp32")
    wave = np.random.default_rng(3).uniform(-1, 1, 1_200 * HOP + 37).astype(np.float32)
    log_mel = found.log_mel(wave).cpu().numpy()
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
            assert len(stream._done) == (stream._frames.next - 256 - 1) // 96 + 1 and len(ahead) >= 9
            assert sum(map(len, stream._parts)) <= 256 + 96 + 64
        np.testing.assert_allclose(stream.finish(), expected, atol=1e-6)


@pytest.mark.parametrize("samples", [1, HOP - 1, HOP, 256, 257])
def test_short_waves(samples: int, device: str) -> None:
    found = GpuEngine(make_weights(), device=device, precision="fp32")
    wave = np.full(samples, 0.5, np.float32)
    got = found.detect_wave(wave)
    assert got.shape == (1 + samples // HOP, 2)
    np.testing.assert_allclose(got, found.probabilities(found.log_mel(wave).cpu().numpy()), atol=1e-6)
    with pytest.raises(ValueError, match="samples: got 0"):
        found.stream().finish()


def test_events_on_the_device(device: str) -> None:
    found = GpuEngine(make_weights(), device=device, precision="fp32")
    waves = [torch.randn(n, device=device) * 0.3 for n in (40 * HOP, 7, 100 * HOP + 3)]
    detected = found.detect(waves)
    assert detected.frames == (41, 1, 101) and detected.probabilities.shape == (3, 101, 2)
    probabilities = detected.probabilities.cpu().numpy()
    limits, filters = zip(*((c.threshold, c.filter_frames) for c in CONFIG.classes), strict=True)
    for row, (wave, frames) in enumerate(zip(waves, detected.frames, strict=True)):
        single = found.detect_wave(wave.cpu().numpy())
        np.testing.assert_allclose(probabilities[row, :frames], single, atol=1e-6)
        assert not probabilities[row, frames:].any()
        active = threshold_and_filter(probabilities[row, :frames], limits, filters)
        for k in range(2):
            spans = detected.runs[row, k, : detected.counts[row, k]].cpu().numpy()
            np.testing.assert_array_equal(spans, runs(active[:, k]))
    best = probabilities[:, :, 1].max(1)
    strict = decide(CONFIG, minimum_score={CONFIG.class_names[1]: float(np.sort(best)[1])})
    scored = GpuEngine(dataclasses.replace(make_weights(), config=strict), device=device, precision="fp32")
    np.testing.assert_array_equal(scored.detect(waves).counts[:, 1].cpu(), (best >= np.sort(best)[1]))
    equal = found.detect(torch.stack([waves[0], waves[0]]))
    np.testing.assert_allclose(equal.probabilities[1].cpu().numpy(), probabilities[0, :41], atol=1e-6)


def test_smallest_scores_on_the_device(device: str) -> None:
    config = decide(CONFIG, filter_frames=3, minimum_score=dict(zip(CONFIG.class_names, (0.0, 0.95), strict=True)))
    probabilities = torch.rand(4, 101, 2)
    probabilities[1] = 0  # no events
    (limits, filters, least) = zip(
        *((c.threshold, c.filter_frames, c.minimum_score) for c in config.classes), strict=True
    )
    found = ops.detect_runs(probabilities.to(device), limits, filters)
    spans, counts = (x.cpu().numpy() for x in keep_scored(probabilities.to(device), *found, least))
    assert (counts[:, 0] == found[1][:, 0].cpu().numpy()).all() and 0 < counts[0, 1] < found[1][0, 1]
    for row, p in enumerate(probabilities.numpy()):
        result = Result(p, config, "x", 1e9)
        for k, name in enumerate(config.class_names):
            expected = [(e.onset, e.offset) for e in result if e.label == name]
            assert counts[row, k] == len(expected) and (spans[row, k, len(expected) :] == -1).all()
            seconds = spans[row, k, : len(expected)] * config.features.frame_seconds
            np.testing.assert_allclose(seconds, np.reshape(expected, (-1, 2)))


def test_a_detector_of_many_files(tmp_path: Any, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    import soundfile

    from mtfa_fast import Detector, detector

    weights = make_weights(1)
    monkeypatch.setattr(
        detector, "make_engine", lambda weights, **_: GpuEngine(weights, device=device, precision="fp32")
    )
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


def test_commands_take_every_precision_of_a_gpu(
    tmp_path: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import soundfile

    from mtfa_fast.commands.cli import main
    from mtfa_fast.engine import gpu
    from mtfa_fast.measuring import machine

    weights, clip = tmp_path / "weights.safetensors", tmp_path / "clip.wav"
    to_weights(lively_network(channels=16, bands=16, hidden=16)).save(weights)
    soundfile.write(clip, np.random.default_rng(0).uniform(-0.5, 0.5, 22_050).astype(np.float32), 44_100)
    # A machine on which ``device="cuda"`` gets the GPU engine, on the CPU.
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(
        gpu, "GpuEngine", lambda weights, device, precision: GpuEngine(weights, device="cpu", precision=precision)
    )
    detect = ["detect", str(clip), "--weights", str(weights), "--threshold", "0"]
    assert main([*detect, "--precision", "fp16"]) == 2
    assert "precision: got 'fp16', allowed: auto, fp32, bf16, int8 (fp16 needs a GPU)" in capsys.readouterr().err
    assert main([*detect, "--precision", "fp16", "--device", "cuda"]) == 0
    assert "clip.wav" in capsys.readouterr().out
    assert main(["verify", str(weights), str(clip), "--device", "cuda"]) == 0
    found = capsys.readouterr().out
    assert all(f"cuda, {precision}: " in found for precision in ("fp32", "bf16", "fp16")) and "FAIL" not in found
    peaks = {"fp32": 1e9, "bf16": 2e9, "fp16": 3e9, "copy": 1e9}
    monkeypatch.setattr(machine, "gpu_rooflines", lambda device: peaks)
    assert main(["bench", "--weights", str(weights), "--clip", "0.5", "--seconds", "0.01", "--device", "cuda"]) == 0
    found = capsys.readouterr().out
    assert "3 GFLOP/s in fp16" in found and "of the fp16 peak" in found and "mtfa-fast fp16" in found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "int8"}, r"precision: got 'int8', allowed: auto, fp32, bf16, fp16 \(int8 runs on a CPU\)"),
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


def test_info_shows_what_a_gpu_would_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from mtfa_fast.commands import info
    from mtfa_fast.engine import gpu

    weights = make_weights()
    monkeypatch.setattr("mtfa_fast.weights.Weights.load", lambda source: weights)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    rows = dict(info._gpu("any"))
    assert rows["gpu engine"] == "cannot run here: torch finds no CUDA device" and rows["cuda kernels"]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "GpuEngine", lambda weights: GpuEngine(weights, device="cpu"))
    rows = dict(info._gpu("any"))
    assert rows["gpu stem"].startswith("reference (cpu: ") and rows["gpu graphs"] == "none captured yet"
    monkeypatch.setattr(gpu, "GpuEngine", lambda weights: (_ for _ in ()).throw(RuntimeError("device is busy")))
    assert dict(info._gpu("any"))["gpu engine"] == "does not start: device is busy"
