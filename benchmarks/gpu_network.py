"""The whole network on a GPU: our engine against the float32 reference, then its times, then its rivals'.

Everybody takes raw log-mel on the device and gives probabilities there; a 30 s clip has 1501 frames.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu_rows import DEVICE, LOST, Rows, distance, searching
from mtfa_fast.backends.reference.log_mel import log_mel as reference_log_mel
from mtfa_fast.config import Config
from mtfa_fast.engine.gpu import GpuEngine
from mtfa_fast.engine.gpu.device import Device
from mtfa_fast.engine.gpu.graphs import Programs
from mtfa_fast.nn import SEDNet
from mtfa_fast.nn.fast import accelerate
from mtfa_fast.weights import Weights

FRAMES = 1501
BATCH = 32
LENGTHS = (1501, 40, 300, 2600, 900, 1501, 777, 5000, 1, 64)  # frames of a batch of unequal clips
SECONDS = 30
LAST = torch.channels_last
OURS = "engine, bf16, CUDA graph"
FEW = 2  # clips that are compared; a clip does not depend on the others
Call = Callable[[Tensor], Tensor]


def paper_weights() -> Weights:
    """The paper's network of 64 channels with random weights, which do not change its speed.

    Without nn.convert and features, which need the C++ core: that may still be compiling.
    """
    config = Config()
    f = config.features
    torch.manual_seed(0)
    net = SEDNet(config)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
                (module.weight.data, 0.5, 1.5),
                (module.bias.data, -0.2, 0.2),
            ):
                assert tensor is not None
                tensor.uniform_(low, high)
    net.mean.uniform_(-9, -5)
    net.std.uniform_(1, 3)
    tensors = {n: t.numpy() for n, t in net.state_dict().items() if not n.endswith("num_batches_tracked")}
    tensors["features.window"] = torch.hamming_window(f.window_length).numpy()
    triangle = 1 - (torch.linspace(0, 1, f.fft_length // 2 + 1) - torch.linspace(0, 1, f.mel_bands)[:, None]).abs() * 50
    tensors["features.mel"] = triangle.clamp(min=0).numpy()
    return Weights(config, tensors)


def plain(weights: Weights) -> SEDNet:
    net = SEDNet(weights.config)
    state = {name: torch.from_numpy(array.copy()) for name, array in weights.tensors.items()}
    missing = net.load_state_dict({n: t for n, t in state.items() if not n.startswith("features.")}, strict=False)
    assert all(name.endswith("num_batches_tracked") for name in missing.missing_keys), missing
    return net.eval().to(DEVICE)


def spectrograms(net: SEDNet, batch: int, frames: int = FRAMES) -> Tensor:
    """(batch, frames, D) with the network's statistics."""
    torch.manual_seed(0)
    noise = torch.randn(batch, frames, net.config.features.mel_bands, device=DEVICE)
    return noise * net.std + net.mean


def probabilities(exact: SEDNet, net: Callable[[Tensor], Tensor], dtype: torch.dtype, log_mel: Tensor) -> Tensor:
    """Normalised in float32, run in ``dtype``, as every rival gets it."""
    return torch.sigmoid(net(exact.normalize(log_mel).to(dtype)).float())


@torch.no_grad()
def bound(exact: SEDNet, half: SEDNet, log_mel: Tensor) -> tuple[Tensor, float]:
    """The float32 answer for the first clips, and twice the error of stock PyTorch in ``half``'s precision."""
    few = log_mel[:FEW]
    answer = probabilities(exact, exact, torch.float32, few)
    stock = probabilities(exact, half, torch.bfloat16, few)
    return answer, 2 * distance(stock, answer)


def engine(rows: Rows, quick: bool) -> None:
    """Our engine: right, in batches of unequal lengths too; latency, throughput; wave to events."""
    weights = paper_weights()
    net = plain(weights)
    half = copy.deepcopy(net).bfloat16().to(memory_format=LAST)  # type: ignore[call-overload]
    start = time.perf_counter()
    fast = GpuEngine(weights, device=DEVICE, precision="bf16")
    fast.warmup([(1, FRAMES), (BATCH, FRAMES)])
    torch.cuda.synchronize()
    rows.add("engine", "warm-up", seconds=time.perf_counter() - start, **fast.explain()["reasons"])
    contenders: dict[str, Call] = {OURS: fast.network}
    if not quick:
        for name, options in {
            "engine, bf16, no graph": {"precision": "bf16", "graphs": False},
            "engine, fp16, CUDA graph": {"precision": "fp16"},
            "engine, bf16, CUDA graph, torch's own kernels": {"precision": "bf16", "backend": "reference"},
        }.items():
            other = GpuEngine(weights, device=DEVICE, **options)  # type: ignore[arg-type]
            other.warmup([(1, FRAMES), (BATCH, FRAMES)])
            contenders[name] = other.network
    for batch in (1, BATCH):
        x = spectrograms(net, batch)
        answer, allowed = bound(net, half, x)
        for name, call in contenders.items():
            compare(rows, "engine", name, partial(call, x), answer, allowed, batch)
    unequal(rows, fast, net)
    for batch in (1, BATCH):
        waves(rows, fast, net, half, batch)
    if not quick:
        refusals(rows)


def compare(
    rows: Rows, step: str, name: str, call: Callable[[], Tensor], answer: Tensor, allowed: float, batch: int
) -> None:
    facts: dict[str, Any] = {"batch": batch, "steps": FRAMES}
    rows.compare(
        step, name, call, answer, allowed, part=lambda result: result[:FEW], work={"clips": float(batch)}, **facts
    )


def unequal(rows: Rows, fast: GpuEngine, net: SEDNet) -> None:
    """A batch of unequal lengths gives what each gives alone. No time."""
    clips = [spectrograms(net, 1, frames)[0].cpu().numpy() for frames in LENGTHS]
    pairs = zip(fast.probabilities_of(clips), map(fast.probabilities, clips), strict=True)
    largest = max(float(abs(together - alone).max()) for together, alone in pairs)
    rows.add("engine", "unequal lengths: one batch, one by one", largest=largest, passed=largest <= 1e-2)


def refusals(rows: Rows) -> None:
    """What a capture that is refused leaves behind: no memory. No time."""

    def waits(x: Tensor) -> Tensor:
        return x * float(x.sum())  # the host asks for a number, which no capture allows

    device = Device(DEVICE, exact=False)
    programs = Programs(device.capture())
    held: list[int] = []
    for frames in range(1, 6):
        with device.working():
            programs.capture("refused", waits, torch.ones(1, frames * 2**20, device=DEVICE))
        device.free()
        held.append(torch.cuda.memory_reserved())
    flat = held[-1] <= held[0]
    rows.add("engine", "memory after refused captures", passed=flat and len(programs.refused) == 5, largest=max(held))


def waves(rows: Rows, fast: GpuEngine, net: SEDNet, half: SEDNet, batch: int) -> None:
    f, tensors = net.config.features, paper_weights().tensors
    window, mel = (torch.from_numpy(tensors[f"features.{name}"]).to(DEVICE) for name in ("window", "mel"))
    torch.manual_seed(0)
    sound = 0.1 * torch.randn(batch, SECONDS * f.sample_rate, device=DEVICE)
    log_mel = reference_log_mel(sound[:FEW], window, mel, f.hop, f.fft_length, f.log_floor)
    answer, allowed = bound(net, half, log_mel)

    def detect() -> Tensor:
        return fast.detect(sound).probabilities

    compare(rows, "engine", "wave to events, bf16", detect, answer, allowed, batch)


def network(rows: Rows, quick: bool) -> None:
    """A full batch: our engine and its rivals, whose best should be a compiled trunk and cuDNN's GRU in one graph."""
    contest(rows, "network", paper_weights(), BATCH, quick)


def latency(rows: Rows, quick: bool) -> None:
    """The same with one clip."""
    contest(rows, "latency", paper_weights(), 1, quick)


def shipped(rows: Rows, quick: bool) -> None:
    """The shipped weights, whose 32 channels the Hopper block does not take. Without the compilers."""
    for batch in (BATCH, 1):
        contest(rows, "shipped", Weights.load("rare-events"), batch, True)


def compiled(rows: Rows, quick: bool) -> None:
    """The rivals that compile for minutes, once more with all the time there is, beside our engine."""
    for batch in (BATCH, 1):
        contest(rows, "network" if batch == BATCH else "latency", paper_weights(), batch, quick, only="torch.compile")


def contest(rows: Rows, step: str, weights: Weights, batch: int, quick: bool, only: str = "") -> None:
    """``only``: of the rivals, those with this in their names."""
    net = plain(weights)
    half = copy.deepcopy(net).bfloat16().to(memory_format=LAST)  # type: ignore[call-overload]
    half.gru.flatten_parameters()
    x = spectrograms(net, batch)
    answer, allowed = bound(net, half, x)
    makers: dict[str, Callable[[], Call]] = {OURS: partial(warmed, weights, batch)}
    makers |= {name: make for name, make in rivals(net, half, x, quick).items() if only in name}
    for name, make in makers.items():
        with torch.no_grad(), searching(name != OURS):
            try:
                call = make()
            except Exception as problem:
                text = f"{type(problem).__name__}: {problem}"[:400]
                rows.add(step, name, batch=batch, steps=FRAMES, passed=False, problem=text)
                if LOST.search(text):
                    raise
                continue
            # A rival may err as stock does: twice of it is the bound for all.
            compare(rows, step, name, partial(call, x), answer, allowed, batch)


def rivals(exact: SEDNet, half: SEDNet, x: Tensor, quick: bool) -> dict[str, Callable[[], Call]]:
    """What prepares each of them. Those that compile need minutes, so they come last."""

    def run(net: Callable[[Tensor], Tensor]) -> Call:
        return partial(probabilities, exact, net, torch.bfloat16)

    makers: dict[str, Callable[[], Call]] = {
        "plain, channels-last, CUDA graph": lambda: graphed(run(half), x),
        "plain, channels-last, eager": lambda: run(half),
        "fast layers, CUDA graph": lambda: graphed(run(accelerate(copy.deepcopy(half))), x),
    }
    if not quick:
        compiled = "plain, trunk by torch.compile(max-autotune), cuDNN GRU, one CUDA graph"
        makers[compiled] = lambda: graphed(run(with_compiled_trunk(half)), x)
        makers["plain, torch.compile(max-autotune)"] = lambda: run(torch.compile(half, mode="max-autotune"))
    return makers


def warmed(weights: Weights, batch: int) -> Call:
    fast = GpuEngine(weights, device=DEVICE, precision="bf16")
    fast.warmup([(batch, FRAMES)])
    return fast.network


def with_compiled_trunk(net: SEDNet) -> Call:
    """The convolutions compiled for this shape, the recurrent part by cuDNN, which torch.compile leaves alone."""
    from mtfa_fast.nn.modules import crop_time, pad_time

    def trunk(x: Tensor) -> Tensor:
        return net.flatten(net.attention(net.stem(x)))

    compiled = torch.compile(trunk, mode="max-autotune-no-cudagraphs", dynamic=False)

    def run(x: Tensor) -> Tensor:
        maps = pad_time(x.unsqueeze(1), 8).contiguous(memory_format=LAST)
        return crop_time(net.head(net.gru(compiled(maps))[0]), x.shape[1], dim=1)

    return run


def graphed(call: Call, x: Tensor) -> Call:
    """``call(x)`` captured once; it replays on the same memory, whatever its argument."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call(x)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = call(x)

    def replay(_: Tensor) -> Tensor:
        graph.replay()
        return out

    return replay
