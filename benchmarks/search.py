"""Which settings of each peer are its fastest: all that its documentation offers for one CPU, timed in turns.

python -m benchmarks.run --only search    measures what benchmarks/README.md shows; benchmark.peers uses the fastest
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.contest import Contest
from mtfa_fast.measuring.checks import Part
from mtfa_fast.measuring.contestants import Contestant
from mtfa_fast.measuring.onnx_peers import OnnxRuntime, OpenVino
from mtfa_fast.measuring.quantized_peers import OnnxRuntimeInt8, OpenVinoInt8
from mtfa_fast.measuring.rows import Row
from mtfa_fast.measuring.torch_peers import Compiled, Eager, Plain


class Autocast(Eager):
    """PyTorch in bf16 by its own choice of operations, the recurrent part among them."""

    def _ready(self, module: Plain, part: Part, batch: int, frames: int) -> Callable[[Tensor], Tensor]:
        module.float()
        module.dtype = torch.float32

        def call(x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return module(x).float()

        return call


class Scripted(Eager):
    """PyTorch's older compiler: traced, frozen, optimised for inference (oneDNN's graph fusions)."""

    def _ready(self, module: Plain, part: Part, batch: int, frames: int) -> Callable[[Tensor], Tensor]:
        example = torch.zeros(batch, frames + -frames % 8, self._weights.config.features.mel_bands)
        with torch.no_grad():
            found: Callable[[Tensor], Tensor] = torch.jit.optimize_for_inference(
                torch.jit.freeze(torch.jit.trace(module, example, check_trace=False))
            )
        return found


ONNX_RUNTIME: dict[str, dict[str, Any]] = {
    "defaults": {},
    "no spinning": {"entries": {"session.intra_op.allow_spinning": "0"}},
    "graph optimisation: extended": {"graph_optimization_level": 2},
    "graph optimisation: basic": {"graph_optimization_level": 1},
    "no memory arena": {"enable_cpu_mem_arena": False},
    "parallel execution": {"execution_mode": 1, "inter_op_num_threads": 2},
    "denormals as zero": {"entries": {"session.set_denormal_as_zero": "1"}},
}
OPENVINO: dict[str, dict[str, Any]] = {
    "latency hint": {},
    "throughput hint": {"PERFORMANCE_HINT": "THROUGHPUT"},
    "latency hint, 1 stream": {"NUM_STREAMS": 1},
    "latency hint, 2 streams": {"NUM_STREAMS": 2},
    "latency hint, not pinned": {"ENABLE_CPU_PINNING": False},
    "latency hint, no hyper-threading": {"ENABLE_HYPER_THREADING": False},
    "latency hint, denormals as zero": {"CPU_DENORMALS_OPTIMIZATION": True},
}
OPENVINO_INT8: dict[str, dict[str, Any]] = {
    "zero points for maps (MIXED), rest in float32": {"preset": "MIXED", "rest": "fp32"},
    "no zero points (PERFORMANCE), rest in float32": {"preset": "PERFORMANCE", "rest": "fp32"},
    "zero points for maps (MIXED), rest in bf16": {"preset": "MIXED", "rest": "bf16"},
    "no zero points (PERFORMANCE), rest in bf16": {"preset": "PERFORMANCE", "rest": "bf16"},
}
ONNX_RUNTIME_INT8: dict[str, dict[str, Any]] = {
    "unsigned maps, convolutions and what lies between": {"reduce_range": False},
    "the same, 7-bit weights": {"reduce_range": True},
    "unsigned maps, all operators": {"operators": None, "reduce_range": False},
    "unsigned maps, convolutions alone": {"operators": ["Conv"], "reduce_range": False},
    "signed maps, convolutions and what lies between": {"signed": True, "reduce_range": False},
}
COMPILED: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("fp32", "freezing", {}),
    ("bf16", "freezing", {}),
    ("bf16", "freezing, max-autotune", {"mode": "max-autotune-no-cudagraphs"}),
)


def _named(contestant: Contestant, what: str) -> Contestant:
    contestant.name += f": {what}"
    return contestant


def candidates(contest: Contest) -> dict[str, Iterator[Contestant]]:
    """By library."""
    weights, threads, sounds, compiled = contest.weights, contest.threads, contest.sounds, contest.plan.compiled

    def eager() -> Iterator[Contestant]:
        for precision in ("fp32", "bf16"):
            for channels_last in (True, False):
                layout = "channels-last" if channels_last else "contiguous"
                yield _named(Eager(weights, precision, threads, channels_last=channels_last), layout)
        yield _named(Autocast(weights, "bf16", threads), "channels-last, autocast, recurrent part too")
        yield _named(Scripted(weights, "fp32", threads), "channels-last, TorchScript frozen")
        if compiled:
            for precision, what, options in COMPILED:
                yield _named(Compiled(weights, precision, threads, **options), what)

    def onnxruntime() -> Iterator[Contestant]:
        for what, options in ONNX_RUNTIME.items():
            yield _named(OnnxRuntime(weights, "fp32", threads, **options), what)

        for what, options in ONNX_RUNTIME_INT8.items():
            yield _named(OnnxRuntimeInt8(weights, threads, sounds, **options), what)

    def openvino() -> Iterator[Contestant]:
        for precision in ("fp32", "bf16"):
            for what, options in OPENVINO.items():
                yield _named(OpenVino(weights, precision, threads, **options), what)
        for what, options in OPENVINO_INT8.items():
            yield _named(OpenVinoInt8(weights, threads, sounds, **options), what)

    return {"torch": eager(), "onnxruntime": onnxruntime(), "openvino": openvino()}


def rows(contest: Contest) -> list[Row]:
    """The whole network on a shorter clip, each library's candidates beside each other."""
    plan, found = contest.plan, list[Row]()
    for library, contestants in candidates(contest).items():
        try:
            each = list(contestants)
        except ImportError:
            contest.missing[library] = f"not installed ({library})"
            continue
        found += contest.compare(each, "network", frames=plan.search_frames, seconds=plan.seconds / 8)
    return found
