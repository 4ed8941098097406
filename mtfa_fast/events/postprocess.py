"""From frame probabilities to active frames: threshold, median filter, runs (section 3.1 of the paper).

The median is the C++ core's; events come from its ``detect_runs``, which does all three steps in one pass.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .. import _core


def threshold_and_filter(
    probabilities: np.ndarray, thresholds: Sequence[float] | np.ndarray, filter_frames: Sequence[int] | np.ndarray
) -> np.ndarray:
    """Which frames are active: float (T, K), one threshold and one filter length a class -> bool (T, K).

    A frame is active where its probability is greater than the threshold, compared in the probabilities'
    own type; NaN is not. Then a median over ``filter_frames`` (odd) frames, zeros beyond the ends, as in
    ``scipy.signal.medfilt``. Raises ValueError for other shapes, thresholds outside [0, 1] or even lengths.
    """
    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 2 or probabilities.dtype.kind != "f":
        given = f"{probabilities.dtype} {probabilities.shape}"
        raise ValueError(f"probabilities: got {given}, allowed: floating point (frames, classes)")
    classes = probabilities.shape[1]
    limits, lengths = np.asarray(thresholds, np.float64), np.asarray(filter_frames)
    if limits.shape != (classes,) or not ((limits >= 0) & (limits <= 1)).all():
        raise ValueError(f"thresholds: got {thresholds}, allowed: {classes} numbers, 0 <= threshold <= 1")
    if lengths.shape != (classes,) or lengths.dtype.kind not in "iu" or not ((lengths > 0) & (lengths % 2 == 1)).all():
        raise ValueError(f"filter_frames: got {filter_frames}, allowed: {classes} odd integers >= 1")
    active = probabilities > limits.astype(probabilities.dtype)
    for k, length in enumerate(lengths.tolist()):
        if length > 1:
            active[:, k] = _core.median_filter(active[:, k], length)
    return active


def runs(active: np.ndarray) -> np.ndarray:
    """Runs of True in bool (T,) -> int64 (n, 2): first frame and the frame after the last, in order of time."""
    active = np.asarray(active)
    if active.ndim != 1 or active.dtype != np.bool_:
        raise ValueError(f"active: got {active.dtype} {active.shape}, allowed: bool (frames,)")
    padded = np.concatenate([[False], active, [False]])
    return np.flatnonzero(padded[1:] != padded[:-1]).reshape(-1, 2).astype(np.int64)
