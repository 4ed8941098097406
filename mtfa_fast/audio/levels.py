"""Samples that are not what they should be: out of range, off centre, channels that cancel. What is done is said.

The rules, for files and arrays alike:

- a sample beyond ``LARGEST`` times full scale is refused: the numbers are in the scale of integers;
- where the first ``CENTRE_SECONDS`` lie around a value more than ``OFFSET`` from zero (the median of the means of
  tenths of a second, to which three in four are near), that value is subtracted from the whole recording;
- where the mean of the channels is ``CANCEL_DB`` weaker than channels without relation would make it, or a channel is
  silent beside others, this is said at the recording's end.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias

import numpy as np

from .errors import AudioError, AudioWarning

Channel: TypeAlias = int | Literal["mean", "max"]
Name: TypeAlias = str | os.PathLike[str]

LARGEST = 8.0  # 18 dB above full scale; floats may clip later, but not by that much
OFFSET = 0.01
CENTRE_SECONDS = 2.0
_WINDOW_SECONDS = 0.1  # over which sound has no mean of its own
_NEAR = 0.75  # of the windows must agree: a recording may begin with digital silence
CANCEL_DB = 6.0
_SILENT = 1e-6  # of the loudest channel's power, -60 dB


def warn(where: Name, message: str) -> None:
    warnings.warn(f"{where}: {message}", AudioWarning, stacklevel=2)


def require_channel(channel: object) -> None:
    if channel in ("mean", "max") and isinstance(channel, str):
        return
    if isinstance(channel, bool) or not isinstance(channel, (int, np.integer)) or channel < 0:
        raise ValueError(f"channel: got {channel!r}, allowed: 'mean', 'max', or a channel's number, 0 for the first")


def mean_of_channels(block: np.ndarray) -> np.ndarray:
    """(n, channels) float32 -> (n,), in one fixed order of additions, so that no block size changes a bit."""
    channels = block.shape[1]
    if channels == 1:
        return np.ascontiguousarray(block[:, 0])
    with np.errstate(over="ignore", invalid="ignore"):
        mono: np.ndarray = block[:, 0] + block[:, 1]
        for channel in range(2, channels):
            mono += block[:, channel]
        mono *= np.float32(1 / channels)
    return mono


class Mixer:
    """(n, channels) -> (n,) float32, the same for every block size; remembers how strong channels and mean were."""

    def __init__(self, channels: int, channel: Channel, where: Name) -> None:
        require_channel(channel)
        if not isinstance(channel, str) and channel >= channels:
            raise AudioError(f"{where}: channel: got {channel}, allowed: 0 to {channels - 1}, as many as the file has")
        self.channels, self.channel, self.where = channels, channel, where
        self._power = np.zeros(channels)
        self._mean_power = 0.0

    def mix(self, block: np.ndarray) -> np.ndarray:
        if self.channels == 1:
            return np.ascontiguousarray(block[:, 0])
        if not isinstance(self.channel, str):
            return np.ascontiguousarray(block[:, self.channel])
        if self.channel == "max":
            mono = block[:, 0].copy()
            for channel in range(1, self.channels):
                np.copyto(mono, block[:, channel], where=~(np.abs(block[:, channel]) <= np.abs(mono)))
            return mono
        mono = mean_of_channels(block)
        with np.errstate(over="ignore", invalid="ignore"):
            for channel in range(self.channels):
                self._power[channel] += np.dot(block[:, channel], block[:, channel])
            self._mean_power += float(np.dot(mono, mono))
        return mono

    def finish(self) -> None:
        """Say what averaging did, now that all was heard."""
        loudest = float(self._power.max())
        if self.channel != "mean" or self.channels == 1 or not 0 < loudest < np.inf:
            return
        silent = [str(i) for i, power in enumerate(self._power) if power <= _SILENT * loudest]
        unrelated = float(self._power.sum()) / self.channels**2  # of the mean, if nothing cancels
        choose = f"choose one (channel={int(self._power.argmax())}) or the largest sample of all (channel='max')"
        if self._mean_power < unrelated * 10 ** (-CANCEL_DB / 10):
            lost = 10 * np.log10(unrelated / max(self._mean_power, unrelated * 1e-12))
            warn(self.where, f"its {self.channels} channels cancel: their mean is {lost:.0f} dB too weak; {choose}")
        elif silent:
            lost = 10 * np.log10(loudest / self._mean_power)
            many = "channels" if len(silent) > 1 else "channel"
            warn(
                self.where,
                f"{many} {', '.join(silent)} of {self.channels} silent: the mean of all is {lost:.0f} dB weaker than "
                f"the loudest; {choose}",
            )


def require_range(mono: np.ndarray, where: Name, done: int, rate: int) -> None:
    """AudioError for NaN, infinity, and samples in the scale of integers. Mono samples (n,), ``done`` before them."""
    with np.errstate(invalid="ignore"):
        fine = np.abs(mono) <= LARGEST
    if fine.all():
        return
    first = int(np.argmin(fine))
    at = (done + first) / rate
    if np.isfinite(mono).all():
        raise AudioError(
            f"{where}: samples as large as {np.abs(mono).max():g} from {at:.3f} s on, allowed: {LARGEST:g} (full scale "
            "is 1): divide floats in the scale of 16-bit integers by 32768"
        )
    first = int(np.argmin(np.isfinite(mono)))
    raise AudioError(f"{where}: NaN or infinite sample at {(done + first) / rate:.3f} s")


def centred(blocks: Iterable[np.ndarray], rate: int, where: Name, offset: float | None = None) -> Iterator[np.ndarray]:
    """The same blocks without a constant offset, which the first seconds tell unless it is given."""
    rest = iter(blocks)
    if offset is None:
        first, held = list[np.ndarray](), 0
        for block in rest:
            first.append(block)
            held += len(block)
            if held >= CENTRE_SECONDS * rate:
                break
        offset = constant_offset(first, rate)
        if offset:
            warn(where, f"samples lie around {offset:.3f} instead of 0, which is subtracted")
        rest = _chained(first, rest)
    for block in rest:
        yield block - np.float32(offset) if offset else block


def constant_offset(blocks: list[np.ndarray], rate: int) -> float:
    """The value around which the first seconds lie, 0.0 where that is near enough to zero or not one value."""
    start = np.concatenate(blocks)[: int(CENTRE_SECONDS * rate)] if blocks else np.zeros(0, np.float32)
    length = int(_WINDOW_SECONDS * rate)
    windows = len(start) // length
    if not windows:
        return 0.0
    means = start[: windows * length].reshape(windows, length).mean(axis=1, dtype=np.float64)
    middle = float(np.median(means))
    near = np.abs(means - middle) <= abs(middle) / 2
    return middle if abs(middle) > OFFSET and near.mean() >= _NEAR else 0.0


def _chained(first: list[np.ndarray], rest: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    while first:  # each is let go as it is used
        yield first.pop(0)
    yield from rest
