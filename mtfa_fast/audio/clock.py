"""When a recording began: by a broadcast WAV's ``bext`` chunk, else by the name that its recorder gave it.

A clock that states no zone gives a naive time, and no zone is guessed. What is no possible time is no time: a day that
no calendar has, eight digits that are a number, a year outside ``YEARS``.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import PurePath
from typing import BinaryIO

from .containers import chunk

YEARS = (1980, 2099)  # first and last: others are clocks that were never set, and numbers
_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[T ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,6}))?)?\s?(Z|[+-]\d\d:?\d\d)?", re.IGNORECASE
)
# 20240131_054500, PREFIX_20240131$054500.123, 20240131T054500+0100, 2024-01-31_05-45-00: between the parts of a date
# stands always the same, and between those of a time.
_NAMED = re.compile(
    r"(?<!\d)(\d{4})(?P<date>[-_.]?)(\d\d)(?P=date)(\d\d)[T$ _-]?(\d\d)(?P<time>[-_.:]?)(\d\d)(?P=time)(\d\d)"
    r"(?:[.,](\d{1,6}))?(?P<zone>Z(?![A-Za-z])|[+-]\d\d:?\d\d)?(?!\d)"
)
_SOUNDTRAP = re.compile(r"\d+\.(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)")
_AUDIOMOTH = re.compile(r"(?=\d*[A-F])([0-9A-F]{8})\.WAV")  # as its first firmware wrote them
_AUDIOMOTH_YEARS = range(2017, 2030)
# bext: description (256), originator (32), its reference (32), then these. Recorders differ in what separates digits.
_BEXT_DATE, _BEXT_TIME, _BEXT_SAMPLES = slice(320, 330), slice(330, 338), slice(338, 346)
_BEXT = re.compile(r"(\d{4})\D(\d\d)\D(\d\d)")
_BEXT_CLOCK = re.compile(r"(\d\d)\D(\d\d)\D(\d\d)")


def start_of(path: str | os.PathLike[str]) -> datetime | None:
    """When the recording ``path`` began, or None where nothing says it; aware where a zone is stated, else naive.

    A file that cannot be read has no clock of its own: whoever decodes it says why.
    """
    if not os.path.isfile(path):  # a pipe can be read once, and its name is nobody's clock
        return None
    with suppress(OSError), open(path, "rb") as file:
        return start_of_open(file, os.fstat(file.fileno()).st_size, path)
    return from_name(path)


def start_of_open(file: BinaryIO, size: int, name: str | os.PathLike[str]) -> datetime | None:
    """The same of a recording of ``size`` bytes that is open, wherever it lies."""
    with suppress(OSError):
        if found := from_header(file, size):
            return found
    return from_name(name)


def from_header(file: BinaryIO, size: int) -> datetime | None:
    """By the ``bext`` chunk of a WAV of ``size`` bytes (EBU Tech 3285): OriginationDate and OriginationTime.

    TimeReference, samples since midnight, gives the fraction of the second, where it is the same time to within one:
    of a file that an editor wrote it is a place in a project. Where the chunk has a date and no time, it is the time.
    """
    found = chunk(file, size, b"bext")
    if found is None:
        return None
    content, order = found
    day = _BEXT.match(content[_BEXT_DATE].decode("ascii", "replace"))
    if not day:
        return None
    clock = _BEXT_CLOCK.match(content[_BEXT_TIME].decode("ascii", "replace"))
    start = _time(*day.groups(), *(clock.groups() if clock else ("0", "0", "0")))
    samples = int.from_bytes(content[_BEXT_SAMPLES], "little" if order == "<" else "big")
    layout = chunk(file, size, b"fmt ")
    rate = int.from_bytes(layout[0][4:8], "little" if order == "<" else "big") if layout else 0
    if start is None or not samples or not rate:
        return start if clock else None
    exact = start.replace(hour=0, minute=0, second=0) + timedelta(seconds=samples % (86_400 * rate) / rate)
    return exact if not clock or abs(exact - start) <= timedelta(seconds=1) else start


def from_name(path: str | os.PathLike[str]) -> datetime | None:
    """By the name of a file: of AudioMoth, Song Meter, SWIFT, SoundTrap and others (docs/clock-times.md).

    A date and a time of six digits each anywhere in it, the first that is possible; AudioMoth's seconds since 1970 as
    eight hexadecimal digits, which are UTC.
    """
    name = PurePath(path).name
    if (hexadecimal := _AUDIOMOTH.fullmatch(name)) and (seconds := int(hexadecimal[1], 16)):
        found = datetime.fromtimestamp(seconds, timezone.utc)
        return found if found.year in _AUDIOMOTH_YEARS else None
    stem = PurePath(path).stem
    if short := _SOUNDTRAP.fullmatch(stem):
        return _time("20" + short[1], *short.groups()[1:])
    match = _NAMED.search(stem)
    while match:
        year, _, month, day, hour, between, minute, second, fraction, zone = match.groups()
        # Behind 05-45-00 a hyphen and digits count recordings.
        counts = bool(zone) and zone.startswith("-") and bool(between)
        if found_time := _time(year, month, day, hour, minute, second, fraction, None if counts else zone):
            return found_time
        match = _NAMED.search(stem, match.start() + 1)
    return None


def parse(text: str) -> datetime:
    """ISO 8601 with date and time: ``2026-05-01T06:00``, with seconds, their fraction, a zone. ValueError else."""
    match = _ISO.fullmatch(text.strip())
    year, month, day, hour, minute, second, fraction, zone = match.groups() if match else ("",) * 8
    found = _time(year, month, day, hour, minute, second or "0", fraction, zone) if match else None
    if found is None or (zone and found.tzinfo is None):
        raise ValueError(
            f"start: got {text!r}, allowed: a date and time such as 2026-05-01T06:00:00+02:00, the zone where it is "
            f"known, from {YEARS[0]} to {YEARS[1]}"
        )
    return found


def _time(
    year: str,
    month: str,
    day: str,
    hour: str,
    minute: str,
    second: str,
    fraction: str | None = None,
    zone: str | None = None,
) -> datetime | None:
    """None for what no calendar and no clock shows."""
    with suppress(ValueError):
        found = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second))
        if YEARS[0] <= found.year <= YEARS[1]:
            return found.replace(microsecond=int((fraction or "0").ljust(6, "0")), tzinfo=_zone(zone))
    return None


def _zone(text: str | None) -> timezone | None:
    """``"Z"``, ``"+0200"``, ``"-03:30"``; None for what no place on Earth has, such as a recording's number."""
    if not text:
        return None
    if text in "Zz":
        return timezone.utc
    minutes = int(text[1:3]) * 60 + int(text[-2:])
    if int(text[-2:]) not in (0, 15, 30, 45) or minutes > 14 * 60:
        return None
    return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes))
