"""One answer against the exact one, and the bound that it is held to: twice what stock PyTorch errs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

TIMES_STOCK = 2.0  # an engine's error, in units of stock PyTorch's
LAST_PLACE = 2.0**-23  # of float32: answers are float32, and stock PyTorch can be luckier than that on a short clip
# Of probabilities that the recurrent part made: where stock PyTorch was lucky, sound engines needed up to 4.8e-7
# (docs/numerics.md).
RECURRENT_FLOOR = 5 * LAST_PLACE
# Of probabilities, at this percentile of the frames: the whole network in float32 or bf16, and with 8-bit maps, which
# error rate and F1 are there to judge.
PROBABILITY_PERCENTILE = 99.9
PROBABILITY_BOUND, INT8_PROBABILITY_BOUND = 0.01, 0.15


@dataclass(frozen=True)
class Check:
    """One comparison: it passes where ``error`` is a number no greater than ``bound``.

    ``relative``: the error as of :func:`relative_error`, where ``error`` is measured otherwise.
    """

    stage: str
    source: str  # the recording's name
    error: float
    bound: float
    note: str = ""
    relative: float | None = None

    @property
    def passed(self) -> bool:
        return self.error <= self.bound  # False for NaN

    @property
    def share(self) -> float:
        """Of the bound; above 1 the check fails."""
        if self.bound == 0:
            return 0.0 if self.error == 0 else math.inf
        return self.error / self.bound


def relative_error(got: np.ndarray, exact: np.ndarray) -> float:
    """Root mean square of the difference, in units of ``exact``'s; NaN if anything is not finite."""
    if got.shape != exact.shape:
        raise ValueError(f"got: shape {got.shape}, allowed: {exact.shape}")
    scale = float(np.sqrt(np.mean(np.square(exact))))
    return float(np.sqrt(np.mean(np.square(got - exact)))) / (scale or 1.0)


def drift(got: np.ndarray, exact: np.ndarray) -> float:
    """By how much ``got`` is too large as a whole: |<got, exact> / <exact, exact> - 1|."""
    power = float(np.vdot(exact, exact))
    return abs(float(np.vdot(got, exact)) / power - 1) if power else 0.0


def compare(
    stage: str, source: str, got: np.ndarray, exact: np.ndarray, stock: np.ndarray, floor: float = LAST_PLACE
) -> Check:
    """The root-mean-square error against twice stock PyTorch's, or ``floor`` if that is more or stock overflows."""
    usual = relative_error(stock, exact)
    bound = max(TIMES_STOCK * usual, floor) if math.isfinite(usual) else floor
    return Check(stage, source, relative_error(got, exact), bound)
