"""``mtfa-fast bench``: how fast detection is on this machine, beside others if wanted, and what limits it."""

from __future__ import annotations

import math
from typing import Annotated

from cyclopts import Parameter

from ..arguments import require_int
from ..extras import needs
from .common import UsageError, say, usage_errors
from .options import DeviceOption, PrecisionOption, ThreadsOption, WeightsOption


def bench(
    *,
    weights: WeightsOption = "rare-events",
    device: DeviceOption = "cpu",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
    batch: Annotated[int, Parameter(alias="-b", help="Clips at a time.")] = 1,
    clip: Annotated[float, Parameter(help="Seconds of audio of each clip.")] = 30.0,
    peers: Annotated[
        bool, Parameter(help="Beside PyTorch, torch.compile, ONNX Runtime and OpenVINO, these in 8 bits, too.")
    ] = False,
    seconds: Annotated[float, Parameter(help="To spend on timing, once everything is compiled and checked.")] = 15.0,
    json: Annotated[bool, Parameter(help="Everything that was measured, as JSON on standard output.")] = False,
) -> int:
    """Time the network from spectrogram to probabilities, and say what limits it.

    Every answer is compared with the float64 reference first: what computes something else gets no time. Exit code
    0: all of ours were right; 1: one was not.
    """
    for name, value in (("--batch", batch), ("--clip", clip), ("--seconds", seconds)):
        if not 0 < value < math.inf:
            raise UsageError(f"{name}: got {value:g}, allowed: > 0")
    with usage_errors(), needs("torch", "bench needs"):
        from ..measuring.run import engines, run
    from .. import _core
    from ..weights import Weights
    from .progress import bar

    with usage_errors():
        if threads is not None:
            require_int("threads", threads, 1)
        count = threads or _core.default_threads()
        loaded = Weights.load(weights)
        ours = engines(loaded, precision, count, device)
    features = loaded.config.features
    with bar() as show:
        show(0, 1)
        report = run(
            loaded,
            ours,
            device=device,
            threads=count,
            batch=batch,
            frames=features.frame_count(round(clip * features.sample_rate)),
            with_peers=peers,
            seconds=seconds,
            progress=lambda share: show(share, 1),
        )
    print(report.json() if json else "\n".join(report.text()))
    if warning := report.warning():
        say(warning)
    if not report.right:
        say("NOT EQUAL: the fast path is wrong on this machine; mtfa-fast verify shows where")
    return 0 if report.right else 1
