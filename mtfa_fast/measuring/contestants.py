"""What takes part in a comparison: a name, a precision, and for a part and a shape a function of arrays."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np

from .. import __version__, _core
from ..checking.comparison import Check
from ..checking.int8 import check_convolutions
from ..checking.verification import SCALE_FRAMES, check_network, check_parts, check_stages, yardstick
from ..detector import make_engine
from ..engine.cpu import Precision
from ..engine.tiles import STEP, padded
from ..weights import Weights
from .checks import Oracle, Part

Call = Callable[[np.ndarray], np.ndarray]


class Contestant(Protocol):
    """``prepare(part, batch, frames)``: everything that can be done before the data is there, then the call to time.

    The call takes float32 and answers in any float: ``"network"`` raw log-mel (B, T, D) -> probabilities (B, T, K),
    ``"trunk"`` raw log-mel -> pooled vectors (B, T padded to a multiple of 8, I), ``"recurrent"`` pooled vectors
    (B, T, I) -> probabilities. ``version`` names the library, ``settings`` what was chosen in it.

    ``yardstick``: the one of ``reference.PRECISIONS`` that the answers may err twice as much as. ``examine``: what
    must hold beside the answers themselves before any of them is timed.
    """

    name: str
    precision: str
    yardstick: str
    version: str
    settings: str

    def prepare(self, part: Part, batch: int, frames: int) -> Call: ...
    def examine(self, oracle: Oracle) -> Iterable[Check]: ...


class Ours:
    """Our engine for a device. ``isa`` as of MTFA_FAST_ISA; default: what the environment or the machine chooses.

    Only the C++ engine can show the parts of the network. Raises as ``detector.make_engine``.
    """

    def __init__(
        self, weights: Weights, precision: Precision, threads: int, *, isa: str | None = None, device: str = "cpu"
    ) -> None:
        on_cpu = device == "cpu"
        with _forced(isa):
            # Any: make_engine promises less than what both engines have.
            engine: Any = make_engine(weights, device=device, precision=precision, threads=threads if on_cpu else None)
        self.engine = engine
        self.precision: str = engine.precision
        self.yardstick = yardstick(engine)
        self.name = f"mtfa-fast {self.precision}" + (f" {isa}" if isa else "")
        self.version = f"mtfa-fast {__version__}"
        products = f", products by {_core.int8_products(engine.isa)}" if self.precision == "int8" else ""
        on_this = f"{engine.isa}{products}, {threads} threads" if on_cpu else ""
        self.settings = on_this or str(engine.explain()["reasons"]["device"])
        self._inputs = weights.config.gru_inputs
        self._examined: list[Check] | None = None

    def prepare(self, part: Part, batch: int, frames: int) -> Call:
        engine = self.engine
        if part == "network":
            call: Call = engine.probabilities
            return call
        if part == "trunk":
            # With the recurrent part's first input projection, which the engine never runs apart from the trunk.
            return lambda x: np.stack([engine.tap("gate", clip).reshape(-1, self._inputs) for clip in x])
        return lambda vectors: np.stack([engine.recurrent(clip) for clip in vectors])

    def examine(self, oracle: Oracle) -> Iterable[Check]:
        """Part by part, because bf16's noise in the answers could hide a kernel that is 1 % wrong."""
        if self._examined is None:
            self._examined = list(self._examine(oracle))
        return self._examined

    def _examine(self, oracle: Oracle) -> Iterator[Check]:
        clip = oracle.input("network", 1, SCALE_FRAMES)[0]
        if self.precision == "int8":
            yield check_convolutions(self.engine, oracle.weights, self.name, clip)
            yield from check_parts(oracle.reference("fp64"), self.engine, self.name, clip)
            return
        exact, stock = oracle.reference("fp64"), oracle.reference(self.yardstick)
        yield from check_stages(exact, stock, self.engine, self.name, clip)
        yield from check_parts(exact, self.engine, self.name, clip)
        yield from check_network(exact, stock, self.engine, self.name, clip, self.engine.probabilities(clip))


class Chain:
    """The trunk of one contestant and the recurrent part of another: the best that a user can put together."""

    def __init__(self, trunk: Contestant, recurrent: Contestant) -> None:
        self._trunk, self._recurrent = trunk, recurrent
        self.name = f"{trunk.name} + {recurrent.name}"
        both = trunk.precision, recurrent.precision
        self.precision = next(precision for precision in ("int8", "bf16", "fp32") if precision in both)
        self.yardstick = self.precision
        self.version = f"{trunk.version}; {recurrent.version}"
        self.settings = f"trunk: {trunk.settings}; recurrent part: {recurrent.settings}"

    def prepare(self, part: Part, batch: int, frames: int) -> Call:
        if part != "network":
            raise ValueError(f"part: got {part!r}, allowed: network")
        trunk = self._trunk.prepare("trunk", batch, frames)
        recurrent = self._recurrent.prepare("recurrent", batch, padded(frames))
        return lambda log_mel: recurrent(trunk(log_mel))[:, :frames]

    def examine(self, oracle: Oracle) -> Iterable[Check]:
        return ()


def with_padding(call: Call, part: Part, frames: int) -> Call:
    """The last frame is repeated up to a multiple of 8, and what the network makes of that is cut off, as in ours."""
    missing = -frames % STEP
    if missing == 0:
        return call
    return lambda array: call(np.pad(array, ((0, 0), (0, missing), (0, 0)), mode="edge"))[
        :, : None if part == "trunk" else frames
    ]


@contextmanager
def _forced(isa: str | None) -> Iterator[None]:
    before = os.environ.get("MTFA_FAST_ISA")
    if isa:
        os.environ["MTFA_FAST_ISA"] = isa
    try:
        yield
    finally:
        if isa:
            os.environ.pop("MTFA_FAST_ISA")
            if before is not None:
                os.environ["MTFA_FAST_ISA"] = before
