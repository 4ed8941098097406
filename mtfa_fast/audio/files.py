"""Audio in: any file that libsndfile reads, any rate and channel count, as mono float32 in bounded memory.

A file's content decides its format, not its name. Channels are averaged; the rate is converted by soxr
(high quality), whose streaming form gives the same samples for every block size.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
import soxr

from ..files import is_hidden

# Of what libsndfile reads, for choosing inside a folder; a file that is named is opened whatever it is called.
_SUFFIXES = ".wav .wave .bwf .flac .ogg .oga .opus .mp3 .mp2 .aif .aiff .aifc .au .snd .caf .w64 .rf64 .sph .voc"
SUFFIXES = frozenset(_SUFFIXES.split())
MIN_RATE, MAX_RATE = 1_000, 1_000_000  # Hz; outside, a header is damaged and conversion would explode in size
MAX_CHANNELS = 64  # of an array; more means that its axes are the other way round
BLOCK_SECONDS = 10.0
_PART_SECONDS = 1.0  # of a block where a part is wanted: little is decoded beyond its end
_BLOCK_VALUES = 2**23  # most values decoded at once, whatever the rate and channel count: 32 MB
_UNKNOWN_FRAMES = 2**62  # libsndfile's frame count of a FLAC stream that does not state one
_UNKNOWN_BYTES = 0x7FFF_0000  # sizes from here up are what programs write when they cannot know the size
_SCALE = {"int16": 2.0**15, "int32": 2.0**31}
# libsndfile repairs a header that promises more than the file holds, and says so only in its log.
_PROMISE = re.compile(r"^\s*(?:data|Data Size|SSND|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
# Formats without a length of their own: what libsndfile reports is an estimate.
_STREAM_FORMATS = ("MP3", "MPEG", "OGG")
# Codings in which a sample does not depend on how the decoder came there. FLAC's are the PCM ones.
_SEARCHABLE = re.compile("PCM_.*|FLOAT|DOUBLE|ULAW|ALAW")


class AudioError(ValueError):
    """Audio that cannot be used; the message names the file or argument and the reason."""


class _Nameless(io.BufferedReader):
    """A file without a name, because soundfile believes names: ``.raw`` would mean "no header"."""

    name = ""


class _File(soundfile.SoundFile):
    def seekable(self) -> bool:
        # Otherwise every read is followed by a seek, which streams of unknown length refuse.
        return False


def blocks(
    path: str | os.PathLike[str], target_rate: int, *, block_seconds: float = BLOCK_SECONDS
) -> Generator[np.ndarray, None, None]:
    """Decode ``path`` block by block: mono float32 arrays (n,) at ``target_rate`` Hz, n >= 1, nominally in [-1, 1].

    Memory is bounded by ``block_seconds`` and does not grow with the file. The concatenated samples
    are the same for every block size. Raises FileNotFoundError, PermissionError, or AudioError
    for a file that is unreadable, empty, truncated (where its header states a length), without samples, or
    with NaN or infinite samples; the damage may show after the first blocks.
    """
    _require_rate("target_rate", target_rate)
    if not block_seconds > 0:
        raise ValueError(f"block_seconds: got {block_seconds}, allowed: > 0")
    with _opened(path) as file:
        yield from _convert(_decode(file, path, block_seconds), file.samplerate, target_rate)


def sound_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Every file below ``folder`` whose suffix is among SUFFIXES and that is not hidden, in order of path."""
    found = (p for p in Path(folder).rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    return sorted(p for p in found if not is_hidden(p.relative_to(folder)))


def read(path: str | os.PathLike[str], target_rate: int) -> np.ndarray:
    """The whole file as mono float32 (n,) at ``target_rate`` Hz. Raises as :func:`blocks`."""
    return np.concatenate(list(blocks(path, target_rate)))


def read_part(path: str | os.PathLike[str], target_rate: int, begin: int, end: int) -> np.ndarray:
    """Samples ``begin`` to ``end`` of :func:`read`, bit for bit: (n,), n < end - begin or even 0 where the file ends.

    Nothing after them is decoded, and nothing before them either if the file has ``target_rate`` and its format can
    be searched; damage elsewhere may go unnoticed. Raises as :func:`blocks`, and ValueError unless 0 <= begin <= end.
    """
    _require_rate("target_rate", target_rate)
    if not 0 <= begin <= end:
        raise ValueError(f"begin, end: got {begin}, {end}, allowed: 0 <= begin <= end")
    with _opened(path) as file:
        stated = file.frames < _UNKNOWN_FRAMES and _SEARCHABLE.fullmatch(file.subtype) is not None
        done = min(begin, file.frames) if stated and file.samplerate == target_rate else 0
        kept = [np.zeros(0, np.float32)]
        for block in _convert(_decode(file, path, _PART_SECONDS, done), file.samplerate, target_rate):
            kept.append(block[max(0, begin - done) : max(0, end - done)])
            done += len(block)
            if done >= end:
                break
    return np.concatenate(kept)


def stated_duration(path: str | os.PathLike[str]) -> float:
    """Seconds by the header, 0.0 where it states none: good for progress, not for results. Raises as :func:`blocks`."""
    with _opened(path) as file:
        return file.frames / file.samplerate if file.frames < _UNKNOWN_FRAMES else 0.0


def stated_rate(path: str | os.PathLike[str]) -> int:
    """The file's own sample rate in Hz. Raises as :func:`blocks`."""
    with _opened(path) as file:
        return int(file.samplerate)


def to_mono_resampled(array: np.ndarray, rate: int, target_rate: int) -> np.ndarray:
    """Samples (n,) or (n, channels) at ``rate`` Hz -> mono float32 (m,) at ``target_rate`` Hz, m >= 1.

    Floats are taken as they are, int16 and int32 are scaled to [-1, 1]. Raises AudioError for no
    samples, NaN or infinity, a wrong shape or rate, and TypeError for another type.
    """
    array = np.asarray(array)
    _require_rate("sample_rate", rate)
    _require_rate("target_rate", target_rate)
    if array.ndim not in (1, 2) or (array.ndim == 2 and not 1 <= array.shape[1] <= MAX_CHANNELS):
        raise AudioError(
            f"audio: got shape {array.shape}, allowed: (samples,) or (samples, channels), 1 to {MAX_CHANNELS} channels"
        )
    if array.dtype.kind != "f" and array.dtype.name not in _SCALE:
        raise TypeError(f"audio: got {array.dtype}, allowed: float16, float32, float64, int16, int32")
    if len(array) == 0:
        raise AudioError("audio: got 0 samples, allowed: at least 1")
    with np.errstate(over="ignore"):  # beyond float32 is infinite, reported below
        samples = array.astype(np.float32, copy=False)
    if array.dtype.name in _SCALE:
        samples = samples / np.float32(_SCALE[array.dtype.name])
    mono = _mean(samples[:, None] if samples.ndim == 1 else samples)
    _require_finite(mono, "audio", 0, rate)
    return np.concatenate(list(_convert([mono], rate, target_rate)))


@contextmanager
def _opened(path: str | os.PathLike[str]) -> Iterator[_File]:
    """The open file, its header checked; libsndfile's errors become AudioErrors that name the file."""
    os.stat(path)  # FileNotFoundError and the like
    if not os.path.isfile(path):
        raise AudioError(f"{path}: not a file")
    try:
        with _Nameless(io.FileIO(path)) as content, _File(content) as file:
            yield _checked(file, path)
    except soundfile.LibsndfileError as error:
        reason = error.error_string.removeprefix("Error : ").rstrip(".")
        raise AudioError(f"{path}: cannot be decoded, damaged or not audio ({reason})") from None


def _checked(file: _File, path: str | os.PathLike[str]) -> _File:
    if not MIN_RATE <= file.samplerate <= MAX_RATE:
        raise AudioError(f"{path}: sample rate: got {file.samplerate} Hz, allowed: {MIN_RATE} to {MAX_RATE} Hz")
    for promised, held in _PROMISE.findall(file.extra_info):
        if int(held) < int(promised) < _UNKNOWN_BYTES:
            raise AudioError(f"{path}: truncated: header states {promised} bytes, file holds {held}")
    return file


def _decode(file: _File, path: str | os.PathLike[str], block_seconds: float, first: int = 0) -> Iterator[np.ndarray]:
    """Mono blocks at the file's own rate, from sample ``first`` on."""
    rate, stated, done = file.samplerate, file.frames, first
    if first:
        file.seek(first)
    size = max(1, min(int(block_seconds * rate), _BLOCK_VALUES // file.channels))
    while len(block := file.read(size, dtype="float32", always_2d=True)):
        mono = _mean(block)
        _require_finite(mono, path, done, rate)
        done += len(block)
        yield mono
    if done == 0:
        raise AudioError(f"{path}: holds no samples")
    if done < stated < _UNKNOWN_FRAMES and file.format not in _STREAM_FORMATS:
        raise AudioError(f"{path}: truncated: header states {stated / rate:.3f} s, file holds {done / rate:.3f} s")


def _mean(block: np.ndarray) -> np.ndarray:
    """(n, channels) float32 -> (n,), in one fixed order of additions, so that no block size changes a bit."""
    channels = block.shape[1]
    if channels == 1:
        return np.ascontiguousarray(block[:, 0])
    with np.errstate(over="ignore", invalid="ignore"):
        mono = block[:, 0] + block[:, 1]
        for channel in range(2, channels):
            mono += block[:, channel]
        mono *= np.float32(1 / channels)
    return mono


def _convert(mono: Iterable[np.ndarray], rate: int, target_rate: int) -> Iterator[np.ndarray]:
    """Blocks at ``rate`` -> non-empty blocks at ``target_rate``, at least one sample in all."""
    if rate == target_rate:
        yield from mono
        return
    stream = soxr.ResampleStream(rate, target_rate, 1, dtype="float32", quality="HQ")
    first: np.ndarray | None = None
    empty = True
    for block in mono:
        first = block[:1] if first is None else first
        if len(out := stream.resample_chunk(block)):
            empty = False
            yield out
    if len(out := stream.resample_chunk(np.zeros(0, np.float32), last=True)):
        yield out
    elif empty and first is not None:
        yield first.copy()  # shorter than one sample of the target rate


def _require_rate(name: str, rate: int) -> None:
    if isinstance(rate, bool) or not isinstance(rate, (int, np.integer)):
        raise TypeError(f"{name}: got {rate!r}, allowed: an integer, in Hz")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioError(f"{name}: got {rate} Hz, allowed: {MIN_RATE} to {MAX_RATE} Hz")


def _require_finite(mono: np.ndarray, where: str | os.PathLike[str], done: int, rate: int) -> None:
    finite = np.isfinite(mono)
    if not finite.all():
        first = (done + int(np.argmin(finite))) / rate
        raise AudioError(f"{where}: NaN or infinite sample at {first:.3f} s")
