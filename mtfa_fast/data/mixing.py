"""Level and mixing of the official DCASE 2017 Task 2 recipe: pure functions on NumPy waves.

The mixture is ``0.2 * (background + gain * event)``, the gain set so that the event's RMS stands
the event-to-background ratio above the RMS of the background just where the event lies.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

ANTI_CLIPPING = 0.2
CLASSES = ("babycry", "glassbreak", "gunshot")  # the official order
EBRS = (-6.0, 0.0, 6.0)  # dB


def rms(wave: NDArray[Any]) -> float:
    """Root mean square of a wave (n,), summed in float64; 0.0 for an empty one."""
    if wave.size == 0:
        return 0.0
    # not a dot product: BLAS sums in a thread-dependent order, and mixtures must repeat exactly
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64))))


def event_gain(event: NDArray[Any], background: NDArray[Any], ebr: float) -> float:
    """10^(ebr/20) * rms(background) / rms(event); ``background`` is the part under the event, ``ebr`` in dB.

    ValueError for a silent event, which no gain can bring to a level.
    """
    level = rms(event)
    if level == 0.0:
        raise ValueError("event: got silence, allowed: a wave with a level")
    return 10.0 ** (ebr / 20.0) * rms(background) / level


def mix(
    background: NDArray[Any],
    event: NDArray[Any] | None = None,
    onset: int = 0,
    ebr: float = 0.0,
) -> tuple[NDArray[Any], float, float]:
    """Background (n,) with an event (m,) from sample ``onset`` on -> (mixture, gain of the event, peak).

    ``peak`` is the mixture's highest magnitude before it was divided by it; the division happens only
    where ``peak >= 1``. Without an event the gain is 0. ValueError if the event leaves the background.
    """
    if event is None:
        mixture, gain = ANTI_CLIPPING * background, 0.0
    else:
        end = onset + len(event)
        if onset < 0 or end > len(background):
            raise ValueError(
                f"onset: got samples {onset} to {end}, allowed: within the background's 0 to {len(background)}"
            )
        gain = event_gain(event, background[onset:end], ebr)
        mixture = background.copy()
        mixture[onset:end] += (gain * event).astype(background.dtype, copy=False)
        mixture *= ANTI_CLIPPING
    peak = float(np.max(np.abs(mixture), initial=0.0))
    if peak >= 1.0:
        mixture = mixture / peak
    return mixture, gain, peak
