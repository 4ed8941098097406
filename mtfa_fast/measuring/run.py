"""The user's benchmark: our engine on the user's weights, beside the peers if wanted, with the machine's limits."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ..config import Config
from ..engine.cpu import Precision
from ..engine.tiles import padded
from ..weights import Weights
from . import machine
from .checks import Oracle, Part
from .contestants import Contestant, Ours
from .peers import peers
from .rows import Row, compare
from .text import disturbance, is_ours, limits, table

MOST_ROUNDS, PART_ROUNDS = 1000, 5


@dataclass(frozen=True)
class Report:
    """``rows``: the whole network; ``parts``: our trunk and recurrent part; ``missing``: peers, and why not."""

    config: Config = field(repr=False)
    environment: dict[str, Any]
    rows: list[Row]
    parts: list[Row]
    missing: dict[str, str]

    @property
    def right(self) -> bool:
        """Whether all of ours computed what the reference computes."""
        return all(row.times is not None for row in [*self.rows, *self.parts] if is_ours(row))

    def text(self) -> Iterator[str]:
        yield from table(self.rows, self.config)
        for name, reason in self.missing.items():
            yield f"  {name}: {reason}"
        yield from limits([*self.rows, *self.parts], self.environment["rooflines"], self.config)

    def json(self) -> str:
        rows = [row.to_dict() for row in (*self.rows, *self.parts)]
        return json.dumps(self.environment | {"rows": rows, "missing": self.missing}, indent=1)

    def warning(self) -> str:
        """That other processes disturbed, or nothing."""
        return disturbance([*self.rows, *self.parts])


def engines(weights: Weights, precision: Precision, threads: int, device: str = "cpu") -> list[Contestant]:
    """Ours in one precision, or with ``"auto"`` in each that device and weights have.

    int8 needs a CPU and calibrated steps. Raises as ``detector.make_engine``.
    """
    if precision != "auto":
        return [Ours(weights, precision, threads, device=device)]
    found: list[Contestant] = []
    with suppress(ValueError):  # no bf16 products here; whatever else is wrong, fp32 meets it, too
        found.append(Ours(weights, "bf16", threads, device=device))
    if device != "cpu":
        found.append(Ours(weights, "fp16", threads, device=device))
    found.append(Ours(weights, "fp32", threads, device=device))
    if device == "cpu" and weights.steps:
        found.append(Ours(weights, "int8", threads, device=device))
    return found


def run(
    weights: Weights,
    ours: list[Contestant],
    *,
    device: str,
    threads: int,
    batch: int,
    frames: int,
    with_peers: bool,
    seconds: float,
    progress: Callable[[float], None],
) -> Report:
    """Check, then time for ``seconds``, the network of ``weights`` on ``batch`` clips of ``frames`` frames."""
    on_cpu = device == "cpu"
    environment = machine.environment(threads) | {
        "rooflines": machine.rooflines(threads) if on_cpu else machine.gpu_rooflines(device)
    }
    others, missing = peers(weights, threads, device=device) if with_peers else ([], {})
    oracle = Oracle(weights)
    rows = compare(
        [*ours, *others],
        oracle,
        "network",
        batch=batch,
        frames=frames,
        rounds=MOST_ROUNDS,
        seconds=seconds,
        progress=progress,
    )
    parts: list[Row] = []
    names: tuple[Part, ...] = ("trunk", "recurrent")
    for part in names if on_cpu else ():  # of one clip; the recurrent part sees the padded length
        length = padded(frames) if part == "recurrent" else frames
        parts += compare(ours, oracle, part, frames=length, rounds=PART_ROUNDS)
    return Report(weights.config, environment, rows, parts, missing)
