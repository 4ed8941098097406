"""Whole-network inference on a GPU through torch, Triton and CUDA: the same methods as the C++ engine, and batches.

The trunk runs at few shapes: whole clips of one length, or windows of one of a few sizes (:mod:`..tiles`) with what
surrounds them, in which every kept frame sees exactly what it would see in the whole recording. So recordings of any
lengths share a batch, and memory does not grow with them. The recurrent part runs over whole recordings; in a batch of
unequal ones each one's backward direction starts at its own end.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import ops
from ...weights import Weights
from ..cpu import PRECISIONS
from ..tiles import HALO_FRAMES, STEP, padded, windows
from .blocks import Choice, Timer, seconds
from .device import Device, Pending
from .graphs import Programs
from .network import Network
from .stream import Batcher, Clip, GpuStream

LOG = logging.getLogger(__name__)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BACKENDS = ("auto", "triton", "reference")

SIZES = (384, 512, 768, 1_024, 1_536, 2_048)  # frames of a window; shorter clips run whole
BATCH_FRAMES = 48 * 1_024  # of the trunk at a time, all windows together: 32 clips of 30 s; 5 GB in half precision
RECURRENT_FRAMES = 2**20  # of the recurrent part at a time: 0.8 GB a layer in half precision
TOGETHER = 4  # clips of one length, from which on they run whole: as many as the smallest batch that fills a GPU


@dataclass(frozen=True)
class Detections:
    """What :meth:`GpuEngine.detect` leaves on the device; nothing has waited for it yet.

    ``probabilities`` (B, T, K) float32, zero behind a clip's own ``frames``; ``runs`` (B, K, ceil(T / 2), 2) and
    ``counts`` (B, K) int32: first frame and last + 1 of each event, as of :func:`mtfa_fast.ops.detect_runs`.
    """

    probabilities: Tensor
    runs: Tensor
    counts: Tensor
    frames: tuple[int, ...]


class GpuEngine:
    """The network of ``weights`` on a torch device.

    ``precision``: ``"fp32"`` (without tf32), ``"bf16"``, ``"fp16"``, or ``"auto"``: bf16 on a GPU that multiplies it,
    else fp32. ``backend``: of every op, ``"auto"`` (the fastest that can), ``"triton"`` or ``"reference"``, which run
    or raise their reason. ``graphs``: shapes that come again become CUDA graphs. ``batch_frames``: of the trunk at a
    time; where memory ends it is quartered once. ValueError on anything else. Any number of threads may use one engine.

    On a CPU the same code runs without streams and graphs, for tests.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        device: str | torch.device = "cuda",
        precision: str = "auto",
        backend: str = "auto",
        graphs: bool = True,
        batch_frames: int = BATCH_FRAMES,
        timer: Timer = seconds,
    ) -> None:
        if precision not in (*PRECISIONS, "fp16"):
            raise ValueError(f"precision: got {precision!r}, allowed: {', '.join(PRECISIONS)}, fp16")
        if backend not in BACKENDS:
            raise ValueError(f"backend: got {backend!r}, allowed: {', '.join(BACKENDS)}")
        if not isinstance(batch_frames, int) or batch_frames < SIZES[-1]:
            raise ValueError(f"batch_frames: got {batch_frames!r}, allowed: an integer >= {SIZES[-1]}")
        reason = "asked for"
        if precision == "auto":
            fast = torch.device(device).type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
            precision = "bf16" if fast else "fp32"
            reason = f"{device} {'multiplies' if fast else 'has no fast'} bf16"
        self._device = Device(device, exact=precision == "fp32")
        self.device, self.precision, self._reason = self._device.device, precision, reason
        self.config = weights.config
        self._batch_frames, self._shrunk = batch_frames, False
        with self._device.working():
            choice = Choice(backend, timer=timer)
            self._network = Network(weights, self.device, DTYPES[precision], backend=backend, choice=choice)
            self._window, self._mel = (
                torch.from_numpy(weights.tensors[f"features.{name}"]).to(self.device) for name in ("window", "mel")
            )
        self._programs = Programs(self._device.capture() if graphs else None)
        self._batcher = Batcher[Clip, Tensor](self._start, limit=64)

    def probabilities(self, log_mel: np.ndarray) -> np.ndarray:
        """Raw log-mel (T, D) or (B, T, D), T >= 1 -> frame probabilities float32 (T, K) or (B, T, K)."""
        array = np.asarray(log_mel, np.float32)
        bands = self.config.features.mel_bands
        if array.ndim not in (2, 3) or array.shape[-1] != bands or array.shape[-2] < 1:
            raise ValueError(f"log_mel: got shape {array.shape}, allowed: (T >= 1, {bands}) or (B, T >= 1, {bands})")
        batch = array.reshape(-1, *array.shape[-2:])
        if not len(batch):
            return np.zeros((0, array.shape[1], len(self.config.classes)), np.float32)
        return np.stack(self.probabilities_of(list(batch))).reshape(*array.shape[:-1], -1)

    def probabilities_of(self, log_mels: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Raw log-mel (T, D) each, of any lengths, in one batch -> frame probabilities (T, K) each.

        The same numbers as for each alone, but for the order of sums in which a library's kernels may differ by shape.
        """
        bands = self.config.features.mel_bands
        arrays = [np.asarray(array, np.float32) for array in log_mels]
        for i, array in enumerate(arrays):
            if array.ndim != 2 or array.shape[1] != bands or len(array) < 1:
                raise ValueError(f"log_mels[{i}]: got shape {array.shape}, allowed: (T >= 1, {bands})")
        if not arrays:
            return []
        there = self._device.upload(np.concatenate(arrays))
        with self._device.working():
            parts = there.split([len(array) for array in arrays])
            answers = self._start([Clip(part, len(part)) for part in parts])
        return [_numpy(answer()) for answer in answers]

    def detect_wave(self, wave: np.ndarray) -> np.ndarray:
        """Mono float32 samples (n,), n >= 1, at the config's rate -> frame probabilities float32 (1 + n // hop, K)."""
        stream = self.stream()
        stream.push(wave)
        return stream.finish()

    def stream(self) -> GpuStream:
        """A recording to be pushed in blocks."""
        return GpuStream(self)

    def log_mel(self, wave: np.ndarray | Tensor) -> Tensor:
        """Mono samples (..., n), n >= 1 -> raw log-mel (..., 1 + n // hop, D) on the device, float32."""
        with self._device.called_from(*([wave] if isinstance(wave, Tensor) and wave.is_cuda else [])) as hand_over:
            frames: Tensor = hand_over(self._log_mel(wave))
        return frames

    def network(self, log_mel: Tensor) -> Tensor:
        """Raw log-mel (B, T, D) on the engine's device -> probabilities (B, T, K) there; nothing waits."""
        bands = self.config.features.mel_bands
        if log_mel.ndim != 3 or log_mel.shape[1] < 1 or log_mel.shape[2] != bands or log_mel.device != self.device:
            given = f"{tuple(log_mel.shape)} on {log_mel.device}"
            raise ValueError(f"log_mel: got {given}, allowed: (B, T >= 1, {bands}) on {self.device}")
        if not len(log_mel):
            return log_mel.new_empty(0, log_mel.shape[1], len(self.config.classes), dtype=torch.float32)
        with self._device.called_from(log_mel) as hand_over:
            answer: Tensor = hand_over(self._guarded(lambda: self._equal(log_mel.float())))
        return answer

    def detect(self, waves: Tensor | Sequence[Tensor]) -> Detections:
        """Mono samples (B, n), or (n,) each of any lengths, on the engine's device -> events there; nothing waits.

        Section 3.1 of the paper from spectrogram to decision, with the config's thresholds and filters.
        """
        for i, wave in enumerate(waves):
            if wave.ndim != 1 or len(wave) < 1 or wave.device != self.device:
                given = f"{tuple(wave.shape)} on {wave.device}"
                raise ValueError(f"waves[{i}]: got {given}, allowed: (n >= 1,) on {self.device}")
        if len(waves) == 0:
            raise ValueError("waves: got none, allowed: at least one")
        with self._device.called_from(*waves) as hand_over:
            mels = self._log_mel(waves).unbind() if isinstance(waves, Tensor) else [self._log_mel(w) for w in waves]
            frames = tuple(len(mel) for mel in mels)
            found = self._run([Clip(mel, len(mel)) for mel in mels])
            joined = torch.nn.utils.rnn.pad_sequence(found, batch_first=True)
            classes = self.config.classes
            # Zeros behind a clip's end are what the decision assumes there anyway.
            runs, counts = ops.detect_runs(joined, [c.threshold for c in classes], [c.filter_frames for c in classes])
            return Detections(hand_over(joined), hand_over(runs), hand_over(counts), frames)

    def warmup(self, shapes: Iterable[tuple[int, int]] = ((1, 1_501),)) -> None:
        """Compiles, measures and captures what batches of ``shapes`` (clips, frames) need, so that none waits later.

        Clips of these lengths run whole from then on, however many there are. ValueError on shapes that are not
        positive integers.
        """
        for shape in shapes:
            if len(shape) != 2 or not all(isinstance(n, int) and n >= 1 for n in shape):
                raise ValueError(f"shapes: got {shape}, allowed: (clips >= 1, frames >= 1)")
            clips, frames = shape
            total, size = padded(frames), min(padded(frames), SIZES[-1])
            count = clips if total == size else clips * len(windows(total, size))
            name, function = ("network", self._network.whole) if total == size else ("trunk", self._network.trunk)

            def prepare(count: int = count, size: int = size, name: str = name, function: Any = function) -> None:
                for rows in sorted(set(_chunks(count, self._rows(size)))):
                    x = torch.zeros(rows, size, self.config.features.mel_bands, device=self.device)
                    function(x)
                    self._programs.capture(name, function, x)

            with self._device.working():
                self._guarded(prepare)
                self.network(torch.zeros(clips, frames, self.config.features.mel_bands, device=self.device))
                self._device.synchronize()

    def explain(self) -> dict[str, Any]:
        """Which device, precision, kernels and graphs run, and why."""
        with self._device.working():
            parts = self._network.explain(self.device)
        graphs = [f"{name} {rows} x {frames}" for name, rows, frames in sorted(self._programs.keys)]
        refused = [f"{name} {rows} x {frames}: {why}" for (name, rows, frames), why in self._programs.refused.items()]
        reasons = {
            "device": f"{self.device}: {self._device.name()}, torch {torch.__version__}",
            "precision": f"{self.precision}: {self._reason}",
            **parts,
            "graphs": "; ".join([*graphs, *(f"not {text}" for text in refused)]) or "none captured yet",
            "batch": f"{self._batch_frames} frames at a time" + (", after memory ran out" if self._shrunk else ""),
        }
        return {"device": str(self.device), "precision": self.precision, "graphs": graphs, "reasons": reasons}

    def _log_mel(self, wave: np.ndarray | Tensor) -> Tensor:
        f = self.config.features
        there = wave if isinstance(wave, Tensor) else self._device.upload(wave)
        with self._device.working():
            return ops.log_mel(
                there.to(self.device, torch.float32),
                self._window,
                self._mel,
                hop=f.hop,
                fft_length=f.fft_length,
                log_floor=f.log_floor,
            )

    def _start(self, clips: list[Clip]) -> list[Pending]:
        """Enqueues the clips as one batch and one copy to the host; for each, how to wait for its (T, K)."""
        with self._device.working():
            found = self._run(clips)
            wait = self._device.download(torch.cat(found))
        ends = np.cumsum([0, *(clip.total for clip in clips)]).tolist()
        return [partial(_part, wait, first, last) for first, last in pairwise(ends)]

    def _finish(self, parts: list[Tensor], total: int, start: int, done: list[Tensor]) -> np.ndarray:
        with self._device.working():
            clip = Clip(torch.cat(parts), total, start, done)
        return _numpy(self._batcher(clip))

    def _ahead(self, parts: list[Tensor], start: int, done: list[Tensor]) -> tuple[list[Tensor], int]:
        """Runs the windows that a recording whose end is not known yet will have in any case; frames still needed."""
        size, stride = SIZES[-1], SIZES[-1] - 2 * HALO_FRAMES
        end = start + sum(map(len, parts))
        if end <= len(done) * stride + size:
            return parts, start
        with self._device.working():
            frames = torch.cat(parts)
            while (low := len(done) * stride) + size < end:
                x = frames[low - start : low - start + size]
                kept = self._guarded(partial(self._trunk, [x]))[0]
                done.append(kept[HALO_FRAMES if low else 0 : size - HALO_FRAMES].clone())
            # The last window ends with the recording, so it may begin anywhere in the last `size` frames.
            keep = min(len(done) * stride, max(end - size, start)) // STEP * STEP
            return [frames[keep - start :].clone()], keep

    def _run(self, clips: list[Clip]) -> list[Tensor]:
        """Probabilities (T, K) of each clip, on the device."""
        return self._guarded(lambda: self._mixed(clips))

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
            ends = torch.tensor([lengths[i] for i in group], device=self.device) if unequal else None
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


def _part(wait: Pending, first: int, last: int) -> Tensor:
    return wait()[first:last]


def _numpy(x: Tensor) -> np.ndarray:
    array: np.ndarray = x.numpy()
    return array.copy()  # the pinned buffer is shared by a batch
