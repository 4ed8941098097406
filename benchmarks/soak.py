"""Random work for as long as wanted: lengths, rates, channels, bad files, threads, two engines. By hand.

    python benchmarks/soak.py --seconds 3600

Every answer must be the one that the recording got when it was alone, bit for bit, every bad file must give its error,
and memory after the first quarter must not grow by more than --most-mb. Exit code 1 otherwise.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import soundfile

from mtfa_fast import Detector

RATES = (8_000, 16_000, 22_050, 44_100, 48_000, 96_000)
SUFFIXES = (".wav", ".flac", ".ogg")


def make_recordings(folder: Path, number: int, rng: np.random.Generator) -> list[Path]:
    """Noise with bursts, 1 sample to 40 s, 1 to 4 channels; every fifth is damaged."""
    paths = []
    for i in range(number):
        rate = int(rng.choice(RATES))
        samples = max(1, int(rate * 40 * rng.random() ** 3))
        wave = 0.05 * rng.standard_normal((samples, int(rng.integers(1, 5))))
        start = int(rng.integers(samples))
        wave[start : start + rate // 4] *= 8
        path = folder / f"{i:03d}{SUFFIXES[i % len(SUFFIXES)]}"
        soundfile.write(path, np.clip(wave, -1, 1), rate)
        if i % 5 == 4:
            content = bytearray(path.read_bytes())
            if i % 2:
                del content[len(content) // 2 :]
            else:
                content[: len(content) // 3] = rng.bytes(len(content) // 3)
            path.write_bytes(content)
        paths.append(path)
    return paths


def answer(detector: Detector, path: Path) -> bytes | str:
    """Frame probabilities, or the kind of error."""
    try:
        return detector(path).probabilities.tobytes()
    except (OSError, ValueError) as error:
        return type(error).__name__


def resident_mb() -> float:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--recordings", type=int, default=40)
    parser.add_argument("--workers", type=int, default=3, help="Threads that ask at the same time.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--most-mb", type=float, default=30.0, help="Growth that is still called flat.")
    options = parser.parse_args()
    precisions = ("fp32", "auto")
    detectors = [Detector.from_pretrained(precision=p, threads=n) for p, n in zip(precisions, (1, 2), strict=True)]
    with tempfile.TemporaryDirectory() as folder:
        paths = make_recordings(Path(folder), options.recordings, np.random.default_rng(options.seed))
        alone = {(k, path): answer(d, path) for k, d in enumerate(detectors) for path in paths}
        bad = sum(isinstance(value, str) for value in alone.values())
        print(f"{len(paths)} recordings, two engines; {bad} of {len(alone)} answers are errors, as they should")
        start, lock = time.monotonic(), threading.Lock()
        done, wrong, memory = 0, 0, list[tuple[float, float]]()

        def work(seed: int) -> None:
            nonlocal done, wrong
            draw = random.Random(seed)
            while (now := time.monotonic() - start) < options.seconds:
                k, path = draw.randrange(len(detectors)), draw.choice(paths)
                same = answer(detectors[k], path) == alone[k, path]
                with lock:
                    done += 1
                    wrong += not same
                    if not memory or now - memory[-1][0] > options.seconds / 40:
                        gc.collect()
                        memory.append((now, resident_mb()))

        with ThreadPoolExecutor(options.workers) as pool:
            list(pool.map(work, range(options.workers)))
    early = max(mb for at, mb in memory if at < max(options.seconds / 4, memory[0][0] + 1e-9) or at == memory[0][0])
    late = max(mb for at, mb in memory if at >= options.seconds / 2)
    print(f"{done} recordings in {time.monotonic() - start:.0f} s, {wrong} other answers than alone")
    print(f"memory: {early:.0f} MB at most in the first quarter, {late:.0f} MB in the second half")
    flat = late - early <= options.most_mb
    print("flat" if flat else f"grows by more than {options.most_mb:g} MB")
    return 0 if flat and not wrong and done else 1


if __name__ == "__main__":
    sys.exit(main())
