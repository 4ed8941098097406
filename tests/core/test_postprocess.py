"""median_filter and detect_runs of the C++ core against scipy and the NumPy definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy import signal

from mtfa_fast import _core
from mtfa_fast.events.postprocess import runs, threshold_and_filter

WINDOWS = st.integers(0, 40).map(lambda half: 2 * half + 1)
DTYPES = st.sampled_from([np.dtype(np.float32), np.dtype(np.float64)])


@st.composite
def waves(draw: st.DrawFn) -> NDArray[np.float64]:
    """Few values and many repetitions, both signs and zeros, or anything finite."""
    dtype, length = draw(DTYPES), draw(st.integers(1, 120))
    few = st.sampled_from([-2.5, -0.0, 0.0, 1.0, 3.0])
    anything = st.floats(allow_nan=False, allow_infinity=False, width=32)
    return draw(arrays.arrays(dtype, length, elements=draw(st.sampled_from([few, anything]))))


@settings(max_examples=150, deadline=None)
@given(waves(), WINDOWS)
def test_median_equals_scipy(wave: NDArray[np.float64], window: int) -> None:
    ours = _core.median_filter(wave, window)
    assert ours.dtype == wave.dtype
    # scipy's medfilt wants room for the window: zeros behind the end, which are there anyway.
    room = np.pad(wave.astype(np.float64), (0, max(0, window - len(wave))))
    np.testing.assert_array_equal(ours, signal.medfilt(room, window)[: len(wave)])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=120), WINDOWS)
def test_majority_equals_scipy(active: list[bool], window: int) -> None:
    room = np.pad(np.array(active, np.float64), (0, max(0, window - len(active))))
    expected = signal.medfilt(room, window)[: len(active)]
    for dtype in (np.float32, np.float64, np.bool_):
        ours = _core.median_filter(np.array(active, dtype), window)
        assert ours.dtype == dtype
        np.testing.assert_array_equal(ours.astype(np.float64), expected)


def test_median_filters_each_column() -> None:
    x = np.random.default_rng(0).standard_normal((2, 50, 3))
    ours = _core.median_filter(x, 7)
    for b in range(2):
        for k in range(3):
            np.testing.assert_array_equal(ours[b, :, k], signal.medfilt(x[b, :, k], 7))
    np.testing.assert_array_equal(
        _core.median_filter(x[:, ::2, ::-1], 7), _core.median_filter(x[:, ::2, ::-1].copy(), 7)
    )
    for shape in ((0,), (0, 3), (4, 0), (0, 5, 2), (2, 0, 3)):
        assert _core.median_filter(np.zeros(shape, np.float32), 3).shape == shape


def test_median_of_windows_with_nan() -> None:
    x = np.random.default_rng(1).standard_normal(60).astype(np.float32)
    x[[20, 22, 59]] = np.nan
    ours = _core.median_filter(x, 9)
    touched = np.convolve(np.isnan(x), np.ones(9), "same") > 0
    assert np.isnan(ours[touched]).all()
    clean = signal.medfilt(np.nan_to_num(x), 9)
    np.testing.assert_array_equal(ours[~touched], clean[~touched])


def test_window_far_longer_than_the_input() -> None:
    x = np.array([3.0, -1.0, 2.0])
    np.testing.assert_array_equal(_core.median_filter(x, 2**62 + 1), [0, 0, 0])
    np.testing.assert_array_equal(_core.median_filter(np.ones(3, bool), 2**62 + 1), [False] * 3)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_runs_equal_definition(data: st.DataObject) -> None:
    dtype, frames, classes = data.draw(DTYPES), data.draw(st.integers(0, 90)), data.draw(st.integers(0, 4))
    values = st.sampled_from([0.0, 0.2, 0.4, 0.4000001, 0.7, 1.0, float("nan")])
    probabilities = data.draw(arrays.arrays(dtype, (frames, classes), elements=values.map(dtype.type)))
    thresholds = data.draw(st.lists(st.sampled_from([0.0, 0.4, 1.0]), min_size=classes, max_size=classes))
    windows = data.draw(st.lists(WINDOWS, min_size=classes, max_size=classes))
    active = threshold_and_filter(probabilities, np.array(thresholds), np.array(windows, int))
    event_classes, bounds, peaks = _core.detect_runs(probabilities, thresholds, windows)
    expected = [(k, *run) for k in range(classes) for run in runs(active[:, k]).tolist()]
    assert [(k, *run) for k, run in zip(event_classes.tolist(), bounds.tolist(), strict=True)] == expected
    assert peaks.dtype == dtype
    for (k, first, last), peak in zip(expected, peaks, strict=True):
        inside = probabilities[first:last, k]
        assert np.isnan(peak) if np.isnan(inside).all() else peak == np.nanmax(inside)


def test_refusals() -> None:
    for window in (0, -3, 4):
        with pytest.raises(ValueError, match=f"window: got {window}, allowed: an odd number >= 1"):
            _core.median_filter(np.zeros(3), window)
        with pytest.raises(ValueError, match=f"window: got {window}, allowed"):
            _core.detect_runs(np.zeros((3, 1)), [0.5], [window])
    for x in (np.zeros(3, np.int32), np.zeros((), np.float32), np.zeros(3, np.float16)):
        with pytest.raises(ValueError, match="x: got"):
            _core.median_filter(x, 3)
    for probabilities in (np.zeros(3), np.zeros((3, 2), np.float16), np.zeros((1, 3, 2))):
        with pytest.raises(ValueError, match="probabilities: got"):
            _core.detect_runs(probabilities, [0.5, 0.5], [3, 3])
    with pytest.raises(ValueError, match="thresholds: got"):
        _core.detect_runs(np.zeros((3, 2)), [0.5], [3, 3])
    with pytest.raises(ValueError, match="windows: got 3 values, allowed: 2"):
        _core.detect_runs(np.zeros((3, 2)), [0.5, 0.5], [3, 3, 3])
