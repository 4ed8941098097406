"""No time without a check: every contestant's answer against the float64 reference, in the same process."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from ..checking.comparison import (
    INT8_PROBABILITY_BOUND,
    LAST_PLACE,
    PROBABILITY_PERCENTILE,
    RECURRENT_FLOOR,
    Check,
    compare,
    relative_error,
)
from ..checking.reference import PRECISIONS, Reference
from ..weights import Weights
from .networks import noise

Part = Literal["network", "trunk", "recurrent"]
PARTS: tuple[Part, ...] = ("network", "trunk", "recurrent")
PERIOD = 1504  # frames, a multiple of 8 and far longer than what a trunk's frame can see


class Refused(Exception):
    """The contestant computes something else; its time is worth nothing. The message has error and bound."""


class Oracle:
    """Inputs of any batch and length with their exact answers, each computed once.

    A batch repeats two different clips, and a clip beyond ``PERIOD`` frames repeats itself, so that the exact answer
    to a large input costs little: a trunk's answer repeats likewise, apart from both ends.
    """

    def __init__(self, weights: Weights, seed: int = 0) -> None:
        self.weights = weights
        self._references = {precision: Reference(weights, precision) for precision in PRECISIONS}
        self._clips = noise(weights, 2, PERIOD, seed)
        self._answers: dict[tuple[Part, int, int, str], np.ndarray] = {}

    def reference(self, precision: str) -> Reference:
        """The plain network in one of ``reference.PRECISIONS``."""
        return self._references[precision]

    def input(self, part: Part, batch: int, frames: int) -> np.ndarray:
        """Raw log-mel (B, T, D); for the recurrent part pooled vectors (B, T, I), T a multiple of 8."""
        if batch < 1 or frames < 1:
            raise ValueError(f"batch, frames: got {batch}, {frames}, allowed: >= 1")
        return np.stack([self._one_input(part, clip % 2, frames) for clip in range(batch)])

    def check(self, part: Part, got: np.ndarray, frames: int, yardstick: str) -> Check:
        """The worst clip of an answer (B, T, ...) to :meth:`input`, against twice the error of ``yardstick``.

        ``"int8"``, which no stock arithmetic errs like, is held to the bound that ``verification`` has for it: of
        probabilities, of a trunk's vectors those that the exact recurrent part makes of them.
        Or against the floor of what comes from a recurrent part (see ``comparison``). Refused where a shape differs.
        """
        checks, floor = [], LAST_PLACE if part == "trunk" else RECURRENT_FLOOR
        for clip, answer in enumerate(got):
            exact = self._answer(part, clip % 2, frames, "fp64")
            if answer.shape != exact.shape:
                raise Refused(f"answers with shape {answer.shape}, not {exact.shape}")
            if yardstick == "int8" and part != "recurrent":
                relative = relative_error(answer, exact)
                if part == "trunk":
                    answer, exact = (self._references["fp64"].recurrent(vectors) for vectors in (answer, exact))
                off = float(np.percentile(np.abs(answer - exact), PROBABILITY_PERCENTILE))
                checks.append(Check(part, f"clip {clip}", off, INT8_PROBABILITY_BOUND, relative=relative))
                continue
            stock = self._answer(part, clip % 2, frames, "fp32" if yardstick == "int8" else yardstick)
            checks.append(compare(part, f"clip {clip}", answer, exact, stock, floor))
        return max(checks, key=lambda check: np.inf if np.isnan(check.error) else check.error)

    def _one_input(self, part: Part, clip: int, frames: int) -> np.ndarray:
        if part == "recurrent":
            return self._answer("trunk", clip, frames, "fp64").astype(np.float32)
        whole = self._clips[clip]
        return np.concatenate([whole] * (-(-frames // PERIOD)))[:frames]

    def _answer(self, part: Part, clip: int, frames: int, precision: str) -> np.ndarray:
        key = (part, clip, frames, precision)
        if key not in self._answers:
            self._answers[key] = self._compute(part, clip, frames, self._references[precision])
        return self._answers[key]

    def _compute(self, part: Part, clip: int, frames: int, reference: Reference) -> np.ndarray:
        if part == "recurrent":
            return reference.recurrent(self._one_input(part, clip, frames))
        periods, rest = divmod(frames, PERIOD)
        if periods <= 3 or rest:
            given = self._one_input("network", clip, frames)
            return reference.vectors(given) if part == "trunk" else reference.probabilities(given)
        # First, middle and last period of three are those of any number.
        three = reference.vectors(np.concatenate([self._clips[clip]] * 3))
        first, middle, last = np.split(three, 3)
        vectors = np.concatenate([first, *[middle] * (periods - 2), last])
        return vectors if part == "trunk" else reference.recurrent(vectors)


def require(check: Check) -> Check:
    """``check`` itself if it passed; Refused otherwise."""
    if not check.passed:
        raise Refused(f"error {check.error:.2g} beyond the bound {check.bound:.2g} ({check.stage}, {check.source})")
    return check


def to_dict(check: Check) -> dict[str, Any]:
    return {"error": check.error, "bound": check.bound, "passed": check.passed}
