"""The mixing formula: the ratio that was asked for, and the division that keeps a mixture below 1."""

from __future__ import annotations

import numpy as np
import pytest

from mtfa_fast.data.mixing import event_gain, mix, rms


@pytest.mark.parametrize("ebr", [-6.0, 0.0, 6.0])
def test_measured_ratio_is_the_asked_one(ebr: float) -> None:
    rng = np.random.default_rng(1)
    # the level under the event differs from the rest: the ratio is to that part alone
    background = (rng.normal(0, 0.02, 50_000) * np.linspace(0.2, 3, 50_000)).astype(np.float32)
    before = background.copy()
    event = (rng.normal(0, 0.3, 9_001) * np.hanning(9_001)).astype(np.float32)
    mixture, gain, peak = mix(background, event, 30_000, ebr)
    np.testing.assert_array_equal(background, before)
    heard = mixture.astype(np.float64) / 0.2 - background
    assert np.abs(np.delete(heard, np.s_[30_000:39_001])).max() < 1e-7
    measured = 20 * np.log10(
        np.sqrt(np.mean(heard[30_000:39_001] ** 2)) / np.sqrt(np.mean(background[30_000:39_001].astype(float) ** 2))
    )
    assert abs(measured - ebr) < 0.01
    assert gain == pytest.approx(event_gain(event, background[30_000:39_001], ebr)) and peak < 1


def test_mixing_divides_by_a_peak_that_would_clip_and_names_bad_places() -> None:
    mixture, gain, peak = mix(np.array([10.0, -2.0, 1.0]))
    assert (gain, peak) == (0.0, 2.0)
    np.testing.assert_allclose(mixture, [1.0, -0.2, 0.1])
    for onset in (-1, 2):
        with pytest.raises(ValueError, match="onset: got samples"):
            mix(np.ones(3), np.ones(2), onset)
    with pytest.raises(ValueError, match="silence"):
        mix(np.ones(3), np.zeros(2), 0)
    assert rms(np.array([3.0, -4.0])) == pytest.approx(np.sqrt(12.5)) and rms(np.empty(0)) == 0.0
