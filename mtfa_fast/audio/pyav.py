"""What libsndfile does not read (m4a, aac, mp4, webm, mkv, wma, ...) through PyAV, where that is installed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from ..extras import needs
from .errors import AudioError

_UNKNOWN_FRAMES = 2**62
_TOLERANCE = 0.5  # s that may be missing of what a container states: codecs have delays


def kind(head: bytes) -> str | None:
    """What the first 16 bytes say, for formats that are PyAV's."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"free", b"wide"):
        return "MP4"
    if head[:4] == b"\x1aE\xdf\xa3":
        return "Matroska or WebM"
    if head[:1] == b"\xff" and len(head) > 1 and head[1] & 0xF6 == 0xF0:
        return "AAC"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "AVI"
    if head[:8] == bytes.fromhex("3026b2758e66cf11"):
        return "WMA"
    known = {b"#!AMR": "AMR", b"wvpk": "WavPack", b"MAC ": "Monkey's Audio", b"FLV\1": "FLV", b"TTA1": "True Audio"}
    return next((name for magic, name in known.items() if head.startswith(magic)), None)


class AvFile:
    """The first sound track of a file, with those members of soundfile.SoundFile that ``files`` uses."""

    format = subtype = "AV"
    extra_info = ""

    def __init__(self, file: BinaryIO, name: str, what: str) -> None:
        try:
            with needs("av", f"{what} needs"):
                import av
        except ImportError as error:
            raise AudioError(f"{name}: {error}") from None
        self._name, self._error, self._opened = name, av.FFmpegError, None
        file.seek(0)
        try:
            container: Any = av.open(file, mode="r", metadata_errors="replace")
            self._opened = container
            if not container.streams.audio:
                raise AudioError(f"{name}: holds no sound ({what})")
            track = container.streams.audio[0]
            self.samplerate, self.channels = int(track.codec_context.sample_rate or 0), int(track.channels or 0)
            if not self.samplerate or not self.channels:
                raise AudioError(f"{name}: states neither rate nor channels ({what})")
            seconds = float(track.duration * track.time_base) if track.duration else (container.duration or 0) / 1e6
            self._stated = seconds
            self.frames = round(seconds * self.samplerate) or _UNKNOWN_FRAMES
            self._resampler = av.AudioResampler("fltp", track.codec_context.layout, self.samplerate)
            self._pieces = self._decoded(container, track)
        except self._error as error:
            self.close()
            raise AudioError(f"{name}: cannot be decoded, damaged or not audio ({error.strerror})") from None
        except BaseException:
            self.close()
            raise
        self._rest = np.zeros((0, self.channels), np.float32)

    def _decoded(self, container: Any, track: Any) -> Iterator[np.ndarray]:
        done = 0
        try:
            for frame in container.decode(track):
                for part in self._resampler.resample(frame):
                    done += part.samples
                    yield part.to_ndarray().T
            for part in self._resampler.resample(None):
                done += part.samples
                yield part.to_ndarray().T
        except self._error as error:
            raise AudioError(f"{self._name}: damaged at {done / self.samplerate:.3f} s ({error.strerror})") from None
        held = done / self.samplerate
        if done and held < self._stated - _TOLERANCE:
            raise AudioError(f"{self._name}: truncated: header states {self._stated:.3f} s, file holds {held:.3f} s")

    def read(self, frames: int, dtype: str = "float32", always_2d: bool = True) -> np.ndarray:
        """The next ``frames`` samples, or what is left: float32 (n, channels)."""
        parts, held = [self._rest], len(self._rest)
        while held < frames and (piece := next(self._pieces, None)) is not None:
            parts.append(piece)
            held += len(piece)
        whole = np.concatenate(parts)
        self._rest = whole[frames:]
        return np.ascontiguousarray(whole[:frames], np.float32)

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()

    def __enter__(self) -> AvFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
