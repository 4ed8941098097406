"""Batches of training chunks, and how they come ahead of the step that needs them. Torch-free.

A batch depends on (seed, step, rank) and on nothing that came before. It is made in two parts: ``draw`` decides or
reads, in a thread that runs ahead; ``batch`` makes the arrays where the network is.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

MARGIN = 2  # frames on both sides that are cut off again, so that no chunk sees the zero padding of the STFT


@dataclass(frozen=True)
class Batch:
    """B chunks, as arrays or as tensors of the training device. ``waves`` float32 (B, n) with
    n = (frames + 2 * MARGIN - 1) * hop, so that the log-mel of a wave has MARGIN frames before and after those of
    ``targets`` float32 (B, frames, K). ``log_gain`` float32 (B, D): added to the logarithm of the mel power.
    ``hidden`` bool (B, frames, D): SpecAugment's holes. None: no gain, no holes."""

    waves: Any
    targets: Any
    log_gain: Any = None
    hidden: Any = None


class Chunks(Protocol):
    """Where batches come from."""

    def draw(self, step: int, rank: int = 0) -> Any: ...

    def batch(self, drawn: Any) -> Batch: ...


def frame_targets(onset: float, offset: float, frames: int, shift: int = 0) -> slice:
    """Frames of an event, times in hops: floor(onset) to ceil(offset), less ``shift``, clipped to 0..frames."""
    first, last = int(np.floor(onset)) - shift, int(np.ceil(offset)) - shift
    return slice(min(max(first, 0), frames), min(max(last, 0), frames))


def prefetch(chunks: Chunks, steps: Iterable[int], rank: int = 0, depth: int = 3) -> Iterator[tuple[int, Any]]:
    """(step, what it drew) in order, made ahead by one thread. An error in the thread is raised here."""
    ready: queue.Queue[tuple[int, Any] | BaseException | None] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: tuple[int, Any] | BaseException | None) -> bool:
        while not stop.is_set():
            try:
                ready.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for step in steps:
                if not put((step, chunks.draw(step, rank))):
                    return
            put(None)
        except BaseException as error:  # handed to the consumer
            put(error)

    thread = threading.Thread(target=work, name="mtfa-fast-chunks", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
