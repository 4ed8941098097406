"""What a container's header says about where its samples lie, and whether the file bears it out.

WAV (RIFF, RIFX, RF64, BW64), Wave64, AIFF, CAF and AU state the size of their samples. libsndfile believes a size that
is too small, and repairs one that is too large without a word. Here both are compared with the file: :func:`examine`
says nothing where they agree, refuses a file that was cut off, and for the rest gives a header that fits, to be read
instead of the file's own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from .errors import AudioError

_SMALL = 1 << 16  # below 2^31, 2^32, ...: such sizes say "as much as there may be", less room for a header
_TAIL = 1 << 20  # where samples have no stated end, chunks behind them are looked for in the last bytes only
_KEPT = 1 << 16  # no chunk that describes samples is longer
_MAX_CHUNKS = 100_000
# Chunks that programs write behind samples; of others only those count that follow a believable end of the samples.
_KNOWN = (
    b"LIST list summ id3  ID3  bext cue  JUNK junk FLLR PAD  iXML axml afsp smpl inst plst fact PEAK umid minf elm1 "
    b"regn levl _PMX NAME AUTH ANNO (c)  COMT MARK INST APPL MIDI AESD CHAN uuid free info strg mark edct peak ovvw"
)
_KNOWN_CHUNKS = frozenset(_KNOWN[i : i + 4] for i in range(0, len(_KNOWN), 5))
_NESTED = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"riff")  # a whole file, not a chunk of one
_W64_RIFF = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_W64_WAVE = bytes.fromhex("77617665f3acd3118cd100c04f8edb8a")
_W64_TAIL = _W64_WAVE[4:]  # every other chunk is four letters and this


@dataclass(frozen=True)
class Mended:
    """``header`` and ``length`` bytes of the file from ``start`` on: a file whose header is right. ``warning``: why."""

    header: bytes
    start: int
    length: int
    warning: str | None


@dataclass(frozen=True)
class _Form:
    """How one format writes chunks: a name, a size, the content, padding."""

    name: int  # bytes
    size: str  # of struct
    align: int
    whole: bool = False  # the size counts name and size, too

    def header(self, name: bytes, length: int) -> bytes:
        return name + struct.pack(self.size, length + (self.name + struct.calcsize(self.size) if self.whole else 0))


_RIFF, _RIFX = _Form(4, "<I", 2), _Form(4, ">I", 2)
_W64, _CAF = _Form(16, "<Q", 8, whole=True), _Form(4, ">Q", 1)


def examine(file: BinaryIO, size: int) -> Mended | None:
    """None where the header of a file of ``size`` bytes can be believed, or is of another format.

    ``file`` is seekable; where it stands afterwards is not defined. AudioError without the file's name: cut off, or
    several recordings in one.
    """
    file.seek(0)
    head = file.read(40)
    if wave := _wave_form(head):
        return _wave(file, size, *wave)
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return _aiff(file, size, head[8:12])
    if head[:4] == b"caff":
        return _caf(file, size)
    if head[:4] in (b".snd", b"dns."):
        return _au(head, size)
    return None


def chunk(file: BinaryIO, size: int, wanted: bytes) -> tuple[bytes, str] | None:
    """The first bytes of a WAV's first chunk of that name, and their order, ``"<"`` or ``">"``; None without one.

    Behind samples whose size stands in another chunk (RF64) none is found.
    """
    file.seek(0)
    if wave := _wave_form(file.read(40)):
        form, begin = wave
        for name, first, stated in _chunks(file, form, begin, size):
            if name[:4] == wanted:
                file.seek(first)
                return file.read(min(stated, _KEPT)), form.size[0]
    return None


def _wave_form(head: bytes) -> tuple[_Form, int] | None:
    """How a WAV of this head writes its chunks, and where the first one begins; None for another format."""
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return _RIFF, 12
    if head[:4] == b"RIFX" and head[8:12] == b"WAVE":
        return _RIFX, 12
    if head[:16] == _W64_RIFF and head[24:40] == _W64_WAVE:
        return _W64, 40
    return None


def _chunks(file: BinaryIO, form: _Form, begin: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Name, first byte and stated size of each chunk from ``begin`` on."""
    for _ in range(_MAX_CHUNKS):
        length = form.name + struct.calcsize(form.size)
        if begin + length > end:
            return
        file.seek(begin)
        head = file.read(length)
        if len(head) < length:
            return
        stated = struct.unpack(form.size, head[form.name :])[0] - (length if form.whole else 0)
        if stated < 0:
            stated += length  # a size of 0 that should count its own header
        yield head[: form.name], begin + length, stated
        begin += length + stated + -stated % form.align


def _behind(file: BinaryIO, form: _Form, begin: int, end: int) -> list[tuple[bytes, int, int]] | None:
    """The chunks from ``begin`` to ``end``; None where something else lies there."""
    found, after = list[tuple[bytes, int, int]](), begin
    for name, first, stated in _chunks(file, form, begin, end):
        if not _is_name(name, form) or first + stated > end:
            break
        found.append((name, first, stated))
        after = first + stated + -stated % form.align
    if after >= end:
        return found
    file.seek(after)
    rest = file.read(16)
    if rest[:3] in (b"TAG", b"ID3") or rest[:8] == b"APETAGEX":
        return found
    # A few bytes of padding do no harm; more of them may be silence.
    return found if end - after <= 8 and not rest.strip(b"\0") else None


def _is_name(name: bytes, form: _Form) -> bool:
    if form is _W64:
        return name[4:] == _W64_TAIL or name == _W64_RIFF
    return all(32 <= letter < 127 for letter in name) and name[:1] != b" "


def _open_end(file: BinaryIO, form: _Form, begin: int, end: int) -> int:
    """Where samples without a believable size end: at the end of the file, or before known chunks that reach it."""
    first = max(begin, end - _TAIL)
    file.seek(first)
    tail = file.read(end - first)
    places = sorted({place for name in _KNOWN_CHUNKS for place in _places(tail, name.ljust(4))})
    for place in places:
        if (first + place - begin) % form.align == 0 and _behind(file, form, first + place, end) is not None:
            return first + place
    return end


def _places(content: bytes, wanted: bytes) -> Iterator[int]:
    place = content.find(wanted)
    while place >= 0:
        yield place
        place = content.find(wanted, place + 1)


def placeholder(stated: int, least: int = 0) -> bool:
    """Sizes that say "not known": nothing, and the largest numbers of 31, 32, 63 and 64 bits or little less."""
    largest = (2**31, 2**32, 2**63, 2**64)
    return stated <= least or any(top - _SMALL <= stated <= top + 1024 for top in largest)


def _judge(file: BinaryIO, form: _Form, begin: int, stated: int, end: int, least: int = 0) -> tuple[int, str | None]:
    """How many bytes from ``begin`` on are samples, and what must be said. ``least``: the size of an empty chunk."""
    held = end - begin
    if stated > held:
        if not placeholder(stated, least):
            raise AudioError(f"truncated: header states {stated} bytes, file holds {held}")
        return _open_end(file, form, begin, end) - begin, None
    after = begin + stated + -stated % form.align
    behind = _behind(file, form, after, end) if after < end else []
    if behind is None and stated % form.align:  # some programs do not pad
        behind = _behind(file, form, after - 1, end)
    if behind is not None:
        for name, first, size in behind:
            if name[:4] in _NESTED:
                at = first - form.name - struct.calcsize(form.size)
                raise AudioError(f"{end - at} bytes behind the stated end are another recording: split the file")
            if size and name[:4] in (b"data", b"SSND") and stated > least:
                raise AudioError(f"{size} bytes of samples in a second {name[:4].decode()!r} chunk: join them in one")
        return stated, None
    length = _open_end(file, form, begin, end) - begin
    if placeholder(stated, least):
        return length, f"was never closed: header states no samples, {length} bytes of them are read to the file's end"
    if held - stated >= 2**32:  # the size wrapped, once or several times
        wrapped = stated + (held - stated) // 2**32 * 2**32
        if _behind(file, form, begin + wrapped + wrapped % 2, end) is not None:
            length = wrapped
    return length, f"header states {stated} bytes of samples, {length - stated} more lie behind them and are read, too"


def _wave(file: BinaryIO, size: int, form: _Form, begin: int) -> Mended | None:
    layout = b""
    long: int | None = None  # the size of RF64 and BW64, which stands in another chunk
    empty = False
    for chunk, first, stated in _chunks(file, form, begin, size):
        name = chunk[:4]
        if name == b"ds64" and stated >= 24:
            file.seek(first + 8)
            long = int.from_bytes(file.read(8), "little")
        elif name == b"fmt " and 14 <= stated <= _KEPT:
            file.seek(first)
            layout = file.read(stated)
        elif name == b"data":
            if form is _RIFF and stated == 2**32 - 1 and long is not None:
                stated = long
            empty = empty or _followed(file, form, first, stated, size)
            if empty and not stated and _followed(file, form, first, stated, size):
                continue  # some recorders write an empty chunk before the one with samples
            length, warning = _judge(file, form, first, stated, size)
            believed = length == stated and not empty
            if believed or not layout or not length:
                return None
            return Mended(_wave_header(form, layout, length), first, length, warning)
    return None


def _followed(file: BinaryIO, form: _Form, first: int, stated: int, size: int) -> bool:
    """Whether an empty chunk of samples has another, with samples or to be judged, behind it."""
    if stated:
        return False
    following = next(_chunks(file, form, first, size), None)
    return following is not None and following[0][:4] == b"data"


def _wave_header(form: _Form, layout: bytes, length: int) -> bytes:
    # Wave64 describes samples as WAV does, and RF64 is WAV with a size of 64 bits.
    small = length < 2**32 - _KEPT
    kind = _RIFX if form is _RIFX else _RIFF
    parts = kind.header(b"fmt ", len(layout)) + layout + bytes(len(layout) % 2)
    if small or form is _RIFX:
        if not small:
            raise AudioError(f"{length} bytes of samples, more than RIFX can state")
        parts += kind.header(b"data", length)
        name = b"RIFX" if form is _RIFX else b"RIFF"
        return kind.header(name, 4 + len(parts) + length) + b"WAVE" + parts
    total = 4 + 36 + len(parts) + 8 + length
    ds64 = _RIFF.header(b"ds64", 28) + struct.pack("<QQQI", total, length, 0, 0)
    unknown = b"\xff\xff\xff\xff"
    return b"RF64" + unknown + b"WAVE" + ds64 + parts + b"data" + unknown


def _aiff(file: BinaryIO, size: int, kind: bytes) -> Mended | None:
    common = b""
    for name, first, stated in _chunks(file, _RIFX, 12, size):
        if name == b"COMM" and 18 <= stated <= _KEPT:
            file.seek(first)
            common = file.read(stated)
        elif name == b"SSND":
            file.seek(first)
            skipped = int.from_bytes(file.read(4), "big")
            start = first + 8 + skipped
            if start > size:
                return None
            length, warning = _judge(file, _RIFX, start, max(stated - 8 - skipped, 0), size)
            if length == stated - 8 - skipped or not common or not length:
                return None
            if length >= 2**32 - _KEPT:
                raise AudioError(f"{length - stated} bytes lie behind the stated end, more than AIFF can state")
            frame = struct.unpack(">H", common[:2])[0] * -(-struct.unpack(">H", common[6:8])[0] // 8)
            common = common[:2] + struct.pack(">I", length // max(frame, 1)) + common[6:]
            parts = _RIFX.header(b"COMM", len(common)) + common + bytes(len(common) % 2)
            parts += _RIFX.header(b"SSND", 8 + length) + bytes(8)
            return Mended(_RIFX.header(b"FORM", 4 + len(parts) + length) + kind + parts, start, length, warning)
    return None


def _caf(file: BinaryIO, size: int) -> Mended | None:
    described = b""
    for name, first, stated in _chunks(file, _CAF, 8, size):
        if name == b"desc" and 32 <= stated <= _KEPT:
            file.seek(first)
            described = file.read(stated)
        elif name == b"data":
            start = first + 4  # of the samples, behind an edit count
            unknown = placeholder(stated, 4)
            length, warning = _judge(file, _CAF, start, stated if unknown and stated else max(stated - 4, 0), size)
            packets = described[8:12] not in (b"lpcm", b"ulaw", b"alaw")  # counted in a chunk of their own
            if length == stated - 4 or not described or packets or not length:
                return None
            header = b"caff" + struct.pack(">HH", 1, 0) + _CAF.header(b"desc", len(described)) + described
            return Mended(header + _CAF.header(b"data", 4 + length) + bytes(4), start, length, warning)
    return None


def _au(head: bytes, size: int) -> Mended | None:
    order = ">" if head[:4] == b".snd" else "<"
    if len(head) < 24:
        return None
    start, stated = struct.unpack(order + "II", head[4:12])
    held = size - start
    if start < 24 or held <= 0 or stated == held:
        return None
    warning = None
    if stated > held:
        if not placeholder(stated):
            raise AudioError(f"truncated: header states {stated} bytes, file holds {held}")
    elif stated == 0:
        warning = f"was never closed: header states no samples, {held} bytes of them are read to the file's end"
    else:
        warning = f"header states {stated} bytes of samples, {held - stated} more lie behind them and are read, too"
    whole = min(held, 2**32 - 1)
    header = head[:4] + struct.pack(order + "II", 24, 2**32 - 1 if whole < held else whole) + head[12:24]
    return Mended(header, start, held, warning)
