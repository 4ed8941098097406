"""The peers: the same network and weights in stock PyTorch, torch.compile, ONNX Runtime and OpenVINO.

Each gets what is best for it: norms folded into the convolutions, no padding inside the graph, channels-last,
its recurrent part in float32 where bf16 is slower, the settings that were fastest in a search
(``benchmarks/search.py``, with its results in ``benchmarks/README.md``). A library that is not installed raises
ImportError where it is made.
"""

from __future__ import annotations

from collections.abc import Callable

from ..weights import Weights
from .contestants import Contestant
from .onnx_peers import OnnxRuntime, OpenVino
from .torch_peers import Compiled, Eager


def peers(weights: Weights, threads: int, *, device: str = "cpu") -> tuple[list[Contestant], dict[str, str]]:
    """Every peer that can run here in its best configuration, and why the others cannot."""
    makers: list[tuple[str, Callable[[], Contestant]]] = [
        ("torch fp32", lambda: Eager(weights, "fp32", threads, device=device)),
        ("torch bf16", lambda: Eager(weights, "bf16", threads, device=device)),
        ("torch.compile fp32", lambda: Compiled(weights, "fp32", threads, device=device)),
        ("torch.compile bf16", lambda: Compiled(weights, "bf16", threads, device=device)),
    ]
    if device == "cpu":
        makers += [
            ("ONNX Runtime fp32", lambda: OnnxRuntime(weights, "fp32", threads)),
            ("OpenVINO fp32", lambda: OpenVino(weights, "fp32", threads)),
            ("OpenVINO bf16", lambda: OpenVino(weights, "bf16", threads)),
        ]
    found: list[Contestant] = []
    missing = {}
    for name, make in makers:
        try:
            found.append(make())
        except ImportError as error:
            missing[name] = f"not installed ({error.name})"
    return found, missing
