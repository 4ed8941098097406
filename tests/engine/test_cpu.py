"""The C++ engine against the float64 reference, and against itself cut in other ways."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mtfa_fast import _core
from mtfa_fast.checking.reference import Reference
from mtfa_fast.engine.cpu import CpuEngine
from mtfa_fast.nn import ResidualBlock, SEDNet
from mtfa_fast.nn.convert import to_weights
from tests.networks import random_log_mel, random_network

HAS_BF16 = _core.chosen_isa() in ("avx512bf16", "amx")


def relative_error(got: np.ndarray, want: np.ndarray) -> float:
    assert got.shape == want.shape
    assert np.isfinite(got).all()
    return float(np.sqrt(np.mean((got - want) ** 2) / np.mean(want**2)))


def reference(net: SEDNet, log_mel: torch.Tensor, dtype: torch.dtype) -> np.ndarray:
    """Probabilities by the torch reference in a dtype, as float64."""
    net = net.to(dtype)
    try:
        return net.probabilities(log_mel.to(dtype)).double().numpy()
    finally:
        net.float()


def engine_of(net: SEDNet, **options: object) -> CpuEngine:
    return CpuEngine(to_weights(net), **options)  # type: ignore[arg-type]


CASES = {
    "paper": dict(channels=64, bands=128),
    "c16-d40": dict(channels=16, bands=40),
    "c32-d8": dict(channels=32, bands=8, pooling=1, hidden=40, classes=1),
    "c128-d64": dict(channels=128, bands=64, hidden=16),
    "c10": dict(channels=10, bands=40, pooling=5),  # channels and pooling that fill no vector
    "resatt": dict(channels=16, bands=40, variant="resatt"),
    "res": dict(channels=16, bands=40, variant="res"),
    "no-projection": dict(channels=16, bands=40, mask_projection=False),
}


@pytest.mark.parametrize(
    ("case", "frames"),
    [("c16-d40", 1), ("c16-d40", 7), ("c16-d40", 8), ("c16-d40", 9), ("c16-d40", 250)]
    + [(case, 41) for case in CASES if case != "c16-d40"],
)
def test_fp32_error_is_at_most_twice_stock_torch(case: str, frames: int) -> None:
    net = random_network(**CASES[case])  # type: ignore[arg-type]
    log_mel = random_log_mel(net, frames, batch=2)
    exact = reference(net, log_mel, torch.float64)
    stock = relative_error(reference(net, log_mel, torch.float32), exact)
    assert relative_error(engine_of(net, precision="fp32").probabilities(log_mel.numpy()), exact) <= 2 * stock


@pytest.mark.skipif(not HAS_BF16, reason=f"no bf16 products with {_core.chosen_isa()}")
@pytest.mark.parametrize("case", ["paper", "c16-d40", "c10", "resatt", "res", "no-projection"])
def test_bf16_error_is_at_most_twice_stock_torch(case: str) -> None:
    net = random_network(**CASES[case])  # type: ignore[arg-type]
    log_mel = random_log_mel(net, 57)
    exact = reference(net, log_mel, torch.float64)
    stock = relative_error(reference(net, log_mel, torch.bfloat16), exact)
    assert relative_error(engine_of(net, precision="bf16").probabilities(log_mel.numpy()), exact) <= 2 * stock


def test_rings_hold_what_is_needed_at_every_length() -> None:
    """A ring that is a row too short gives rows of another time. Lengths: up to two periods of the schedule (128
    frames), and some of each remainder by it far beyond the longest delay."""
    net = random_network(channels=16, bands=8, pooling=1, hidden=16)
    engine = engine_of(net, precision="fp32", threads=2)
    for frames in (*range(8, 264, 8), *range(264, 264 + 32 * 56, 56)):
        log_mel = random_log_mel(net, frames)
        exact = reference(net, log_mel, torch.float64)
        assert relative_error(engine.probabilities(log_mel.numpy()), exact) < 1e-5, frames


PRECISIONS = ["fp32", *(["bf16"] if HAS_BF16 else [])]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_bits_do_not_depend_on_threads_batch_or_blocks(precision: str) -> None:
    net = random_network(channels=16, bands=40)
    rng = np.random.default_rng(0)
    waves = (rng.standard_normal((3, 882 * 333 + 17)) * 0.1).astype(np.float32)
    alone = engine_of(net, precision=precision, threads=1)
    whole = [alone.detect_wave(wave) for wave in waves]
    assert len(whole[0]) == 334
    for threads in (1, 2, 3):
        engine = engine_of(net, precision=precision, threads=threads)
        stream, position = engine.stream(), 0
        while position < waves.shape[1]:
            size = int(rng.integers(0, 40_000))
            stream.push(waves[0, position : position + size])
            position += size
        np.testing.assert_array_equal(stream.finish(), whole[0])
        log_mel = np.stack([_log_mel(net, wave) for wave in waves])
        np.testing.assert_array_equal(engine.probabilities(log_mel), np.stack(whole))


def _log_mel(net: SEDNet, wave: np.ndarray) -> np.ndarray:
    from mtfa_fast.audio.features import log_mel

    return log_mel(wave, net.config.features)


def test_a_long_recording_needs_no_more_memory_than_its_stored_frames() -> None:
    code = """
import resource, numpy as np
from mtfa_fast.config import *
from mtfa_fast.engine.cpu import CpuEngine
from mtfa_fast.weights import Weights, expected_shapes
config = Config(network=NetworkConfig(variant="res", channels=16))
rng = np.random.default_rng(0)
tensors = {n: rng.random(s, dtype=np.float32) * 0.1 + 0.01 for n, s in expected_shapes(config).items()}
engine = CpuEngine(Weights(config, tensors), threads=2)
second = rng.standard_normal(44100).astype(np.float32)
peaks = []
for seconds in (30, 330):
    stream = engine.stream()
    for _ in range(seconds):
        stream.push(second)
    assert np.isfinite(stream.finish()).all()
    peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
print((peaks[1] - peaks[0]) / 300)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) * 3600 < 400e6


@pytest.mark.parametrize("isa", [isa for isa in _core.available_isas() if isa != "avx512bf16"])
def test_every_instruction_set_meets_the_bound(isa: str) -> None:
    code = """
import sys
sys.path.insert(0, ".")
from tests.engine import test_cpu as test_engine
from mtfa_fast import _core
assert _core.chosen_isa().startswith(sys.argv[1]), _core.chosen_isa()
test_engine.test_fp32_error_is_at_most_twice_stock_torch("c16-d40", 250)
test_engine.test_fp32_error_is_at_most_twice_stock_torch("c32-d8", 9)
"""
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    # One thread for torch: its threads would wait for each other on a machine with other work.
    environment = {**os.environ, "MTFA_FAST_ISA": isa, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code, isa], check=True, cwd=root, env=environment)


def test_eight_python_threads_share_one_engine() -> None:
    net = random_network(channels=16, bands=40)
    engine = engine_of(net, threads=2)
    inputs = [random_log_mel(net, 30 + i, seed=i)[0].numpy() for i in range(8)]
    expected = [engine.probabilities(x) for x in inputs]
    failures: list[str] = []

    def worker(i: int) -> None:
        for _ in range(5):
            if not np.array_equal(engine.probabilities(inputs[i]), expected[i]):
                failures.append(f"thread {i}")

    threads = [threading.Thread(target=worker, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_fork_after_use_does_not_hang() -> None:
    code = """
import os, sys
sys.path.insert(0, ".")
from tests.engine.test_cpu import engine_of, random_log_mel, random_network
net = random_network(channels=16, bands=40)
engine = engine_of(net, threads=2)
x = random_log_mel(net, 64)[0].numpy()
expected = engine.probabilities(x)
child = os.fork()
if child == 0:
    os._exit(0 if (engine.probabilities(x) == expected).all() else 1)
assert os.waitpid(child, 0)[1] == 0
"""
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, timeout=120)


def fill_blocks_of_four(conv: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> torch.Tensor:
    """A direct convolution's (B, C, T, D) with NaN in all four bands of a block where its three frames have one."""
    bands = output.shape[-1]
    there = F.pad(inputs[0].isnan().any(1, keepdim=True).double(), (0, -bands % 4))
    there = F.max_pool2d(there, (3, 4), stride=(1, 4), padding=(1, 0)).repeat_interleave(4, -1)[..., :bands]
    return output.masked_fill(there > 0, torch.nan)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_nan_in_one_frame_reaches_its_receptive_field_and_no_further(precision: str) -> None:
    """In time each stage has NaN in the frames of the reference, whose convolutions are direct, and in no other. In mel
    it also fills the blocks of four of Winograd's convolutions, and no more; the GRU carries it everywhere."""
    net = random_network(channels=16, bands=40)
    log_mel = random_log_mel(net, 320)[0].numpy()
    engine, reference_net = engine_of(net, precision=precision), Reference(to_weights(net), precision="fp64")
    blocks = Reference(to_weights(net), precision="fp64")
    for module in blocks._net.modules():
        if isinstance(module, ResidualBlock):
            module.conv1.register_forward_hook(fill_blocks_of_four)
            module.conv2.register_forward_hook(fill_blocks_of_four)
    for frame, band in ((160, 3), (161, 20)):  # both places in a pair of rows
        with_nan = log_mel.copy()
        with_nan[frame, band] = np.nan
        names = [name for name in engine.stage_names() if name != "gru"]
        direct = reference_net.stages(with_nan, names)
        for name, want in blocks.stages(with_nan, names).items():
            got = np.isnan(engine.tap(name, with_nan))
            np.testing.assert_array_equal(got, np.isnan(want), err_msg=name)
            frames = np.isnan(direct[name]).any(axis=(1, 2))
            np.testing.assert_array_equal(got.any(axis=(1, 2)), frames, err_msg=name)
            assert frames.any() and not frames.all(), name
        assert np.isnan(engine.probabilities(with_nan)).all()
    assert np.isfinite(engine.probabilities(log_mel)).all()  # nothing is left behind in the rings


BAD: dict[str, tuple[Callable[[CpuEngine], object], str]] = {
    "log_mel shape": (lambda e: e.probabilities(np.zeros((3, 7))), r"log_mel: got shape \(3, 7\)"),
    "no frames": (lambda e: e.probabilities(np.zeros((0, 40))), r"log_mel: got shape \(0, 40\)"),
    "samples shape": (lambda e: e.detect_wave(np.zeros((2, 2))), r"samples: got shape \(2, 2\)"),
    "no samples": (lambda e: e.detect_wave(np.zeros(0)), "no audio"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case: str) -> None:
    call, message = BAD[case]
    engine = engine_of(random_network(channels=16, bands=40))
    with pytest.raises(ValueError, match=message):
        call(engine)


def test_bad_options_are_named() -> None:
    weights = to_weights(random_network(channels=16, bands=40))
    with pytest.raises(ValueError, match="precision: got 'fp8'"):
        CpuEngine(weights, precision="fp8")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="threads: got 0"):
        CpuEngine(weights, threads=0)
