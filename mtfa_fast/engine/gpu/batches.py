"""Which clips and windows go through the network together: few shapes, bounded memory, any lengths."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..tiles import HALO_FRAMES, STEP, padded, windows
from .device import Device
from .graphs import Programs
from .network import Network
from .stream import Clip

LOG = logging.getLogger(__name__)

SIZES = (384, 512, 768, 1_024, 1_536, 2_048)  # frames of a window; shorter clips run whole
BATCH_FRAMES = 48 * 1_024  # of the trunk at a time, all windows together: 32 clips of 30 s; 5 GB in half precision
RECURRENT_FRAMES = 2**20  # of the recurrent part at a time: 0.8 GB a layer in half precision
TOGETHER = 4  # clips of one length, from which on they run whole: as many as the smallest batch that fills a GPU


class Batches:
    """Runs clips through ``network``, ``batch_frames`` of the trunk at a time. Call inside ``device.working()``."""

    def __init__(self, network: Network, programs: Programs, device: Device, batch_frames: int) -> None:
        self._network, self._programs, self._device = network, programs, device
        self._batch_frames, self._shrunk = batch_frames, False

    def run(self, clips: list[Clip]) -> list[Tensor]:
        """Probabilities (T, K) of each clip, on the device."""
        found: list[Tensor] = self._guarded(lambda: self._mixed(clips))
        return found

    def equal(self, batch: Tensor) -> Tensor:
        """Raw log-mel (B >= 1, T, D) -> probabilities (B, T, K)."""
        found: Tensor = self._guarded(lambda: self._equal(batch))
        return found

    def warm(self, batch: Tensor) -> None:
        """Compiles, measures and captures what batches of this shape need."""
        clips, total = len(batch), padded(batch.shape[1])
        size = min(total, SIZES[-1])
        count = clips if total == size else clips * len(windows(total, size))
        name, function = ("network", self._network.whole) if total == size else ("trunk", self._network.trunk)

        def prepare() -> None:
            for rows in sorted(set(_chunks(count, self._rows(size)))):
                x = batch.new_zeros(rows, size, batch.shape[2])
                function(x)
                self._programs.capture(name, function, x)

        self._guarded(prepare)
        self.equal(batch)

    def graphs(self) -> list[str]:
        return [f"{name} {rows} x {frames}" for name, rows, frames in sorted(self._programs.keys)]

    def explain(self) -> dict[str, str]:
        refused = [f"not {name} {b} x {t}: {why}" for (name, b, t), why in self._programs.refused.items()]
        return {
            **self._network.explain(self._device.device),
            "graphs": "; ".join([*self.graphs(), *refused]) or "none captured yet",
            "batch": f"{self._batch_frames} frames at a time" + (", after memory ran out" if self._shrunk else ""),
        }

    def ahead(self, parts: list[Tensor], start: int, done: list[Tensor]) -> tuple[list[Tensor], int]:
        """Runs the windows that a recording whose end is not known yet will have in any case; frames still needed."""
        size, stride = SIZES[-1], SIZES[-1] - 2 * HALO_FRAMES
        end = start + sum(map(len, parts))
        if end <= len(done) * stride + size:
            return parts, start
        frames = torch.cat(parts)
        while (low := len(done) * stride) + size < end:
            x = frames[low - start : low - start + size]
            kept = self._guarded(partial(self._trunk, [x]))[0]
            done.append(kept[HALO_FRAMES if low else 0 : size - HALO_FRAMES].clone())
        # The last window ends with the recording, so it may begin anywhere in the last `size` frames.
        keep = min(len(done) * stride, max(end - size, start)) // STEP * STEP
        return [frames[keep - start :].clone()], keep

    def _guarded(self, work: Callable[[], Any]) -> Any:
        """``work()``, once again with a quarter of the batch if the device's memory was not enough."""
        try:
            return work()
        except torch.OutOfMemoryError as error:
            needed, text = self._batch_frames, str(error).splitlines()[0]
            if self._shrunk:
                raise _out_of_memory(needed, text) from error
        # Outside of the handler, because the error holds on to the tensors of the failed attempt.
        self._shrunk, self._batch_frames = True, max(needed // 4, SIZES[-1])
        self._programs.clear()
        self._device.free()
        LOG.warning("out of memory with %d frames at a time, going on with %d: %s", needed, self._batch_frames, text)
        try:
            return work()
        except torch.OutOfMemoryError as error:
            raise _out_of_memory(self._batch_frames, str(error).splitlines()[0]) from error

    def _mixed(self, clips: list[Clip]) -> list[Tensor]:
        """Clips of one length that fit run whole, the others in windows."""
        lengths: dict[int, list[int]] = defaultdict(list)
        for i, clip in enumerate(clips):
            lengths[padded(clip.total)].append(i)
        found: dict[int, Tensor] = {}
        cut: list[int] = []
        for total, members in lengths.items():
            many = len(members) >= TOGETHER or len(members) == len(clips) or self._programs.holds("network", total)
            if total > SIZES[-1] or not (many or total <= SIZES[0]):
                cut += members
                continue
            alike = all(clips[i].total == clips[members[0]].total for i in members)
            batch = torch.stack([clips[i].frames if alike else _complete(clips[i].frames) for i in members])
            found.update(zip(members, self._equal(batch), strict=True))
        found.update(self._windowed({i: clips[i] for i in cut}))
        return [found[i][: clip.total] for i, clip in enumerate(clips)]

    def _equal(self, batch: Tensor) -> Tensor:
        """(B >= 1, T, D) -> (B, T, K)."""
        frames = batch.shape[1]
        if padded(frames) > SIZES[-1]:
            found = self._windowed({i: Clip(frames_of_one, frames) for i, frames_of_one in enumerate(batch)})
            return torch.stack([found[i] for i in range(len(batch))])[:, :frames]
        chunks = _complete(batch).split(_chunks(len(batch), self._rows(padded(frames))))
        answers = [self._programs.run("network", self._network.whole, x) for x in chunks]
        return (answers[0] if len(answers) == 1 else torch.cat(answers))[:, :frames]

    def _windowed(self, clips: dict[int, Clip]) -> dict[int, Tensor]:
        """Windows of all clips through the trunk, equal sizes together; then recordings of like length."""
        jobs: dict[int, list[tuple[int, Tensor, slice]]] = defaultdict(list)
        pieces: dict[int, list[Tensor]] = {}
        for i, clip in clips.items():
            frames, total = _complete(clip.frames), padded(clip.total)
            size = window_size(total)
            pieces[i] = list(clip.done)
            for window in windows(total, size)[len(clip.done) :]:
                low = window.low - clip.start
                kept = slice(window.first - window.low, window.last - window.low)
                jobs[size].append((i, frames[low : low + size], kept))
        for work in jobs.values():
            outputs = self._trunk([x for _, x, _ in work])
            for (i, _, kept), gi in zip(work, outputs, strict=True):
                pieces[i].append(gi[kept])
        return self._recurrent({i: padded(clip.total) for i, clip in clips.items()}, pieces)

    def _trunk(self, inputs: list[Tensor]) -> list[Tensor]:
        """Windows (size, D) of one size -> (size, 2, 3U) each."""
        found: list[Tensor] = []
        for count in _chunks(len(inputs), self._rows(len(inputs[0]))):
            batch = torch.stack(inputs[len(found) : len(found) + count])
            found += self._programs.run("trunk", self._network.trunk, batch)
        return found

    def _recurrent(self, lengths: dict[int, int], pieces: dict[int, list[Tensor]]) -> dict[int, Tensor]:
        found: dict[int, Tensor] = {}
        for group in like_lengths(lengths):
            longest = lengths[group[0]]
            first = pieces[group[0]][0]
            gi = first.new_zeros(len(group), longest, *first.shape[1:])
            for row, i in enumerate(group):
                torch.cat(pieces.pop(i), out=gi[row, : lengths[i]])
            unequal = lengths[group[-1]] != longest
            ends = self._device.upload(np.array([lengths[i] for i in group])) if unequal else None
            found.update(zip(group, self._network.recurrent(gi, ends), strict=True))
        return found

    def _rows(self, size: int) -> int:
        """Windows of ``size`` frames in a batch: a power of two, so that few shapes occur."""
        return 2 ** ((self._batch_frames // size).bit_length() - 1)


def window_size(total: int) -> int:
    """The size of the windows of ``total`` frames that computes the fewest; the largest of all beyond it.

    It depends on the length alone, and beyond the largest not even on that, so that a recording can be begun before
    its length is known.
    """
    if total > SIZES[-1]:
        return SIZES[-1]
    return min((s for s in SIZES if s <= total), key=lambda s: (s * len(windows(total, s)), -s))


def like_lengths(lengths: dict[int, int]) -> list[list[int]]:
    """Keys in groups, longest first: none less than half as long as its group's first, and no group too large."""
    groups: list[list[int]] = []
    for i in sorted(lengths, key=lambda i: -lengths[i]):
        longest = lengths[groups[-1][0]] if groups else 0
        if not groups or 2 * lengths[i] < longest or (len(groups[-1]) + 1) * longest > RECURRENT_FRAMES:
            groups.append([])
        groups[-1].append(i)
    return groups


def _chunks(count: int, most: int) -> list[int]:
    """``count`` as sizes of batches: full ones, then powers of two."""
    sizes = [most] * (count // most)
    rest = count % most
    return sizes + [2**bit for bit in reversed(range(rest.bit_length())) if rest >> bit & 1]


def _complete(frames: Tensor) -> Tensor:
    """(..., T, D) with the last frame repeated up to a multiple of 8, as the network pads.

    Of a recording whose first frames are gone, too: those that are left begin at a multiple of 8.
    """
    missing = -frames.shape[-2] % STEP
    return torch.cat([frames, *[frames[..., -1:, :]] * missing], dim=-2) if missing else frames


def _out_of_memory(frames: int, text: str) -> RuntimeError:
    return RuntimeError(
        f"the device's memory is not enough for {frames} frames at a time: give the engine a smaller batch_frames "
        f"(at least {SIZES[-1]}), a precision of 16 bits, or the device alone. {text}"
    )
