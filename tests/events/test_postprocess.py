"""Threshold, median filter and runs against scipy and against counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import medfilt

from mtfa_fast.events.postprocess import runs, threshold_and_filter


@pytest.mark.parametrize("frames", [1, 2, 26, 27, 28, 333])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.filterwarnings("ignore:kernel_size exceeds")
def test_equals_scipy(frames: int, dtype: type) -> None:
    rng = np.random.default_rng(frames)
    lengths = [1, 3, 5, 27, 333]
    thresholds = [0.0, 0.5, 0.45, 0.5, 0.52]
    probabilities = rng.random((frames, 5)).astype(dtype)
    before = probabilities.copy()
    got = threshold_and_filter(probabilities, thresholds, lengths)
    for k, (threshold, length) in enumerate(zip(thresholds, lengths, strict=True)):
        expected = medfilt((probabilities[:, k] > threshold).astype(np.float64), length)
        np.testing.assert_array_equal(got[:, k], expected == 1, err_msg=f"length {length}")
    np.testing.assert_array_equal(probabilities, before)


def test_the_threshold_itself_is_not_active_in_any_type() -> None:
    for dtype in (np.float16, np.float32, np.float64):
        at = np.array([[0.4]], dtype)
        assert not threshold_and_filter(at, [0.4], [1]).any()
        assert threshold_and_filter(np.nextafter(at, dtype(1)), [0.4], [1]).all()


def test_nan_is_not_active() -> None:
    probabilities = np.full((9, 1), 0.9, np.float32)
    probabilities[3:6] = np.nan
    got = threshold_and_filter(probabilities, [0.0], [1])[:, 0]
    np.testing.assert_array_equal(got, [1, 1, 1, 0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize("frames", [0, 1, 2, 3, 200])
def test_runs_cover_exactly_the_active_frames(frames: int) -> None:
    for seed in range(20):
        active = np.random.default_rng(seed).random(frames) < 0.5
        found = runs(active)
        rebuilt = np.zeros(frames, bool)
        for first, end in found:
            assert 0 <= first < end
            assert not rebuilt[max(first - 1, 0) : end].any()  # neither overlapping nor touching
            rebuilt[first:end] = True
        np.testing.assert_array_equal(rebuilt, active)
    np.testing.assert_array_equal(runs(np.ones(7, bool)), [[0, 7]])


@pytest.mark.parametrize(
    ("probabilities", "thresholds", "lengths", "message"),
    [
        (np.zeros(5, np.float32), [0.5], [1], "probabilities: got float32"),
        (np.zeros((5, 1), np.int32), [0.5], [1], "probabilities: got int32"),
        (np.zeros((5, 2)), [0.5], [1, 1], "thresholds: got"),
        (np.zeros((5, 1)), [1.2], [1], r"thresholds: got \[1.2\]"),
        (np.zeros((5, 1)), [np.nan], [1], "thresholds: got"),
        (np.zeros((5, 1)), [0.5], [4], r"filter_frames: got \[4\]"),
        (np.zeros((5, 1)), [0.5], [-1], "filter_frames"),
        (np.zeros((5, 1)), [0.5], [3.0], "filter_frames"),
    ],
)
def test_wrong_arguments(probabilities: np.ndarray, thresholds: list, lengths: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        threshold_and_filter(probabilities, thresholds, lengths)
