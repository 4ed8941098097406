"""detect_runs(probabilities, thresholds, windows): frame probabilities to the frames of events, on the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ._contract import FLOATS, refusal
from ._dispatch import Table
from ._library import batched, define, not_differentiable, refuse_forward_mode
from .median_filter import require_window

SCHEMA = 'detect_runs(Tensor probabilities, float[] thresholds, int[] windows, str backend="auto") -> (Tensor, Tensor)'


def _check(probabilities: Tensor, thresholds: Sequence[float], windows: Sequence[int]) -> None:
    if probabilities.ndim < 2 or probabilities.shape[-2] < 1 or probabilities.shape[-1] < 1:
        raise refusal("probabilities", probabilities.shape, "(..., T >= 1, K >= 1)")
    if probabilities.dtype not in FLOATS:
        raise refusal("probabilities", probabilities.dtype, "float32, float16, bfloat16, float64")
    classes = probabilities.shape[-1]
    for name, values in (("thresholds", thresholds), ("windows", windows)):
        if len(values) != classes:
            raise refusal(name, f"{len(values)} values", f"{classes}, one for each class")
    for index, window in enumerate(windows):
        require_window(f"windows[{index}]", window)


def _fake(
    probabilities: Tensor, thresholds: Sequence[float], windows: Sequence[int], backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    _check(probabilities, thresholds, windows)
    *leading, steps, classes = probabilities.shape
    runs = probabilities.new_empty((*leading, classes, (steps + 1) // 2, 2), dtype=torch.int32)
    return runs, probabilities.new_empty((*leading, classes), dtype=torch.int32)


_table = Table("detect_runs")


def _run(
    probabilities: Tensor, thresholds: Sequence[float], windows: Sequence[int], backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    _check(probabilities, thresholds, windows)
    probabilities = probabilities.contiguous()
    args = (probabilities, list(thresholds), list(windows))
    runs, counts = _table.choose(backend, *args)(*args)
    return runs, counts


_op = define(SCHEMA, _run, _fake)
not_differentiable("detect_runs", "it belongs behind the trained network.")
batched("detect_runs", _op)


def detect_runs(
    probabilities: Tensor, thresholds: Sequence[float], windows: Sequence[int], *, backend: str = "auto"
) -> tuple[Tensor, Tensor]:
    """Threshold, median filter and the boundaries of what remains: the paper's decision (section 3.1).

    probabilities: (..., T, K), T and K at least 1, float32, float16, bfloat16 or float64; thresholds and
    windows: K numbers each, windows odd. A frame is active where its probability is above the threshold,
    compared in float32 (float64 for float64 input; a NaN is not above); the median over ``window`` frames
    counts zeros beyond the ends. Returns

    - runs (..., K, ceil(T / 2), 2) int32: [first frame, last frame + 1] of each run in time order, -1 behind
      the last one, the room for as many runs as T frames can hold, so that nothing waits for the device;
    - counts (..., K) int32: how many runs there are.

    Works under vmap. Differentiating raises NotImplementedError. ValueError for other arguments, and for a
    ``backend`` that cannot run this.
    """
    refuse_forward_mode("detect_runs", probabilities)
    runs, counts = _op(probabilities, thresholds, windows, backend)
    return runs, counts
