"""A microphone as a source of sound, through sounddevice (PortAudio): the extra ``[live]``."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..extras import needs
from .files import AudioError

_WAIT_SECONDS = 1.0  # without sound before the device is asked whether it still runs
_BLOCK_SECONDS = 0.1
_MOST_SECONDS = 600.0  # that wait for whoever iterates


class Microphone:
    """Blocks (n, channels) float32 of an input device, as they are recorded; a context manager.

    ``device``: part of its name, its number, or None for the system's own. ``sample_rate`` and ``channels`` default to
    the device's rate and to one channel. ``lost_blocks`` counts what the system had to drop because it was not taken in
    time. Iterating ends with an AudioError when the device stops, as one does that is unplugged. ImportError without
    sounddevice, AudioError where there is no such device.
    """

    def __init__(
        self, device: str | int | None = None, *, sample_rate: int | None = None, channels: int | None = None
    ) -> None:
        try:
            with needs("sounddevice", "a microphone needs"):
                import sounddevice
        except OSError as error:  # of the library that it wraps
            raise ImportError(f"a microphone needs {error}: install PortAudio (Debian: libportaudio2)") from error
        self._library = sounddevice
        self._blocks: queue.Queue[np.ndarray] = queue.Queue(round(_MOST_SECONDS / _BLOCK_SECONDS))
        self.lost_blocks = 0
        self.name = "microphone" if device is None else str(device)
        try:
            known = sounddevice.query_devices(device, "input")
            self.rate = sample_rate or int(known["default_samplerate"])
            self.channels = channels or 1
            self._stream: Any = sounddevice.InputStream(
                samplerate=self.rate,
                device=device,
                channels=self.channels,
                dtype="float32",
                blocksize=round(_BLOCK_SECONDS * self.rate),
                callback=self._record,
            )
        except (sounddevice.PortAudioError, ValueError) as error:
            raise AudioError(f"{self.name}: {error}") from None

    def __enter__(self) -> Microphone:
        self._stream.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            try:
                yield self._blocks.get(timeout=_WAIT_SECONDS)
            except queue.Empty:
                if not self._stream.active:
                    raise AudioError(f"{self.name}: the device stopped, unplugged or taken away") from None

    def _record(self, block: np.ndarray, frames: int, time: Any, status: Any) -> None:
        if status.input_overflow:
            self.lost_blocks += 1
        try:
            self._blocks.put_nowait(block.copy())  # PortAudio uses its memory again
        except queue.Full:
            self.lost_blocks += 1
