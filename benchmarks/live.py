"""Live streams: a day of sound through one, and many at once beside the offline engine.

python -m benchmarks.live day       24 hours through one stream of the shipped network: memory, bits of another cut
python -m benchmarks.live streams   64 streams of the paper's network: times real time, beside recordings, and delay
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks.results_files import RESULTS
from mtfa_fast import Detector
from mtfa_fast.config import Config
from mtfa_fast.engine.cpu import CpuEngine
from mtfa_fast.files import write_json
from mtfa_fast.live import CHUNK, LOOK_AHEAD, LiveStream, push_together
from mtfa_fast.measuring.machine import environment
from mtfa_fast.weights import Weights, expected_shapes

MINUTE = 60


def sound(rate: int, seconds: int, seed: int = 0) -> np.ndarray:
    """Noise of changing loudness, float32 (n,)."""
    rng, times = np.random.default_rng(seed), np.arange(rate * seconds) / rate
    return (rng.standard_normal(len(times)) * 0.1 * (1.1 + np.sin(times))).astype(np.float32)


def resident() -> int:
    """Bytes of this process that are in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def day(hours: float) -> dict[str, object]:
    """Pushes minutes, in seconds and in other cuts, through two streams; the second one's bits are the first one's."""
    detector = Detector.from_pretrained()
    rate = detector.config.features.sample_rate
    minute = sound(rate, MINUTE)
    memory: list[int] = []
    digests = []
    start = time.perf_counter()
    for size, minutes in ((rate, round(hours * 60)), (7_777, 10)):
        stream, digest, checked = detector.engine.live(CHUNK, LOOK_AHEAD), hashlib.sha256(), ""
        for i in range(minutes):
            block = np.roll(minute, 97 * i)
            for first in range(0, len(block), size):
                rows = stream.push(block[first : first + size])
                digest.update(rows.tobytes())
            if i == 9:
                checked = digest.hexdigest()
            if minutes > 10:
                memory.append(resident())
                if i % 60 == 59:
                    print(
                        f"{(i + 1) / 60:.0f} h: {min(memory[1:]) / 1e6:.2f} to {max(memory[1:]) / 1e6:.2f} MB",
                        flush=True,
                    )
        digests.append(checked)
        if minutes > 10:
            seconds = time.perf_counter() - start
    assert digests[0] == digests[1], "another cut gave other bits"
    return {
        "hours": hours,
        "times_real_time": hours * 3_600 / seconds,
        "megabytes_after_the_first_minute": [min(memory[1:]) / 1e6, max(memory[1:]) / 1e6],
        "same_bits_in_another_cut": True,
    }


class Seconds:
    """From here on: by the clock, and of the processor."""

    def __init__(self) -> None:
        self._begin = time.perf_counter(), time.process_time()

    def rates(self, sound: float) -> tuple[float, float]:
        """Seconds of sound for each of both."""
        return sound / (time.perf_counter() - self._begin[0]), sound / (time.process_time() - self._begin[1])


def streams(count: int, seconds: int) -> dict[str, object]:
    """All together as fast as they go, then at real time as many as the machine keeps up with."""
    config = Config()
    rng = np.random.default_rng(0)
    tensors = {n: rng.random(s, dtype=np.float32) * 0.05 + 0.01 for n, s in expected_shapes(config).items()}
    engine = CpuEngine(Weights(config, tensors))
    rate, hop = config.features.sample_rate, config.features.hop
    wave = sound(rate, 30)

    def offline() -> tuple[float, float]:
        start = Seconds()
        with ThreadPoolExecutor(2) as pool:  # as a detector does with two recordings
            list(pool.map(engine.detect_wave, [wave, wave]))
        return start.rates(2 * 30)

    def live() -> tuple[float, float]:
        many = [LiveStream(engine, config, sample_rate=rate) for _ in range(count)]
        block = wave[: CHUNK * hop]
        for _ in range(9):  # until the first chunks have been answered
            push_together([(stream, block) for stream in many])
        rounds = max(round(seconds * rate / len(block)), 1)
        start = Seconds()
        for _ in range(rounds):
            push_together([(stream, block) for stream in many])
        return start.rates(count * rounds * len(block) / rate)

    rates = np.array([(offline(), live()) for _ in range(7)])  # in turns, so that a disturbance hits both
    print(rates.round(1).tolist(), flush=True)
    recordings, together = np.median(rates[..., 0], 0).tolist()
    share, of_cpu = np.median(rates[:, 1] / rates[:, 0], 0).tolist()
    late = at_real_time(engine, config, max(int(0.7 * together), 1), wave)
    return {
        "streams": count,
        "offline_times_real_time": recordings,
        "live_times_real_time": together,
        "share": share,
        "share_by_processor_time": of_cpu,  # what other programs take from the machine does not change it
        "at_real_time": late,
    }


def at_real_time(engine: CpuEngine, config: Config, count: int, wave: np.ndarray) -> dict[str, object]:
    """Threads push blocks of 0.1 s when they are due; how long after its last sample each is computed."""
    rate = config.features.sample_rate
    block, rounds = rate // 10, 60
    delays: list[float] = []
    lock = threading.Lock()
    begin = time.perf_counter() + 0.5

    def station(i: int) -> None:
        own, stream = [], LiveStream(engine, config, sample_rate=rate)
        for n in range(rounds):
            due = begin + (n + 1 + i / count) * block / rate
            time.sleep(max(due - time.perf_counter(), 0))
            stream.push(wave[n * block : (n + 1) * block])
            own.append(time.perf_counter() - due)
        with lock:
            delays.extend(own[20:])

    threads = [threading.Thread(target=station, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    middle, last = np.percentile(delays, [50, 99])
    return {"streams": count, "median_milliseconds": 1e3 * float(middle), "p99_milliseconds": 1e3 * float(last)}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["day", "streams"])
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=1, help="of each stream in one measurement")
    options = parser.parse_args(arguments)
    found = day(options.hours) if options.what == "day" else streams(options.count, options.seconds)
    print(found)
    engine = CpuEngine(Weights.load("rare-events"))
    facts = {"isa": engine.isa, "precision": engine.precision}
    write_json(RESULTS / f"live-{options.what}.json", environment(engine.threads) | facts | found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
