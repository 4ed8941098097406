"""Whole-network inference on a GPU through torch, Triton and CUDA: the same methods as the C++ engine, and batches.

The trunk runs at few shapes: whole clips of one length, or windows of one of a few sizes (:mod:`..tiles`) with what
surrounds them, in which every kept frame sees exactly what it would see in the whole recording. So recordings of any
lengths share a batch, and memory does not grow with them. The recurrent part runs over whole recordings; in a batch of
unequal ones each one's backward direction starts at its own end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ... import ops
from ...weights import Weights
from ..batcher import Batcher
from .batches import BATCH_FRAMES, SIZES, Batches
from .blocks import Choice, Timer, seconds
from .device import Device, Pending
from .graphs import Programs
from .live import GpuLive, Item, LiveBatches
from .network import Network
from .scores import keep_scored
from .stream import Clip, Frames, GpuStream, GpuWhole

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
BACKENDS = ("auto", "triton", "reference")


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
        if precision not in (allowed := ("auto", *DTYPES)):
            also = " (int8 runs on a CPU)" if precision == "int8" else ""
            raise ValueError(f"precision: got {precision!r}, allowed: {', '.join(allowed)}{also}")
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
        with self._device.working():
            choice = Choice(backend, timer=timer)
            network = Network(weights, self.device, DTYPES[precision], backend=backend, choice=choice)
            self._window, self._mel = (
                torch.from_numpy(weights.tensors[f"features.{name}"]).to(self.device) for name in ("window", "mel")
            )
        programs = Programs(self._device.capture() if graphs else None)
        self._batches = Batches(network, programs, self._device, batch_frames)
        self._batcher = Batcher[Clip, Tensor](self._start, limit=64)
        self._backend = backend
        self._live = LiveBatches(network, self._device, self._log_mel, batch_frames)
        self._live_batcher = Batcher[Item, Tensor](self._live.run, limit=1_024)

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
        return GpuStream(self.config.features, self._log_mel, self._ahead, self._finish)

    def live(self, chunk: int, look_ahead: int | None) -> GpuLive | GpuWhole:
        """A stream without end, as of ``engine.cpu.CpuEngine.live``; what several threads push shares a batch.

        ValueError with ``backend="triton"``, whose recurrence begins from zeros alone.
        """
        if look_ahead is None:
            return GpuWhole(self.stream(), len(self.config.classes))
        if self._backend == "triton":
            raise ValueError("backend: got 'triton' with a live stream, allowed: auto, reference")
        frames = Frames(self.config.features, self._log_mel)
        return GpuLive(
            frames,
            chunk,
            look_ahead,
            lambda item: _numpy(self._live_batcher(item)),
            lambda stream: _numpy(self._live.finish(stream)()),
        )

    def push_live(self, streams: Sequence[GpuLive | GpuWhole], samples: Sequence[np.ndarray]) -> list[np.ndarray]:
        """``push`` of several different streams of this engine at once."""
        found = {i: s.push(x) for i, (s, x) in enumerate(zip(streams, samples, strict=True)) if isinstance(s, GpuWhole)}
        ahead = [(i, (s, x)) for i, (s, x) in enumerate(zip(streams, samples, strict=True)) if isinstance(s, GpuLive)]
        for (i, _), answer in zip(ahead, self._live.run([item for _, item in ahead]), strict=True):
            found[i] = _numpy(answer())
        return [found[i] for i in range(len(streams))]

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
            answer: Tensor = hand_over(self._batches.equal(log_mel.float()))
        return answer

    def detect(self, waves: Tensor | Sequence[Tensor]) -> Detections:
        """Mono samples (B, n), or (n,) each of any lengths, on the engine's device -> events there; nothing waits.

        Section 3.1 of the paper from spectrogram to decision, with the config's thresholds, filters and minimum scores.
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
            found = self._batches.run([Clip(mel, len(mel)) for mel in mels])
            joined = torch.nn.utils.rnn.pad_sequence(found, batch_first=True)
            classes = self.config.classes
            # Zeros behind a clip's end are what the decision assumes there anyway.
            runs, counts = ops.detect_runs(joined, [c.threshold for c in classes], [c.filter_frames for c in classes])
            runs, counts = keep_scored(joined, runs, counts, [c.minimum_score for c in classes])
            return Detections(hand_over(joined), hand_over(runs), hand_over(counts), frames)

    def warmup(self, shapes: Iterable[tuple[int, int]] = ((1, 1_501),)) -> None:
        """Compiles, measures and captures what batches of ``shapes`` (clips, frames) need, so that none waits later.

        Clips of these lengths run whole from then on, however many there are. ValueError on shapes that are not
        positive integers.
        """
        for shape in shapes:
            if len(shape) != 2 or not all(isinstance(n, int) and n >= 1 for n in shape):
                raise ValueError(f"shapes: got {shape}, allowed: (clips >= 1, frames >= 1)")
            with self._device.working():
                self._batches.warm(torch.zeros(*shape, self.config.features.mel_bands, device=self.device))
                self._device.synchronize()

    def explain(self) -> dict[str, Any]:
        """Which device, precision, kernels and graphs run, and why."""
        with self._device.working():
            parts = self._batches.explain()
        reasons = {
            "device": f"{self.device}: {self._device.name()}, torch {torch.__version__}",
            "precision": f"{self.precision}: {self._reason}",
            **parts,
        }
        return {
            "device": str(self.device),
            "precision": self.precision,
            "graphs": self._batches.graphs(),
            "reasons": reasons,
        }

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
            found = self._batches.run(clips)
            wait = self._device.download(torch.cat(found))
        ends = np.cumsum([0, *(clip.total for clip in clips)]).tolist()
        return [partial(_part, wait, first, last) for first, last in pairwise(ends)]

    def _finish(self, parts: list[Tensor], total: int, start: int, done: list[Tensor]) -> np.ndarray:
        with self._device.working():
            clip = Clip(torch.cat(parts), total, start, done)
        return _numpy(self._batcher(clip))

    def _ahead(self, parts: list[Tensor], start: int, done: list[Tensor]) -> tuple[list[Tensor], int]:
        with self._device.working():
            return self._batches.ahead(parts, start, done)


def _part(wait: Pending, first: int, last: int) -> Tensor:
    return wait()[first:last]


def _numpy(x: Tensor) -> np.ndarray:
    array: np.ndarray = x.numpy()
    return array.copy()  # the pinned buffer is shared by a batch
