"""Odd recordings made of one good one, and what happens to each: the rows of docs/odd-recordings.md."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import soundfile

RATE = 8_000
SECONDS = 4


def wave() -> np.ndarray:
    """Noise that is never silent, (SECONDS * RATE,)."""
    return np.random.default_rng(3).uniform(-0.4, 0.4, SECONDS * RATE).astype(np.float32)


def encode(samples: np.ndarray, form: str, subtype: str | None = None, **how: object) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, RATE, format=form, subtype=subtype, **how)
    return file.getvalue()


@dataclass(frozen=True)
class Case:
    name: str
    what: str
    make: Callable[[], bytes]
    happens: str  # "read", "read, with a warning", "refused"
    says: str = ""  # a part of the warning or the error
    like: str = "plain.wav"  # whose samples it has; plain.mp3 twice where it is doubled
    times: int = 1


WAV = encode(wave(), "WAV", "PCM_16")
DATA = WAV.index(b"data")
SIZE = len(WAV) - DATA - 8
MP3 = encode(wave(), "MP3", compression_level=0.5)
PLAIN = {"plain.wav": WAV, "plain.mp3": MP3, "plain.ogg": encode(wave(), "OGG", "VORBIS")}
LIST = b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"Recorder 1.2\0\0"
ODD = b"JUNK" + struct.pack("<I", 3) + b"abc\0"
STEREO = np.stack([wave(), wave()], 1)


def wav(stated: int, *, behind: bytes = b"", riff: int | None = None, content: bytes = WAV) -> bytes:
    """The same WAV with other sizes, and something behind its samples."""
    changed = bytearray(content)
    struct.pack_into("<I", changed, 4, (stated + 36 if riff is None else riff) & 0xFFFFFFFF)
    struct.pack_into("<I", changed, content.index(b"data") + 4, stated & 0xFFFFFFFF)
    return bytes(changed) + behind


def of(form: str, mark: bytes, size: str, stated: int, *, behind: bytes = b"", endian: str = "FILE") -> bytes:
    """A file of another format whose size, behind ``mark``, is another."""
    changed = bytearray(encode(wave(), form, "PCM_16", endian=endian))
    struct.pack_into(size, changed, changed.index(mark) + len(mark), stated)
    return bytes(changed) + behind


def rf64(stated: int) -> bytes:
    layout = WAV[12:DATA]
    ds64 = b"ds64" + struct.pack("<IQQQI", 28, 0, stated, 0, 0)
    return b"RF64\xff\xff\xff\xffWAVE" + ds64 + layout + b"data\xff\xff\xff\xff" + WAV[DATA + 8 :]


def w64(stated: int) -> bytes:
    changed = bytearray(encode(wave(), "W64", "PCM_16"))
    struct.pack_into("<Q", changed, changed.index(b"data\xf3\xac\xd3\x11") + 16, stated)
    return bytes(changed)


def aiff(stated: int) -> bytes:
    return of("AIFF", b"SSND", ">I", stated)


def caf(stated: int) -> bytes:
    return of("CAF", b"data", ">q", stated)


def au(stated: int) -> bytes:
    changed = bytearray(encode(wave(), "AU", "PCM_16"))
    struct.pack_into(">I", changed, 8, stated)
    return bytes(changed)


def stating(flac: bytes, samples: int) -> bytes:
    """The same FLAC with another total, 0 for none."""
    changed = bytearray(flac)
    changed[21] &= 0xF0
    changed[22:26] = struct.pack(">I", samples)
    return bytes(changed)


WARNED = "read, with a warning"
OPEN = "was never closed"
MORE = "more lie behind them"
CUT = "truncated: header states"
FLAC = encode(wave(), "FLAC", "PCM_16")
CASES = (
    Case("wrapped.wav", "states a third of its samples, as sizes beyond 4 GiB do", lambda: wav(SIZE // 3 & ~1),
         WARNED, MORE),
    Case("wrapped_list.wav", "the same with a LIST chunk at its end", lambda: wav(SIZE // 3 & ~1, behind=LIST),
         WARNED, MORE),
    Case("streamed.wav", "sizes FFFFFFFF, as pipes write", lambda: wav(0xFFFFFFFF, riff=0xFFFFFFFF), "read"),
    Case("streamed_31.wav", "sizes 7FFFFFFF", lambda: wav(0x7FFFFFFF, riff=0x7FFFFFFF), "read"),
    Case("streamed_list.wav", "the same, and a LIST chunk behind the samples", lambda: wav(0xFFFFFFFF, behind=LIST),
         "read"),
    Case("never_closed.wav", "sizes 0 and 0", lambda: wav(0, riff=0), WARNED, OPEN),
    Case("never_closed_36.wav", "sizes 36 and 0", lambda: wav(0, riff=36), WARNED, OPEN),
    Case("cut_copy.wav", "states 2.2 GB", lambda: wav(2_200_000_000), "refused", CUT),
    Case("cut_a_little.wav", "lacks its last sample", lambda: WAV[:-2], "refused", CUT),
    Case("trailing.wav", "LIST, and a chunk of odd size, behind the samples", lambda: WAV + LIST + ODD, "read"),
    Case("id3v1.wav", "an ID3v1 tag behind the samples", lambda: WAV + b"TAG" + bytes(125), "read"),
    Case("empty_first.wav", "an empty data chunk before the one with the samples",
         lambda: WAV[:DATA] + b"data\0\0\0\0" + WAV[DATA:], "read"),
    Case("two_data.wav", "two data chunks with samples", lambda: WAV + WAV[DATA:], "refused", "second 'data' chunk"),
    Case("joined.wav", "two WAVs joined with cat", lambda: WAV + WAV, "refused", "are another recording"),
    Case("big_endian.wav", "RIFX that states a third", lambda: of("WAV", b"data", ">I", SIZE // 3 & ~1, endian="BIG"),
         WARNED, MORE),
    Case("rf64.wav", "RF64 that states a third", lambda: rf64(SIZE // 3 & ~1), WARNED, MORE),
    Case("rf64_open.wav", "RF64 that was never closed", lambda: rf64(0), WARNED, OPEN),
    Case("rf64_cut.wav", "RF64 that states 5 GB", lambda: rf64(5 * 10**9), "refused", CUT),
    Case("third.w64", "Wave64 that states a third", lambda: w64(24 + (SIZE // 3 & ~7)), WARNED, MORE),
    Case("open.w64", "Wave64 that was never closed", lambda: w64(24), WARNED, OPEN),
    Case("cut.w64", "Wave64 that states 5 GB", lambda: w64(5 * 10**9), "refused", CUT),
    Case("third.aiff", "AIFF that states a third", lambda: aiff(8 + (SIZE // 3 & ~1)), WARNED, MORE),
    Case("open.aiff", "AIFF that was never closed", lambda: aiff(0), WARNED, OPEN),
    Case("cut.aiff", "AIFF that states 2.2 GB", lambda: aiff(2_200_000_000), "refused", CUT),
    Case("third.caf", "CAF that states a third", lambda: caf(4 + (SIZE // 3 & ~1)), WARNED, MORE),
    Case("streamed.caf", "CAF of size -1, as it may be while it is written", lambda: caf(-1), "read"),
    Case("cut.caf", "CAF that states 5 GB", lambda: caf(5 * 10**9), "refused", CUT),
    Case("third.au", "AU that states a third", lambda: au(SIZE // 3 & ~1), WARNED, MORE),
    Case("streamed.au", "AU of unknown size", lambda: au(0xFFFFFFFF), "read"),
    Case("cut.au", "AU that states 2.2 GB", lambda: au(2_200_000_000), "refused", CUT),
    Case("length_unknown.flac", "FLAC that states no length", lambda: stating(FLAC, 0), "read"),
    Case("half_stated.flac", "FLAC that states half of its samples", lambda: stating(FLAC, SECONDS * RATE // 2),
         WARNED, "bytes lie behind its stated end and are not read", "first half"),
    Case("joined.flac", "two FLACs joined with cat", lambda: FLAC + FLAC, WARNED, "another recording begins", times=2),
    Case("joined.ogg", "two Oggs joined with cat", lambda: PLAIN["plain.ogg"] * 2, WARNED, "2 recordings",
         "plain.ogg", 2),
    Case("joined.mp3", "two MP3s joined with cat", lambda: MP3 + MP3, WARNED, "2 recordings", "plain.mp3", 2),
    Case("joined_junk.mp3", "the same with an ID3v1 tag and junk between",
         lambda: MP3 + b"TAG" + bytes(125) + b"junk" * 500 + MP3, WARNED, "2 recordings", "plain.mp3", 2),
    Case("late.mp3", "zeros before the first frame", lambda: bytes(1044) + MP3, WARNED, "1044 bytes before",
         "plain.mp3"),
    Case("late_junk.mp3", "words before the first frame", lambda: b"not sound " * 99 + MP3, WARNED, "990 bytes before",
         "plain.mp3"),
    Case("padded_id3.mp3", "padding behind the ID3 tag",
         lambda: b"ID3\3\0\0\0\0\0\x64" + bytes(2_100) + MP3, WARNED, "2000 bytes before", "plain.mp3"),
    Case("ape_tag.mp3", "an APE tag at the end",
         lambda: MP3 + b"APETAGEX" + struct.pack("<IIII", 2_000, 32, 0, 0) + bytes(8), "read", "", "plain.mp3"),
    Case("opposite.wav", "the right channel is minus the left",
         lambda: encode(STEREO * np.float32([1, -1]), "WAV", "PCM_24"), WARNED, "channels cancel", "silence"),
    Case("dead_channel.wav", "one of two channels is silent",
         lambda: encode(STEREO * np.float32([1, 0]), "WAV", "FLOAT"), WARNED, "channel 1 of 2 silent", "half"),
    Case("int16_scale.wav", "floats in the scale of 16-bit integers", lambda: encode(wave() * 32_768, "WAV", "FLOAT"),
         "refused", "samples as large as"),
    Case("offset.wav", "a constant offset of 0.5", lambda: encode(wave() + 0.5, "WAV", "FLOAT"), WARNED,
         "samples lie around 0."),
)  # fmt: skip


def table() -> str:
    """The rows as the page has them."""
    rows = [f"| `{case.name}` | {case.what} | {case.happens} |" for case in CASES]
    return "\n".join(["| file | what it is like | what happens |", "| --- | --- | --- |", *rows])
