"""Makes examples/rare_events.flac and its annotation from freely licensed recordings of the test split.

    python examples/make_recording.py FOLDER_OF_RECORDINGS

The recordings and their authors are named in examples/ATTRIBUTION.md. Levels follow the official mixing
recipe (mtfa_fast/data/mixing.py), at 0 dB to 6 dB event-to-background ratio.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import soundfile

from mtfa_fast.data.mixing import ANTI_CLIPPING, event_gain

RATE = 44_100
BACKGROUND = "backgrounds/home_fs132534_01.flac"
EVENTS = [  # file, start and end in it, onset in the mixture (seconds), event-to-background ratio (dB)
    ("events/babycry/babycry_fs211527_02.flac", 0.05, 2.4296, 4.3, 3.0),
    ("events/glassbreak/glassbreak_fs677734_01.flac", 0.005, 0.9628, 13.7, 6.0),
    ("events/gunshot/gunshot_fs385812_01.flac", 0.0, 0.7034, 22.4, 6.0),
]


def main(folder: Path, out: Path) -> None:
    background, rate = soundfile.read(folder / BACKGROUND)
    assert rate == RATE
    mixture, lines = background[: 30 * RATE].copy(), []
    for file, start, end, onset, ebr in EVENTS:
        event = soundfile.read(folder / file)[0][int(start * RATE) : int(end * RATE)]
        at = slice(int(onset * RATE), int(onset * RATE) + len(event))
        mixture[at] += event_gain(event, background[at], ebr) * event
        lines.append(f"{onset:.3f}\t{onset + len(event) / RATE:.3f}\t{Path(file).parent.name}\n")
    mixture *= ANTI_CLIPPING
    assert np.abs(mixture).max() < 1
    soundfile.write(out / "rare_events.flac", mixture, RATE, subtype="PCM_16")
    (out / "rare_events.txt").write_text("".join(lines))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent)
