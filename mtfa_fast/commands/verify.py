"""``mtfa-fast verify``: proof that the fast engine computes what the reference computes, on this machine."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from cyclopts import Parameter

from ..extras import needs
from .common import UsageError, count, say, usage_errors
from .options import DeviceOption, PrecisionOption, ThreadsOption, WeightsOption

if TYPE_CHECKING:
    from ..checking.comparison import Check
    from ..checking.verification import Engine
    from ..config import Config
    from ..engine.cpu import Precision
    from ..weights import Weights


def verify(
    weights: WeightsOption,
    recordings: Annotated[
        list[str] | None, Parameter(help="Recordings to compare on; without any, a made sound.")
    ] = None,
    /,
    *,
    seconds: Annotated[float, Parameter(help="Of each recording, from its start.")] = 60.0,
    device: DeviceOption = "cpu",
    precision: PrecisionOption = "auto",
    threads: ThreadsOption = None,
) -> int:
    """Compare the fast engine with the float64 reference, stage by stage: errors, events, seams.

    With --precision auto, every precision that the device has. Exit code 0: everything is within its bound;
    1: something is not.
    """
    if not seconds > 0:
        raise UsageError(f"--seconds: got {seconds:g}, allowed: > 0")
    with usage_errors(), needs("torch", "verify needs"):
        from ..checking import verification
    from ..weights import Weights
    from .progress import bar

    with usage_errors():
        loaded = Weights.load(weights)
        engines: list[Engine] = list(_engines(loaded, device, precision, threads))
        sounds = _sounds(recordings or [], loaded.config, seconds)
    failed = 0
    for engine in engines:
        checks: list[Check] = []
        total = len(sounds) * verification.checks_per_recording(engine)
        with bar() as show:
            show(0, total)
            for check in verification.verify(loaded, engine, sounds):
                checks.append(check)
                show(len(checks), total)
        print(f"{device}, {engine.precision}: {', '.join(engine.explain()['reasons'].values())}")
        failed += _report(checks, len(sounds))
    if failed:
        say(f"NOT EQUAL: {count(failed, 'comparison')} beyond the bound")
    return 1 if failed else 0


def _engines(weights: Weights, device: str, precision: Precision, threads: int | None) -> Iterator[Any]:
    """One for each precision to verify; what ``make_engine`` promises is less than what every engine has."""
    from ..detector import make_engine

    yield make_engine(weights, device=device, precision="fp32" if precision == "auto" else precision, threads=threads)
    if precision == "auto":
        try:
            yield make_engine(weights, device=device, precision="bf16", threads=threads)
        except ValueError as error:  # this CPU has no bf16 products
            say(f"only fp32: {error}")
        if device != "cpu":
            yield make_engine(weights, device=device, precision="fp16", threads=threads)


def _sounds(recordings: list[str], config: Config, seconds: float) -> dict[str, np.ndarray]:
    from ..audio import files as audio
    from ..checking.verification import probe

    if not recordings:
        return {"made sound": probe(config, min(seconds, 8.0))}
    rate = config.features.sample_rate
    last = sys.maxsize if math.isinf(seconds) else max(round(seconds * rate), 1)
    return {path: audio.read_part(path, rate, 0, last) for path in recordings}


def _report(checks: list[Check], recordings: int) -> int:
    """A line for each stage: the recording that came nearest to the bound. How many checks failed."""
    worst: dict[str, Check] = {}
    for check in checks:
        if check.stage not in worst or not check.share <= worst[check.stage].share:  # NaN is the worst
            worst[check.stage] = check
    width = max(len(stage) for stage in worst)
    print(f"  {'stage':<{width}}  {'error':>8}  {'allowed':>8}")
    for stage, check in worst.items():
        verdict = "ok  " if check.passed else "FAIL"
        where = f"  {check.source}" if recordings > 1 else ""
        note = f"  {check.note}" if check.note else ""
        print(
            f"  {stage:<{width}}  {_number(check.error):>8}  {_number(check.bound):>8}  {verdict}{note}{where}".rstrip()
        )
    return sum(not check.passed for check in checks)


def _number(value: float) -> str:
    return "0" if value == 0 else f"{value:.1e}"
