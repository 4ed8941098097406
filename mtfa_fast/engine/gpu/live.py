"""Live streams on a GPU: windows of the trunk and chunks of the recurrent part, of many streams in one batch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ...arguments import require
from ..tiles import HALO_FRAMES, STEP, needed, padded
from .device import Device, Pending
from .network import Network
from .stream import Frames, LogMel

# What the trunk must have seen behind the last of some frames that end at a multiple of STEP.
AFTER_FRAMES = padded(needed(STEP - 1, STEP - 1)[1] - (STEP - 1))
MOST_FRAMES = 2**16  # of a chunk, and of its look-ahead
T = TypeVar("T")
Item = tuple["GpuLive", np.ndarray]


class GpuLive:
    """One stream; ``together`` pushes it, beside others that are pushed at the same time. Not for several threads."""

    def __init__(
        self,
        frames: Frames,
        chunk: int,
        look_ahead: int,
        together: Callable[[Item], np.ndarray],
        finish: Callable[[GpuLive], np.ndarray],
    ) -> None:
        for name, given, least in (("chunk", chunk, STEP), ("look_ahead", look_ahead, 0)):
            good = isinstance(given, int) and least <= given <= MOST_FRAMES and given % STEP == 0
            require(good, name, given, f"a multiple of {STEP} from {least} to {MOST_FRAMES}")
        self.chunk, self.look_ahead = chunk, look_ahead
        self.delay: int | None = chunk + look_ahead + AFTER_FRAMES + frames.late
        self.frames = frames
        self.mel: Tensor | None = None  # frames from `start` on, which the trunk still needs
        self.start = 0
        self.gates: Tensor | None = None  # what the trunk made, from frame `answered` to frame `done`
        self.answered = self.done = 0
        self.carried: list[Tensor] | None = None  # (U,), the forward directions' states after the last chunk
        self._together, self._finish = together, finish

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Mono float32 (n,), n >= 0 -> the frame probabilities (m, K) that became final. ValueError for NaN."""
        if samples.ndim != 1 or samples.dtype != np.float32:
            raise ValueError(f"samples: got {samples.dtype} {samples.shape}, allowed: float32 (n,)")
        finite = np.isfinite(samples)
        require(bool(finite.all()), "samples", f"NaN or infinity at {int(np.argmin(finite))}", "finite")
        return self._together((self, samples))

    def finish(self) -> np.ndarray:
        """The remaining frames' probabilities, 1 + n // hop in all; ValueError when n is 0."""
        return self._finish(self)

    @property
    def reach(self) -> int:
        """The frame before which the trunk's output is needed for the next chunk."""
        return self.answered + self.chunk + self.look_ahead

    def hear(self, end: int) -> None:
        """Spectrogram up to frame ``end``."""
        if end > self.frames.next:
            new = self.frames.advance(end)
            self.mel = new if self.mel is None else torch.cat([self.mel, new])

    def window(self, end: int) -> Tensor:
        """What the trunk must see for its frames from ``done`` on; they and what follows end at ``end``."""
        assert self.mel is not None
        return self.mel[max(self.done - HALO_FRAMES, 0) - self.start : end - self.start]

    def take(self, made: Tensor, end: int) -> None:
        """The trunk's output of :meth:`window`, of which what lies before ``end`` counts."""
        low = max(self.done - HALO_FRAMES, 0)
        new = made[self.done - low : end - low]
        self.gates = new.clone() if self.gates is None else torch.cat([self.gates, new])
        self.done = end
        assert self.mel is not None
        start = max(end - HALO_FRAMES, 0)
        self.mel, self.start = self.mel[start - self.start :].clone(), start


class LiveBatches:
    """Pushes streams of one network together. ``batch_frames``: of the trunk at a time."""

    def __init__(self, network: Network, device: Device, log_mel: LogMel, batch_frames: int) -> None:
        self._network, self._device, self._log_mel, self._most = network, device, log_mel, batch_frames

    def run(self, items: list[Item]) -> list[Pending]:
        """Takes the samples, computes every chunk that is complete; for each item how to wait for its (m, K)."""
        found: dict[int, list[Tensor]] = {id(stream): [] for stream, _ in items}
        streams = [stream for stream, _ in items]
        with self._device.working():
            for stream, samples in items:
                stream.frames.push(samples)
                if stream.frames.complete >= stream.reach + AFTER_FRAMES:
                    stream.hear(stream.frames.complete)
            while ready := [s for s in streams if s.frames.next >= s.reach + AFTER_FRAMES]:
                windows = [(s, s.window(s.reach + AFTER_FRAMES)) for s in ready]
                for group in alike(windows, lambda item: len(item[1])):
                    size = max(self._most // len(group[0][1]), 1)
                    for part in (group[i : i + size] for i in range(0, len(group), size)):
                        made = self._network.trunk(torch.stack([window for _, window in part]))
                        for (stream, _), gates in zip(part, made, strict=True):
                            stream.take(gates, stream.reach)
                for equal in alike(ready, lambda s: (s.chunk, s.look_ahead)):
                    for stream, rows in zip(equal, self._chunks(equal), strict=True):
                        found[id(stream)].append(rows)
            return [self._answer(found[id(stream)]) for stream in streams]

    def finish(self, stream: GpuLive) -> Pending:
        """The rest of one stream, padded with its last frame to a multiple of STEP."""
        total = stream.frames.total
        found = []
        with self._device.working():
            stream.hear(total)
            assert stream.mel is not None
            missing = padded(total) - total
            stream.mel = torch.cat([stream.mel, *[stream.mel[-1:]] * missing])
            if stream.done < padded(total):
                made = self._network.trunk(stream.window(padded(total)).unsqueeze(0))
                stream.take(made[0], padded(total))
            while stream.answered < total:
                [rows] = self._chunks([stream])
                found.append(rows[: total - (stream.answered - len(rows))])
            return self._answer(found)

    def _chunks(self, streams: list[GpuLive]) -> Iterator[Tensor]:
        """The next chunk of streams whose gates and shapes are equally long."""
        gates, carried = [], []
        for s in streams:
            assert s.gates is not None
            gates.append(s.gates[: s.chunk + s.look_ahead])
            carried.append(s.carried or self._network.rest())
        count = min(streams[0].chunk, len(gates[0]))
        states = [torch.stack(layer) for layer in zip(*carried, strict=True)]
        rows, states = self._network.live(torch.stack(gates), states, count)
        for i, s in enumerate(streams):
            assert s.gates is not None
            s.carried = [layer[i] for layer in states]
            s.gates = s.gates[count:].clone()
            s.answered += count
        return iter(rows)

    def _answer(self, found: list[Tensor]) -> Pending:
        if not found:
            return partial(torch.zeros, 0, len(self._network.config.classes))
        return self._device.download(torch.cat(found))


def alike(items: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """Items in groups of one key each."""
    groups: dict[Hashable, list[T]] = defaultdict(list)
    for item in items:
        groups[key(item)].append(item)
    return list(groups.values())
