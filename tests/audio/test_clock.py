"""When a recording began: names of recorders and names that only look like them, ``bext`` chunks, ``--start``."""

from __future__ import annotations

import os
import struct
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import soundfile

from mtfa_fast.audio import clock
from mtfa_fast.commands.sink import any_clock
from tests.audio.odd import RATE, encode, wave

MORNING = datetime(2024, 1, 31, 5, 45)
MORNING_SAMPLES = (5 * 3600 + 45 * 60) * RATE
QUARTER = MORNING.replace(microsecond=250_000)  # 2000 samples later


def zone(hours: float) -> timezone:
    return timezone(timedelta(hours=hours))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("20240131_054500.WAV", MORNING),  # AudioMoth, and its triggered form
        ("20240131_054500T.WAV", MORNING),
        ("5CB0C3AC.WAV", datetime(2019, 4, 12, 16, 58, 20, tzinfo=timezone.utc)),
        ("S4A01234_20240131_054500.wav", MORNING),  # Song Meter; $: set by GPS; 0+1: its channels
        ("ARIZONA-1_0+1_20240131$054500.wav", MORNING),
        ("PAM_20240131_054500_000.wav", MORNING),
        ("SWIFT001_20240131_054500.wav", MORNING),
        ("20240131_054500+0100.flac", MORNING.replace(tzinfo=zone(1))),
        ("20240131T054500-0330_REC [-27.1234+152.5678].flac", MORNING.replace(tzinfo=zone(-3.5))),
        (
            "S20240131T054500.125+1000_E20240131T060000.000+1000.wav",
            MORNING.replace(microsecond=125_000, tzinfo=zone(10)),
        ),
        ("20240131T054500Z.ogg", MORNING.replace(tzinfo=timezone.utc)),
        ("5146.240131054500.wav", MORNING),  # SoundTrap
        ("rec-20240131054500.mp3", MORNING),
        ("T2024-01-31_05-45-00_0000123.wav", MORNING),
        ("2024-01-31 05.45.00.wav", MORNING),
        ("2024_01_31_05_45_00-0100.wav", MORNING),  # a number, not a zone
        ("20240131_054500-0017.wav", MORNING),
        ("99999999_999999_20240131_054500.wav", MORNING),  # the first that is possible
    ],
)
def test_names_that_say_it(name: str, expected: datetime) -> None:
    found = clock.from_name(os.path.join("20230505_050505", name))
    assert found == expected and found.tzinfo == expected.tzinfo


@pytest.mark.parametrize(
    "name",
    [
        "street.wav",
        "20240131.wav",  # a day without a time
        "10160435.wav",  # a Batlogger's device and number
        "59000000.WAV",  # a number, though as hexadecimal it were 2017
        "5CB0C3AC.wav",  # not as AudioMoth writes it: a checksum
        "DEADBEEF.WAV",
        "0CB0C3AC.WAV",
        "20240231_054500.wav",  # no such day
        "20241331_054500.wav",
        "20240131_244500.wav",
        "20240131_056000.wav",
        "99991231_235959.wav",
        "19040101_000000.wav",
        "20240131_0545.wav",  # a time of day, or the 545th
        "20240131_0545001.wav",
        "120240131_054500.wav",
        "202401310545001.wav",
        "2024-0131_05-45-00.wav",
        "5146.249931054500.wav",
        "take-1234-5678.wav",
    ],
)
def test_names_that_do_not(name: str) -> None:
    assert clock.from_name(name) is None


def broadcast(
    date: bytes, time: bytes, samples: int = 0, *, form: str = "WAV", endian: str = "FILE", behind: bool = False
) -> bytes:
    """A WAV with a ``bext`` chunk before its samples, or behind them."""
    content = encode(wave(), form, "PCM_16", endian=endian)
    order = ">" if content[:4] == b"RIFX" else "<"
    body = bytes(256 + 32 + 32) + date.ljust(10, b"\0") + time.ljust(8, b"\0") + struct.pack(order + "Q", samples)
    chunk = b"bext" + struct.pack(order + "I", 603) + body.ljust(602, b"\0") + b"\r\0"
    at = len(content) if behind else 12
    content = content[:at] + chunk + content[at:]
    return content[:4] + struct.pack(order + "I", len(content) - 8) + content[8:]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (broadcast(b"2024-01-31", b"05:45:00"), MORNING),
        (broadcast(b"2024:01:31", b"05-45-00", behind=True), MORNING),
        (broadcast(b"2024-01-31", b"05:45:00", MORNING_SAMPLES + 2_000, endian="BIG"), QUARTER),
        # The fraction of a second, where both speak of the same one; a place in an editor's project does not.
        (
            broadcast(b"2024-01-31", b"05:45:00", MORNING_SAMPLES + 2_000),
            MORNING.replace(microsecond=250_000),
        ),
        (broadcast(b"2024-01-31", b"05:45:00", 3600 * RATE), MORNING),
        (broadcast(b"2024-01-31", b"", MORNING_SAMPLES), MORNING),
        (broadcast(b"2024-01-31", b""), None),
        (broadcast(b"", b"05:45:00", 3600 * RATE), None),
        (broadcast(b"0000-00-00", b"00:00:00"), None),
        (broadcast(b"2024-02-31", b"05:45:00"), None),
        (broadcast(b"2024-01-31", b"25:00:00"), None),
        (broadcast(b"\xff" * 10, b"\xff" * 8, 2**64 - 1), None),
        (broadcast(b"2024-01-31", b"05:45:00")[:300], None),
        (b"RIFF", None),
        (b"", None),
    ],
)
def test_broadcast_wavs(tmp_path: Path, content: bytes, expected: datetime | None) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    assert clock.start_of(path) == expected
    if expected is not None:
        assert soundfile.info(path).frames == len(wave())  # it is one
    named = tmp_path / "20200101_010101.wav"
    named.write_bytes(content)
    assert clock.start_of(named) == (expected or datetime(2020, 1, 1, 1, 1, 1))
    assert any_clock([str(path), str(path)]) is (expected is not None) and any_clock([str(path), str(named)])


def test_what_is_no_file_has_no_clock(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "20240131_054500.wav")
    for name in ("20240131_054500.wav", "20240131_054501.wav", "-"):
        assert clock.start_of(tmp_path / name) is None and not any_clock([str(tmp_path / name)])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-05-01T06:00:00+02:00", datetime(2026, 5, 1, 6, tzinfo=zone(2))),
        ("2026-05-01 06:00", datetime(2026, 5, 1, 6)),
        ("2026-05-01T06:00:00.25Z", datetime(2026, 5, 1, 6, 0, 0, 250_000, timezone.utc)),
        ("2026-05-01t06:00:00-0930", datetime(2026, 5, 1, 6, tzinfo=zone(-9.5))),
    ],
)
def test_start(text: str, expected: datetime) -> None:
    assert clock.parse(text) == expected and clock.parse(text).tzinfo == expected.tzinfo


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2026-05-01",
        "06:00",
        "2026-02-30T06:00",
        "2026-05-01T24:00",
        "0026-05-01T06:00",
        "2026-05-01T06:00+02:07",
    ],
)
def test_a_start_that_is_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"start: got .*, allowed: a date and time such as 2026-05-01T06:00:00\+02:00"):
        clock.parse(text)
