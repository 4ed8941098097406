"""The sound of each event as a FLAC file, with a second before and after it, written while the event goes on."""

from __future__ import annotations

import os
import re
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from ..events.result import Event

AROUND_SECONDS = 1.0
MEMORY_SECONDS = 60.0  # of sound before the present that a clip may begin with
MAX_CHANNELS, MAX_RATE = 8, 655_350  # of FLAC
# A short write is an assertion in soundfile.
_FAILURES = (OSError, soundfile.SoundFileError, AssertionError)


@dataclass
class _Clip:
    path: Path
    first: int  # sample of the stream on which it begins
    next: int  # and the first that is not written yet
    file: Any = None  # soundfile.SoundFile
    error: str = ""

    @property
    def part(self) -> Path:
        return self.path.with_name(f".{self.path.name}.part")


class Clips:
    """Keeps the sound of events in ``folder``; what goes wrong with one clip leaves the others and the events alone.

    Give it every block before the stream gets it, and every event that begins and ends. ``delay``: the stream's, in
    seconds. Bounded memory: a clip reaches back at most ``MEMORY_SECONDS`` before its event was certain. ValueError for
    more than FLAC holds, OSError where the folder cannot be made.
    """

    def __init__(self, folder: str | os.PathLike[str], rate: int, channels: int, delay: float) -> None:
        if channels > MAX_CHANNELS or rate > MAX_RATE:
            raise ValueError(
                f"--clips: got {channels} channels at {rate} Hz, allowed: 1 to {MAX_CHANNELS} channels, "
                f"up to {MAX_RATE} Hz, as FLAC has them"
            )
        self.folder, self.rate, self.channels = Path(folder), rate, channels
        self.folder.mkdir(parents=True, exist_ok=True)
        self._delay = round(delay * rate)
        self._blocks: deque[np.ndarray] = deque()
        self._first = self._end = 0  # samples of the stream that the blocks hold
        self._open: dict[tuple[str, float], _Clip] = {}

    def hear(self, block: np.ndarray) -> None:
        """The next block of the stream, (n, channels) or (n,)."""
        block = np.asarray(block).reshape(-1, self.channels)
        if block.dtype.kind == "f":  # FLAC holds integers; NaN is silence to the stream, too
            block = np.nan_to_num(block, nan=0.0, posinf=0.0, neginf=0.0)
        if not len(block):
            return
        for clip in self._open.values():  # what is not over after all blocks so far ends later than that
            self._write(clip, self._end - self._delay)
        self._blocks.append(block)
        self._end += len(block)
        while self._end - self._first - len(self._blocks[0]) > MEMORY_SECONDS * self.rate + self._delay:
            self._first += len(self._blocks.popleft())

    def begin(self, event: Event, name: str) -> None:
        """An event is certain to come; ``name`` is for its file, without a suffix."""
        path = self.folder / (re.sub(r"[^\w.+-]", "_", name) + ".flac")
        first = max(round((event.onset - AROUND_SECONDS) * self.rate), self._first, 0)
        clip = self._open[event.label, event.onset] = _Clip(path, first, first)
        subtype = "PCM_16" if all(block.dtype == np.int16 for block in self._blocks) else "PCM_24"
        try:
            clip.file = soundfile.SoundFile(clip.part, "w", self.rate, self.channels, subtype, format="FLAC")
        except _FAILURES as error:
            self._fail(clip, error)

    def end(self, event: Event) -> tuple[str | None, str]:
        """The event is over -> its file's name, or None and the reason why there is none."""
        clip = self._open.pop((event.label, event.onset))
        self._write(clip, round((event.offset + AROUND_SECONDS) * self.rate))
        if not clip.error:
            try:
                clip.file.close()
                if soundfile.info(clip.part).frames != clip.next - clip.first:
                    raise OSError("not all of it was written")
                os.replace(clip.part, clip.path)
            except _FAILURES as error:
                self._fail(clip, error)
        return (None, clip.error) if clip.error else (clip.path.name, "")

    def close(self) -> None:
        """Removes what was begun and never ended."""
        for clip in self._open.values():
            self._fail(clip, OSError("not over"))
        self._open.clear()

    def _write(self, clip: _Clip, last: int) -> None:
        """The samples up to ``last``, as far as they are there."""
        last = min(last, self._end)
        if clip.error or last <= clip.next:
            return
        at = self._first
        try:
            for block in self._blocks:
                begin, end = max(clip.next - at, 0), min(last - at, len(block))
                if begin < end:
                    clip.file.write(block[begin:end])
                    clip.next = at + end
                at += len(block)
        except _FAILURES as error:
            self._fail(clip, error)

    def _fail(self, clip: _Clip, error: BaseException) -> None:
        clip.error = str(error) or "could not be written, the disk is full"
        try:
            if clip.file is not None:
                clip.file.close()
            clip.part.unlink(missing_ok=True)
        except _FAILURES:
            pass
