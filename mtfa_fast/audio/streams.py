"""Where recordings begin and end in formats that are a row of frames: MP3, Ogg, FLAC.

Files of these formats are joined with ``cat``, begin late, or lack the frame that states their length; libsndfile reads
the first recording, as far as its stated or estimated length goes, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from .containers import Mended

_SEARCHED = 1 << 24  # bytes in which the first MPEG frame is looked for
_IN_A_ROW = 3  # frames that must follow each other: two bytes look like a frame's first in one of 2000 places
_BLOCK = 1 << 16
_BITRATES = {  # kbit/s by (MPEG 1?, layer)
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAME = 0xFFFE0C00  # bits of a header that do not change within a stream: sync, version, layer, rate


def mpeg(file: BinaryIO, size: int) -> list[Mended]:
    """Every recording of an MP3 (or MPEG layer I or II) file, in order; none where the file is not one.

    A single recording whose first frame states its size rightly comes as the whole file, without a warning.
    """
    begin = _after_id3(file, 0)
    first = _first_frame(file, begin, min(size, begin + _SEARCHED))
    if first is None and begin:
        begin = 10
        first = _first_frame(file, begin, min(size, begin + _SEARCHED))
    if first is None:
        return []
    frames, stated = _xing(file, first)
    late = f"{first - begin} bytes before its first frame are no sound" if first > begin else None
    if stated and frames and 0 <= size - first - stated < 128 and late is None:
        return [Mended(b"", 0, size, None)]
    found = list(_recordings(file, first, size))
    warnings = [late] if late else []
    if len(found) > 1:
        warnings.append(f"{len(found)} recordings one behind the other are read as one")
    if stated > (held := size - first) and len(found) == 1:
        warnings.append(f"was cut off: its first frame states {stated} bytes, {held} are there")
    warning = "; ".join(warnings) or None
    return [Mended(r.header, r.start, r.length, None if i else warning) for i, r in enumerate(found)]


def _recordings(file: BinaryIO, first: int, size: int) -> Iterator[Mended]:
    place: int | None = first
    while place is not None:
        frames, _ = _xing(file, place)
        head = _header(file, place)
        end, count = place, 0
        while (length := frame_length(header := _header(file, end))) and end + length <= size:
            if (header ^ head) & _SAME or (count and _xing(file, end)[0]) or (frames and count > frames):
                break
            end, count = end + length, count + 1
        # A frame without sound that states how many follow, as encoders write it; otherwise the length is guessed from
        # the first frames, and what lies behind the guess is not decoded.
        made = b"" if frames or (head >> 17) & 3 != 1 else _count_frame(head, count, end - place)
        if count >= 2 or place == first:
            # Of a last, cut frame the decoder takes what it can.
            yield Mended(made, place, (size if size - end < 128 else end) - place, None)
        place = _first_frame(file, end if end > place else place + 1, size)


def frame_length(header: int) -> int:
    """Bytes of the MPEG audio frame with this header of 32 bits, 0 where it is none (or of free format)."""
    version, layer, rate = (header >> 19) & 3, 4 - ((header >> 17) & 3), (header >> 10) & 3
    bits, padding = (header >> 12) & 15, (header >> 9) & 1
    if header >> 21 != 0x7FF or version == 1 or layer == 4 or rate == 3 or bits in (0, 15):
        return 0
    bitrate = _BITRATES[version == 3, layer][bits - 1] * 1000
    hertz = (44_100, 48_000, 32_000)[rate] >> (0, 1, 1, 2)[3 - version]
    if layer == 1:
        return (12 * bitrate // hertz + padding) * 4
    return (144 if version == 3 or layer == 2 else 72) * bitrate // hertz + padding


def _header(file: BinaryIO, place: int) -> int:
    file.seek(place)
    head = file.read(4)
    return int.from_bytes(head, "big") if len(head) == 4 else 0


def _after_id3(file: BinaryIO, place: int) -> int:
    """First byte behind the ID3v2 tags at ``place``."""
    while True:
        file.seek(place)
        head = file.read(10)
        if len(head) < 10 or head[:3] != b"ID3" or max(head[6:]) > 127:
            return place
        place += 10 + sum(part << shift for part, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        place += 10 if head[5] & 16 else 0


def _first_frame(file: BinaryIO, begin: int, end: int) -> int | None:
    """First place from which frames follow each other; of the last recording fewer may be left."""
    while begin < end:
        file.seek(begin)
        block = file.read(min(_BLOCK, end - begin) + 3)
        place = block.find(0xFF)
        while 0 <= place < _BLOCK and place + 3 < len(block):
            if _in_a_row(file, begin + place, int.from_bytes(block[place : place + 4], "big")):
                return begin + place
            place = block.find(0xFF, place + 1)
        begin += _BLOCK
    return None


def _in_a_row(file: BinaryIO, place: int, head: int) -> bool:
    header = head
    for _ in range(_IN_A_ROW):
        length = frame_length(header)
        if not length or (header ^ head) & _SAME:
            return False
        place += length
        header = _header(file, place)
    return True


def _side_info(header: int) -> int:
    mono = (header >> 6) & 3 == 3
    return (17 if mono else 32) if (header >> 19) & 3 == 3 else (9 if mono else 17)


def _xing(file: BinaryIO, place: int) -> tuple[int, int]:
    """Frames and bytes that the first frame states, 0 for what it does not."""
    header = _header(file, place)
    file.seek(place + 4 + _side_info(header))
    tag = file.read(16)
    if len(tag) < 16 or tag[:4] not in (b"Xing", b"Info"):
        return 0, 0
    flags = tag[7]
    frames = int.from_bytes(tag[8:12], "big") if flags & 1 else 0
    at = 12 if flags & 1 else 8
    return frames, int.from_bytes(tag[at : at + 4], "big") if flags & 2 else 0


def _count_frame(header: int, frames: int, length: int) -> bytes:
    header = header & ~0xF200 | 0x9000 | 1 << 16  # a bitrate at which the frame is long enough; no padding, no checksum
    size = frame_length(header)
    tag = b"Xing" + (3).to_bytes(4, "big") + frames.to_bytes(4, "big") + (length + size).to_bytes(4, "big")
    return (header.to_bytes(4, "big") + bytes(_side_info(header)) + tag).ljust(size, b"\0")


def ogg(file: BinaryIO, size: int) -> list[Mended]:
    """Every link of a chained Ogg file, in order; none where the file is not Ogg."""
    starts, place, opening = list[int](), 0, False
    while place < size:
        file.seek(place)
        head = file.read(27 + 255)
        if len(head) < 27 or head[:4] != b"OggS":
            break
        first = bool(head[5] & 2)  # several streams side by side all begin before the first goes on
        if first and not opening:
            starts.append(place)
        opening = first
        place += 27 + head[26] + sum(head[27 : 27 + head[26]])
    if len(starts) == 1:
        return [Mended(b"", 0, size, None)]
    ends = [*starts[1:], size]
    text = f"{len(starts)} recordings one behind the other are read as one"
    return [Mended(b"", begin, end - begin, None if begin else text) for begin, end in zip(starts, ends, strict=True)]


def next_flac(file: BinaryIO, begin: int, size: int) -> int | None:
    """Where the next FLAC stream begins, at ``begin`` or later."""
    magic = b"fLaC\0\0\0\x22"
    while begin < size:
        file.seek(begin)
        block = file.read(_BLOCK + len(magic))
        if (place := block.find(magic)) >= 0:
            return begin + place
        begin += _BLOCK
    return None
