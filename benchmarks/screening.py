"""Two judges of what backgrounds hold: the shipped weights' detections and YAMNet's scores; verdicts are made by hand.

python -m benchmarks.screening METADATA SCORES    writes results/backgrounds-judged.csv again, verdicts kept

METADATA: metadata.csv of a folder of sources, with detector_hits. SCORES: the file that benchmarks.outsider --scores
wrote, and its list of files beside it (.txt). YAMNet's columns are its highest score in the recording, of the classes
of JUDGES, at a time in seconds. ``holds``: the classes that a background is taken to hold, after the envelope, the
pitch and the spectrum of the places that either judge named; ``note`` says what was seen there. Nobody listened.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np

from benchmarks.results_files import RESULTS
from benchmarks.yamnet import HOP
from mtfa_fast.files import write_beside

FILE = RESULTS / "backgrounds-judged.csv"
JUDGES = {
    "babycry": ("Baby cry, infant cry",),
    "glassbreak": ("Shatter",),
    "gunshot": ("Gunshot, gunfire", "Machine gun", "Fusillade"),
}
BY_HAND = ("holds", "note")


def judged(metadata: Path, scores: Path) -> list[dict[str, str]]:
    with metadata.open(encoding="utf-8", newline="") as file:
        hits = {Path(r["file"]).name: r["detector_hits"] for r in csv.DictReader(file) if r["class"] == "background"}
    with np.load(scores) as data:
        names, parts = data["names"].tolist(), np.split(data["scores"], np.cumsum(data["patches"])[:-1])
    listed = scores.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
    rows = []
    for path, part in zip(map(Path, listed), parts, strict=True):
        if path.name not in hits:
            continue
        row = {"filename": path.name, "network": hits[path.name]}
        for label, classes in JUDGES.items():
            best = part[:, [names.index(name) for name in classes]].max(axis=1)
            row[f"yamnet_{label}"] = f"{best.max():.2f}@{best.argmax() * HOP:.1f}"
        rows.append(row)
    return sorted(rows, key=lambda row: row["filename"])


def main(metadata: str, scores: str) -> None:
    known = {}
    if FILE.exists():
        with FILE.open(encoding="utf-8", newline="") as file:
            known = {row["filename"]: {name: row[name] for name in BY_HAND} for row in csv.DictReader(file)}
    rows = [
        row | known.get(row["filename"], dict.fromkeys(BY_HAND, "")) for row in judged(Path(metadata), Path(scores))
    ]
    with write_beside(FILE, "w") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main(*sys.argv[1:])
