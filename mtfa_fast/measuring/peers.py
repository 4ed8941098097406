"""The peers: the same network and weights in stock PyTorch, torch.compile, ONNX Runtime and OpenVINO, also in 8 bits.

Each gets what is best for it: norms folded into the convolutions, no padding inside the graph, channels-last,
its recurrent part in float32 where bf16 is slower, the settings that were fastest in a search
(``benchmarks/search.py``, with its results in ``benchmarks/README.md``). A library that is not installed raises
ImportError where it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..weights import Weights
from . import calibration
from .contestants import Contestant
from .onnx_peers import OnnxRuntime, OpenVino
from .quantized_peers import OnnxRuntimeInt8, OpenVinoInt8
from .torch_peers import Compiled, Eager


def peers(
    weights: Weights, threads: int, *, device: str = "cpu", sounds: Sequence[np.ndarray] | None = None
) -> tuple[list[Contestant], dict[str, str]]:
    """Every peer that can run here in its best configuration, and why the others cannot.

    ``sounds``: what those in 8 bits choose their steps on, raw log-mel (T, D); default ``calibration.sounds``.
    """
    makers: list[tuple[str, Callable[[], Contestant]]] = [
        ("torch fp32", lambda: Eager(weights, "fp32", threads, device=device)),
        ("torch bf16", lambda: Eager(weights, "bf16", threads, device=device)),
        ("torch.compile fp32", lambda: Compiled(weights, "fp32", threads, device=device)),
        ("torch.compile bf16", lambda: Compiled(weights, "bf16", threads, device=device)),
    ]
    if device == "cpu":
        heard = calibration.sounds(weights) if sounds is None else sounds
        makers += [
            ("ONNX Runtime fp32", lambda: OnnxRuntime(weights, "fp32", threads)),
            ("OpenVINO fp32", lambda: OpenVino(weights, "fp32", threads)),
            ("OpenVINO bf16", lambda: OpenVino(weights, "bf16", threads)),
            ("ONNX Runtime int8", lambda: OnnxRuntimeInt8(weights, threads, heard)),
            ("OpenVINO int8", lambda: OpenVinoInt8(weights, threads, heard)),
        ]
    found: list[Contestant] = []
    missing = {}
    for name, make in makers:
        try:
            found.append(make())
        except ImportError as error:
            missing[name] = f"not installed ({error.name})"
    return found, missing
