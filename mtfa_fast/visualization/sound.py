"""Samples as an HTML audio element that holds them."""

from __future__ import annotations

import base64
import io
from typing import Literal

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

OPUS_RATE = 48_000  # Hz; Opus knows no 44.1 kHz


def sound_element(wave: NDArray[np.float32], rate: int, form: Literal["opus", "flac"]) -> str:
    """Mono samples (n,) as ``<audio id="audio">`` with a data URI, and the note for browsers that cannot play it."""
    wave = np.clip(wave, -1, 1)
    kind, container, coding = "audio/flac", "FLAC", "PCM_16"
    if form == "opus":
        wave, rate = soxr.resample(wave, rate, OPUS_RATE), OPUS_RATE
        kind, container, coding = "audio/ogg", "OGG", "OPUS"
    coded = io.BytesIO()
    with soundfile.SoundFile(coded, "w", rate, 1, format=container, subtype=coding) as file:
        for first in range(0, len(wave), rate):  # long recordings at once overflow libsndfile's stack
            file.write(wave[first : first + rate])
    data = base64.b64encode(coded.getvalue()).decode()
    return (
        f'<audio id="audio" preload="auto" src="data:{kind};base64,{data}"></audio>\n'
        '<p id="trouble" role="status" hidden>This browser cannot play the embedded audio; '
        "<code>--audio flac</code> makes a page that every browser plays.</p>"
    )
