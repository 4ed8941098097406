"""Kernels and network on a GPU: answers, checks and times. Called step by step by benchmarks/gpu.sh.

    python -m benchmarks.gpu_kernels STEP --out FILE.jsonl [--quick]

No row has a time whose result was not compared with float64 (the network's: float32) in the same process.
"""

from __future__ import annotations

import argparse
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.gpu_gru import gru, gru_module
from benchmarks.gpu_network import compiled, engine, latency, network, shipped
from benchmarks.gpu_rows import DEVICE, LOST, Rows, searching, times
from benchmarks.gpu_summary import rows_of
from mtfa_fast import ops
from mtfa_fast.backends.cuda import library
from mtfa_fast.backends.cuda import residual_block as cuda_block
from mtfa_fast.backends.support import Support
from mtfa_fast.ops._dispatch import Table

FRAMES, BANDS, CHANNELS = 1504, 128, 64  # the 30 s clip, padded to a multiple of 8
BATCH = 32
COPIED, SQUARE = 2**30, 8192  # bytes and side of what the rooflines are of
LAST = torch.channels_last

CONTEXT_LOST = 70  # exit code, which gpu.sh knows
TRIAL = "residual block, tried in a child process"

Call = Callable[[], Tensor]


def probe(rows: Rows, quick: bool) -> None:
    """Does the residual block work here; does a wgmma descriptor that starts dx rows into the swizzle pattern?

    The block needs base offset 0 to be right. The other base offsets tell what the hardware does if it is not.
    """
    # The first thing of all: in exclusive-process mode a child has the device only as long as this process has not.
    answer = cuda_block._trial(0)
    rows.add("probe", TRIAL, passed=answer.ok, reason=answer.reason)
    generator = torch.Generator().manual_seed(0)
    w = torch.randint(-8, 9, (64, 64), generator=generator).div(8).bfloat16()
    x = torch.randint(-8, 9, (136, 64), generator=generator).div(8).bfloat16()
    weights = torch.zeros(64, 64, 3, 3, dtype=torch.bfloat16)
    weights[..., 0, 0] = w
    bias, on_device = torch.zeros(64, device=DEVICE).bfloat16(), weights.to(DEVICE)
    words = cuda_block.pack(on_device, bias, on_device, bias)[: 16 * 128].clone()
    cases = [(dx, 0) for dx in range(9)] + [(dx, offset) for dx in range(1, 8) for offset in sorted({dx, 8 - dx})]
    for dx, base_offset in cases:
        out = torch.full((64, 128), torch.nan, device=DEVICE)
        library.launch("mtfa_shifted_descriptor", out, words, x.to(DEVICE), out, dx, base_offset)
        wanted = w.double() @ x[dx : dx + 128].double().T  # exact in float32 too
        wrong = int((out.cpu().double() != wanted).sum())
        rows.add("probe", f"dx {dx}, base offset {base_offset}", wrong=wrong, of=wanted.numel())


def rooflines(rows: Rows, quick: bool) -> None:
    source = torch.zeros(COPIED, dtype=torch.uint8, device=DEVICE)
    target = torch.empty_like(source)
    copied = times(partial(target.copy_, source))
    rows.add("roofline", f"copy {COPIED >> 20} MiB", **copied, **{"GB/s": 2 * COPIED / copied["ms"] / 1e6})
    a, b = (torch.randn(SQUARE, SQUARE, device=DEVICE).bfloat16() for _ in range(2))
    multiplied = times(partial(torch.matmul, a, b))
    rows.add("roofline", f"bf16 matmul {SQUARE}", **multiplied, **{"TFLOP/s": 2 * SQUARE**3 / multiplied["ms"] / 1e9})


def block_weights() -> list[Tensor]:
    torch.manual_seed(0)
    weights = (torch.randn(64, 64, 3, 3).div(24).bfloat16().to(DEVICE, memory_format=LAST) for _ in range(2))
    return [t for w in weights for t in (w, torch.randn(64).bfloat16().to(DEVICE))]


def maps(batch: int, steps: int, bands: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(batch, CHANNELS, steps, bands, device=DEVICE, dtype=dtype).to(memory_format=LAST)


def block(rows: Rows, quick: bool) -> None:
    """The residual block at the network's four scales: one kernel, Triton's two, cuDNN's chain."""
    w1, b1, w2, b2 = weights = block_weights()

    def chain(x: Tensor) -> Tensor:
        y = torch.relu_(F.conv2d(x, w1, b1, padding=1))
        return torch.relu_(F.conv2d(y, w2, b2, padding=1).add_(x))

    shapes = [(1, 1), (BATCH, 1)]
    if not quick:
        shapes += [(BATCH, 2), (BATCH, 4), (BATCH, 8), (1, 2), (1, 8)]
    for batch, scale in shapes:
        x = maps(batch, FRAMES // scale, BANDS // scale)
        # The last rows of the last clip, with both edges along D; the crop's own first two rows lack neighbours.
        crop, (v1, c1, v2, c2) = x[-1:, :, -72:].cpu().double(), (w.cpu().double() for w in weights)
        middle = F.relu(F.conv2d(crop, v1, c1, padding=1))
        reference = F.relu(F.conv2d(middle, v2, c2, padding=1) + crop)[:, :, 2:].to(DEVICE)
        kept = reference.shape[2]
        calls: dict[str, Call] = {
            "ops.residual_block, triton": partial(ops.residual_block, x, *weights, backend="triton"),
            "cuDNN conv, bias, relu, conv, bias, add, relu": partial(chain, x),
            "ops.residual_block, cuda": partial(ops.residual_block, x, *weights, backend="cuda"),
        }
        if cuda_block.supports(x, *weights).ok:  # what was not tried with success could end this process
            packed = cuda_block.pack(*weights)
            calls["one kernel, weights packed before"] = partial(cuda_block.run_packed, x, packed)
            for n in (12, 24, 47, 94, 188, 376) if scale == 1 and not quick else ():  # how well the plan chooses
                calls[f"one kernel, {n} rows a block"] = partial(cuda_block.run_packed, x, packed, shape=(128, n))
        facts: dict[str, Any] = {"batch": batch, "steps": x.shape[2], "bands": x.shape[3], "dtype": "torch.bfloat16"}
        work = {"flop": 2.0 * 2 * 9 * CHANNELS * x.numel(), "bytes": 2.0 * 2 * x.numel()}
        with torch.no_grad():
            for name, call in calls.items():
                last = lambda r, n=kept: r[-1:, :, -n:]  # noqa: E731
                rows.compare("block", name, call, reference, 5e-3, part=last, work=work, **facts)


def conv(rows: Rows, quick: bool) -> None:
    """cuDNN's single convolution and what its neighbours add. The baseline itself: nothing to check it against."""
    w, bias, _, _ = block_weights()
    for batch in (1, BATCH):
        x = maps(batch, FRAMES, BANDS)

        def add_relu(x: Tensor) -> Tensor:
            return torch.relu_(F.conv2d(x, w, bias, padding=1).add_(x))

        calls: dict[str, Call] = {
            "conv": partial(F.conv2d, x, w, padding=1),
            "conv, bias": partial(F.conv2d, x, w, bias, padding=1),
            "conv, bias, add, relu": partial(add_relu, x),
        }
        for name, call in calls.items():
            with torch.no_grad():
                timed = times(call)
            rate = 2 * 9 * CHANNELS * x.numel() / timed["ms"] / 1e9
            rows.add("conv", f"cuDNN {name}", batch=batch, dtype="torch.bfloat16", **timed, **{"TFLOP/s": rate})


def pointwise(rows: Rows, quick: bool) -> None:
    """The memory-bound kernels on 8 full-size clips; bytes are those that must move, each once."""
    for dtype, bound in ((torch.bfloat16, 3e-3), (torch.float32, 1e-6)):
        torch.manual_seed(0)
        skip, features = maps(8, FRAMES, BANDS, dtype), maps(8, FRAMES, BANDS, dtype)
        low = maps(8, FRAMES // 2, BANDS // 2, dtype)
        up = F.interpolate(low[:1].double(), scale_factor=2, mode="nearest") + skip[:1].double()
        size = float(skip.numel() * skip.element_size())
        first = features[:1].double()
        cases = {
            "upsample_add": (partial(ops.upsample_add, low, skip), up, 2.25),
            "attention_gate": (
                partial(ops.attention_gate, skip, features), (1 + torch.sigmoid(skip[:1].double())) * first, 3.0,
            ),
            "upsample_add_gate": (
                partial(ops.upsample_add_gate, low, skip, features), (1 + torch.sigmoid(up)) * first, 3.25,
            ),
        }  # fmt: skip
        for name, (call, reference, moved) in cases.items():
            for backend in ("triton", "reference"):
                rows.compare(
                    "pointwise", f"{name}, {backend}", partial(call, backend=backend), reference, bound,
                    part=lambda r: r[:1], work={"bytes": moved * size}, batch=8, dtype=str(dtype),
                )  # fmt: skip
    active = torch.rand(64, FRAMES, 3, device=DEVICE) > 0.5
    wanted = ops.median_filter(active.cpu(), 27, backend="reference").to(DEVICE)
    for backend in ("triton", "reference"):
        call = partial(ops.median_filter, active, 27, backend=backend)
        rows.compare("pointwise", f"median_filter of bool, {backend}", call, wanted, 0.0, batch=64)


def ends(rows: Rows, quick: bool) -> None:
    """Stem, pooling and the layer's end on 8 full-size clips: Triton's against torch's."""
    torch.manual_seed(0)
    x = torch.randn(8, FRAMES, BANDS, device=DEVICE)
    mean, std = torch.randn(BANDS, device=DEVICE), torch.rand(BANDS, device=DEVICE) + 0.5
    weight, bias = torch.randn(CHANNELS, 1, 3, 3, device=DEVICE), torch.randn(CHANNELS, device=DEVICE)
    weight = weight.flatten(1).t().contiguous().t().unflatten(1, (1, 3, 3))  # in memory as the engine's
    args = (x, mean, std, weight, bias)
    exact = Table("stem").choose("reference", *args, torch.float64)(
        *(a[:1].double() for a in args[:1]), *(a.double() for a in args[1:]), torch.float64
    )
    large = maps(8, FRAMES, BANDS)
    size = 2.0 * large.numel()
    for backend in ("triton", "reference"):
        stem = partial(Table("stem").choose(backend, *args, torch.bfloat16), *args, torch.bfloat16)
        rows.compare("ends", f"stem, {backend}", stem, exact, 3e-3, part=lambda r: r[:1], work={"bytes": size}, batch=8)
        for down, across in ((2, 2), (1, 8)):
            wanted = F.max_pool2d(large[:1].double(), (down, across))
            pool = partial(Table("max_pool").choose(backend, large, down, across), large, down, across)
            moved = {"bytes": size * (1 + 1 / (down * across))}
            name = f"max_pool {down} x {across}, {backend}"
            rows.compare("ends", name, pool, wanted, 0.0, part=lambda r: r[:1], work=moved, batch=8)
    low, features = maps(8, FRAMES // 2, BANDS // 2), maps(8, FRAMES, BANDS)
    projection = (torch.randn(CHANNELS, CHANNELS, device=DEVICE) / 8).bfloat16(), bias.bfloat16()
    given = (low, large, features, *projection, 8)
    wanted = Table("gated_pool").choose("reference", *given)(
        *(x[:1].double() for x in given[:3]), *(x.double() for x in projection), 8
    )
    for backend in ("triton", "reference"):
        end = partial(Table("gated_pool").choose(backend, *given), *given)
        rows.compare(
            "ends", f"gated_pool, {backend}", end, wanted, 1e-2, part=lambda r: r[:1], work={"bytes": 2.375 * size},
            batch=8,
        )  # fmt: skip


FALSE_ALARMS = "compute-sanitizer has reported wgmma's shared memory falsely before: believe it with a wrong result"


def small(rows: Rows, quick: bool) -> None:
    """Every CUDA kernel once on small odd shapes, for compute-sanitizer. No times."""
    torch.manual_seed(0)
    for hidden in (64, 128, 40):
        x, module = torch.randn(2, 9, 5, device=DEVICE, requires_grad=True), gru_module(5, hidden).to(DEVICE)
        out, _ = ops.bigru(x, [w for layer in module.all_weights for w in layer], backend="cuda")
        out.sum().backward()
        assert x.grad is not None and x.grad.isfinite().all()
    weights = block_weights()
    answer = cuda_block.supports(maps(1, 1, 1), *weights)
    if answer.ok:
        for steps, bands, width in ((9, 128, 128), (5, 70, 64), (7, 33, 32)):
            cuda_block.run_packed(maps(2, steps, bands), cuda_block.pack(*weights), shape=(width, 3))
    torch.cuda.synchronize()
    rows.add("small", "all CUDA kernels ran", passed=True, residual_block=answer.reason or "ran", reason=FALSE_ALARMS)


KERNELS = (probe, rooflines, conv, gru, block, pointwise, ends, small)
STEPS = {step.__name__: step for step in (*KERNELS, engine, network, latency, shipped, compiled)}


def remember_trial(path: Path, refused: bool) -> None:
    """What the probe said of the Hopper block holds for the steps behind it, each a process: a hang is waited for once.

    ``refused``: the block is left out whatever was said.
    """
    said = [row for row in (rows_of(path) if path.exists() else []) if row["name"] == TRIAL]
    if refused:
        answer = Support.no("left out, because it ended an earlier step")
    elif said:
        answer = Support.yes() if said[-1]["passed"] else Support.no(said[-1]["reason"])
    else:
        return
    cuda_block._trial = lambda device: answer  # type: ignore[assignment]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=STEPS)
    parser.add_argument("--out", type=Path, required=True, help="file that rows are appended to")
    parser.add_argument("--quick", action="store_true", help="fewer shapes")
    parser.add_argument("--no-hopper-block", action="store_true", help="as if its kernel did not run here")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("gpu_kernels.py: no CUDA GPU here")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if arguments.step != "probe":
        remember_trial(arguments.out, arguments.no_hopper_block)
    try:
        with searching(arguments.step in ("conv", "block")):  # what cuDNN does there is a rival
            STEPS[arguments.step](Rows(arguments.out), arguments.quick)
    except Exception as problem:
        if not LOST.search(str(problem)):
            raise
        traceback.print_exc()
        raise SystemExit(CONTEXT_LOST) from None


if __name__ == "__main__":
    main()
