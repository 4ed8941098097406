"""Audio in: any recording that libsndfile or PyAV reads, any rate and channel count, as mono float32 in bounded memory.

A file's content decides its format, not its name. Sizes that the file does not bear out are not believed
(:mod:`.containers`, :mod:`.streams`), samples that are not what they should be are refused or corrected by rule
(:mod:`.levels`); whatever is used in spite of a fault is said by an AudioWarning. The rate is converted by soxr
(high quality), whose streaming form gives the same samples for every block size.
"""

from __future__ import annotations

import io
import os
import re
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

import numpy as np
import soundfile
import soxr

from . import containers, streams
from .errors import AudioError, AudioWarning
from .folders import SUFFIXES, sound_files
from .levels import CENTRE_SECONDS, Channel, Mixer, centred, constant_offset, require_channel, require_range, warn
from .pyav import AvFile, kind
from .sources import Opened, Source, View, opened

__all__ = [
    "SUFFIXES",
    "AudioError",
    "AudioWarning",
    "blocks",
    "duration",
    "read",
    "read_part",
    "sound_files",
    "stated_duration",
    "stated_rate",
    "to_mono_resampled",
]

MIN_RATE, MAX_RATE = 1_000, 1_000_000  # Hz; outside, a header is damaged and conversion would explode in size
MAX_CHANNELS = 64  # of an array; more means that its axes are the other way round
BLOCK_SECONDS = 10.0
_PART_SECONDS = 1.0  # of a block where a part is wanted: little is decoded beyond its end
_BLOCK_VALUES = 2**23  # most values decoded at once, whatever the rate and channel count: 32 MB
_UNKNOWN_FRAMES = 2**62  # libsndfile's frame count of a FLAC stream that does not state one
_SCALE = {"int16": 2.0**15, "int32": 2.0**31}
# libsndfile repairs a header that promises more than the file holds, and says so only in its log.
_PROMISE = re.compile(r"^\s*(?:data|Data Size|SSND|riff|Riff size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
# Formats without a length of their own: what libsndfile reports is an estimate.
_STREAM_FORMATS = ("MP3", "MPEG", "OGG")
# Codings in which a sample does not depend on how the decoder came there. FLAC's are the PCM ones.
_SEARCHABLE = re.compile("PCM_.*|FLOAT|DOUBLE|ULAW|ALAW")
_AHEAD = 1 << 20  # bytes that a decoder may have read beyond the end of a FLAC stream
_UNREAD = 1 << 14  # bytes behind that end that may be a tag, or read ahead


class _File(soundfile.SoundFile):
    heard = False  # from its first sample to its last

    def seekable(self) -> bool:
        # Otherwise every read is followed by a seek, which streams of unknown length refuse.
        return False


_Sound: TypeAlias = _File | AvFile
# Of files of which parts are read, again and again in training: path, time of change, size, samples before the sound.
_offsets: dict[tuple[str, int, int, int], float] = {}
_MOST_OFFSETS = 10_000


class _NotSearchable(AudioError):
    """A decoder did not find its way to a later sample, as in FLACs with something behind them."""


def blocks(
    recording: Source, target_rate: int, *, block_seconds: float = BLOCK_SECONDS, channel: Channel = "mean"
) -> Generator[np.ndarray, None, None]:
    """Decode block by block: mono float32 arrays (n,) at ``target_rate`` Hz, n >= 1, nominally in [-1, 1].

    ``recording`` is a path, ``"-"`` for standard input, or an open binary file, read from where it stands. ``channel``:
    ``"mean"`` of all, the number of one (from 0), or of each sample the ``"max"``, the one of largest magnitude.
    Memory is bounded by ``block_seconds`` and does not grow with the file. The concatenated samples
    are the same for every block size. Raises FileNotFoundError, PermissionError, or AudioError
    for a file that is unreadable, empty, truncated (where its header states a length), without samples or that channel,
    with NaN or infinite samples or such in the scale of integers; the damage may show after the first blocks.
    Warns with AudioWarning of what it reads in spite of a fault.
    """
    _require_rate("target_rate", target_rate)
    require_channel(channel)
    if not block_seconds > 0:
        raise ValueError(f"block_seconds: got {block_seconds}, allowed: > 0")
    with opened(recording) as source:
        for sound in _sounds(source):
            mono = _decode(sound, source.name, block_seconds, channel=channel)
            yield from _convert(centred(mono, sound.samplerate, source.name), sound.samplerate, target_rate)


def read(recording: Source, target_rate: int, *, channel: Channel = "mean") -> np.ndarray:
    """The whole recording as mono float32 (n,) at ``target_rate`` Hz. Arguments and errors as of :func:`blocks`."""
    return np.concatenate(list(blocks(recording, target_rate, channel=channel)))


def read_part(path: str | os.PathLike[str], target_rate: int, begin: int, end: int) -> np.ndarray:
    """Samples ``begin`` to ``end`` of :func:`read`, bit for bit: (n,), n < end - begin or even 0 where the file ends.

    Nothing after them is decoded, and before them no more than the first two seconds, which tell a constant offset, if
    the file has ``target_rate`` and its format can be searched; damage elsewhere may go unnoticed. Raises as
    :func:`blocks`, and ValueError unless 0 <= begin <= end.
    """
    _require_rate("target_rate", target_rate)
    if not 0 <= begin <= end:
        raise ValueError(f"begin, end: got {begin}, {end}, allowed: 0 <= begin <= end")
    try:
        return _part(path, target_rate, begin, end, search=True)
    except _NotSearchable:
        return _part(path, target_rate, begin, end, search=False)


def _part(path: str | os.PathLike[str], target_rate: int, begin: int, end: int, *, search: bool) -> np.ndarray:
    kept, passed = [np.zeros(0, np.float32)], 0
    with opened(path) as source:
        for sound in _sounds(source):
            searchable = sound.frames < _UNKNOWN_FRAMES and _SEARCHABLE.fullmatch(sound.subtype) is not None
            first, offset = 0, None
            if search and searchable and sound.samplerate == target_rate and begin > passed:
                first = begin - passed
                if first >= sound.frames > 0:
                    passed += sound.frames
                    continue
                state = os.stat(path)
                key = (os.fspath(path), state.st_mtime_ns, state.st_size, passed)
                if (offset := _offsets.get(key)) is None:
                    if len(_offsets) >= _MOST_OFFSETS:
                        _offsets.clear()
                    offset = _offsets[key] = _offset(sound, source.name)
            mono = _decode(sound, source.name, _PART_SECONDS, first)
            done = passed + first
            for block in _convert(centred(mono, sound.samplerate, source.name, offset), sound.samplerate, target_rate):
                kept.append(block[max(0, begin - done) : max(0, end - done)])
                done += len(block)
                if done >= end:
                    return np.concatenate(kept)
            passed = done
    return np.concatenate(kept)


def stated_duration(path: str | os.PathLike[str]) -> float:
    """Seconds by the header, 0.0 where it states none: good for progress, not for results. Raises as :func:`blocks`."""
    with opened(path) as source:
        sound = next(_sounds(source))
        return sound.frames / sound.samplerate if sound.frames < _UNKNOWN_FRAMES else 0.0


def duration(path: str | os.PathLike[str]) -> float:
    """Seconds by the header, and where that states none, by decoding. Raises as :func:`blocks`."""
    seconds = stated_duration(path)
    if seconds:
        return seconds
    rate = stated_rate(path)
    return sum(len(block) for block in blocks(path, rate)) / rate


def stated_rate(path: str | os.PathLike[str]) -> int:
    """The file's own sample rate in Hz. Raises as :func:`blocks`."""
    with opened(path) as source:
        return int(next(_sounds(source)).samplerate)


def to_mono_resampled(array: np.ndarray, rate: int, target_rate: int, *, channel: Channel = "mean") -> np.ndarray:
    """Samples (n,) or (n, channels) at ``rate`` Hz -> mono float32 (m,) at ``target_rate`` Hz, m >= 1.

    Floats are taken as they are, int16 and int32 are scaled to [-1, 1]; ``channel`` as of :func:`blocks`. Raises
    AudioError for no samples, NaN or infinity, floats in the scale of integers, a wrong shape or rate, and TypeError
    for another type; warns as :func:`blocks`.
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
    mixer = Mixer(1 if samples.ndim == 1 else samples.shape[1], channel, "audio")
    mono = mixer.mix(samples[:, None] if samples.ndim == 1 else samples)
    require_range(mono, "audio", 0, rate)
    mixer.finish()
    return np.concatenate(list(_convert(centred([mono], rate, "audio"), rate, target_rate)))


def _sounds(source: Opened) -> Iterator[_Sound]:
    """What the file holds, open, one recording after the other; each is closed before the next."""
    file, size = source.file, source.size
    file.seek(0)
    head = file.read(16)
    if what := kind(head):
        with AvFile(file, source.name, what) as track:
            yield _checked(track, source.name)
        return
    try:
        mended = containers.examine(file, size)
    except AudioError as error:
        raise AudioError(f"{source.name}: {error}") from None
    whole = containers.Mended(b"", 0, size, None)
    if mended:
        parts = [mended]
    elif head[:4] == b"OggS":
        parts = streams.ogg(file, size)
    elif head[:3] == b"ID3" or head[:1] == b"\xff":
        parts = streams.mpeg(file, size) or [whole]
    else:
        parts = [whole]
    with _named(source.name):
        yield from _parts(source, parts)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """libsndfile's errors become AudioErrors that name the file."""
    try:
        yield
    except soundfile.LibsndfileError as error:
        reason = error.error_string.removeprefix("Error : ").rstrip(".")
        raise AudioError(f"{name}: cannot be decoded, damaged or not audio ({reason})") from None


def _parts(source: Opened, parts: list[containers.Mended]) -> Iterator[_Sound]:
    waiting, late = deque(parts), False
    begun = False
    while waiting:
        part = waiting.popleft()
        content = io.BufferedReader(View(source.file, part))
        try:
            sound = _File(content)
        except soundfile.LibsndfileError:
            # Not recognised: an MP3 that begins late.
            if begun or late or not (found := streams.mpeg(source.file, source.size)):
                raise
            waiting, late = deque(found), True
            continue
        begun = True
        if part.warning:
            warn(source.name, part.warning)
        with sound:
            yield _checked(sound, source.name)
            reached, flac = part.start + content.tell(), sound.format == "FLAC"
        if flac:
            following = streams.next_flac(source.file, max(part.start + 4, reached - _AHEAD), source.size)
            if following is not None:
                text = f"another recording begins behind {following} bytes, both are read as one"
                waiting.appendleft(containers.Mended(b"", following, source.size - following, text))
            elif sound.heard and sound.frames < _UNKNOWN_FRAMES and source.size - reached > _UNREAD:
                warn(source.name, f"{source.size - reached} bytes lie behind its stated end and are not read")


def _checked(sound: _Sound, name: str) -> _Sound:
    if not MIN_RATE <= sound.samplerate <= MAX_RATE:
        raise AudioError(f"{name}: sample rate: got {sound.samplerate} Hz, allowed: {MIN_RATE} to {MAX_RATE} Hz")
    for promised, held in _PROMISE.findall(sound.extra_info):
        if int(held) < int(promised) and not containers.placeholder(int(promised)):
            raise AudioError(f"{name}: truncated: header states {promised} bytes, file holds {held}")
    return sound


def _decode(
    sound: _Sound, name: str, block_seconds: float, first: int = 0, *, channel: Channel = "mean"
) -> Iterator[np.ndarray]:
    """Mono blocks at the file's own rate, from sample ``first`` on."""
    rate, stated, done = sound.samplerate, sound.frames, first
    if isinstance(sound, _File) and first:
        try:
            sound.seek(first)
        except soundfile.LibsndfileError as error:
            raise _NotSearchable(f"{name}: cannot be searched, damaged ({error.error_string})") from None
    mixer = Mixer(sound.channels, channel, name)
    size = max(1, min(int(block_seconds * rate), _BLOCK_VALUES // sound.channels))
    # Asked for more than its length, a FLAC decoder runs into whatever lies behind.
    last = stated if sound.format == "FLAC" and stated < _UNKNOWN_FRAMES else _UNKNOWN_FRAMES
    while done < last:
        with _named(name):
            block = sound.read(min(size, last - done), dtype="float32", always_2d=True)
        if not len(block):
            break
        mono = mixer.mix(block)
        require_range(mono, name, done, rate)
        done += len(block)
        yield mono
    if done == 0:
        raise AudioError(f"{name}: holds no samples")
    if done < stated < _UNKNOWN_FRAMES and sound.format not in (*_STREAM_FORMATS, "AV"):
        raise AudioError(f"{name}: truncated: header states {stated / rate:.3f} s, file holds {done / rate:.3f} s")
    if isinstance(sound, _File):
        sound.heard = not first
    mixer.finish()


def _offset(sound: _Sound, name: str) -> float:
    """The constant offset of a file of which a later part is read."""
    start, needed = list[np.ndarray](), int(CENTRE_SECONDS * sound.samplerate)
    for block in _decode(sound, name, CENTRE_SECONDS):
        start.append(block)
        needed -= len(block)
        if needed <= 0:
            break
    return constant_offset(start, sound.samplerate)


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
