"""The CPU engine: C++ kernels for the whole network, without torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from ..arguments import require, require_int
from ..weights import Weights
from .batcher import Batcher
from .fold import fold

if TYPE_CHECKING:
    from .. import _core

Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]  # of any engine; fp16 is a GPU's, int8 a CPU's
PRECISIONS: tuple[Precision, ...] = ("auto", "fp32", "bf16", "int8")
MEMORY = 1.0  # GB of a recording's frames that stay in memory: 2.7 hours of 64 units; longer ones go to a file
LIVE_TOGETHER = 64  # live streams computed at once, at most; later ones wait for the next turn
FloatArray = npt.NDArray[np.float32]


class CpuEngine:
    """The network of ``weights`` on the CPU; raw log-mel or samples in, frame probabilities out.

    ``precision``: of the convolutions and the GRU's input projection; everything else is float32.
    ``"auto"`` is bf16 where the CPU multiplies bf16 (AMX or AVX512_BF16), else fp32. ``"int8"``: 8-bit feature maps and
    products in all convolutions but the first and the 1x1 projection, for weights that hold calibrated steps
    (``mtfa-fast quantize``); a NaN in the input then makes the whole answer NaN. ``threads``: default
    the cores this process may use. ``memory``: GB of each recording's frames (some 100 kB a second) that stay in
    memory; those of a longer one go to a temporary file (in ``TMPDIR``, else ``/var/tmp``), which costs some time and
    changes no bit; OSError where it finds no room. Any number of Python threads may use one engine; results do not
    depend on threads, batch or block sizes, bit for bit. ValueError on anything that is not allowed.
    """

    def __init__(
        self, weights: Weights, *, precision: Precision = "auto", threads: int | None = None, memory: float = MEMORY
    ) -> None:
        from .. import _core

        if precision not in PRECISIONS:
            also = " (fp16 needs a GPU)" if precision == "fp16" else ""
            raise ValueError(f"precision: got {precision!r}, allowed: {', '.join(PRECISIONS)}{also}")
        if threads is not None:
            require_int("threads", threads, 1)
        require(isinstance(memory, (int, float)) and 0 <= memory < 1e9, "memory", memory, "0 <= memory < 1e9, in GB")
        self.memory = memory
        self.config = weights.config
        self.isa: str = _core.chosen_isa()
        has_bf16 = self.isa in ("avx512bf16", "amx", "neonbf16")
        if precision == "bf16" and not has_bf16:
            raise ValueError(
                f"precision: got 'bf16', allowed with {self.isa}: fp32, int8 "
                "(bf16 needs AVX512_BF16, AMX or ARM64 with BF16)"
            )
        if precision == "int8" and not weights.steps:
            raise ValueError(
                "precision: got 'int8' and weights without calibrated steps, allowed with them: fp32, bf16 "
                "(mtfa-fast quantize WEIGHTS RECORDINGS -o FILE adds the steps)"
            )
        self.precision = ("bf16" if has_bf16 else "fp32") if precision == "auto" else precision
        self.threads: int = threads or _core.default_threads()
        self._reasons = {
            "isa": f"{self.isa}: of {', '.join(_core.available_isas())}",
            "precision": f"{self.precision}: "
            + ("asked for" if precision != "auto" else f"{self.isa} {'multiplies' if has_bf16 else 'has no'} bf16")
            + (f", products by {_core.int8_products(self.isa)}" if precision == "int8" else ""),
        }
        network, features = self.config.network, self.config.features
        self._classes = len(self.config.classes)
        self._engine = _core.Engine(
            variant=network.variant,
            channels=network.channels,
            hidden=network.hidden,
            classes=self._classes,
            pooling=network.frequency_pooling,
            mask_projection=network.mask_projection,
            tensors=fold(weights) | weights.steps,
            log_mel=_core.LogMel(
                weights.tensors["features.window"],
                weights.tensors["features.mel"],
                features.hop,
                features.fft_length,
                features.log_floor,
            ),
            isa=self.isa,
            precision=self.precision,
        )

        self._together = Batcher[tuple[_core.LiveStream, np.ndarray], FloatArray](self._push, limit=LIVE_TOGETHER)

    def _push(self, items: list[tuple[_core.LiveStream, np.ndarray]]) -> list[Callable[[], FloatArray]]:
        from .. import _core

        streams, samples = zip(*items, strict=True)
        return [partial(_same, rows) for rows in _core.push_live(streams, samples, self.threads)]

    def probabilities(self, log_mel: npt.ArrayLike) -> FloatArray:
        """Raw log-mel (T, D) or (B, T, D), T >= 1 -> frame probabilities (T, K) or (B, T, K), float32."""
        array = np.asarray(log_mel, dtype=np.float32)
        bands = self.config.features.mel_bands
        if array.ndim not in (2, 3) or array.shape[-2] < 1 or array.shape[-1] != bands:
            raise ValueError(f"log_mel: got shape {array.shape}, allowed: (T >= 1, {bands}) or (B, T >= 1, {bands})")
        batch = array if array.ndim == 3 else array[None]
        out: FloatArray = self._engine.probabilities(batch, self.threads)
        return out if array.ndim == 3 else out[0]

    def live(self, chunk: int, look_ahead: int | None) -> CpuLive:
        """A stream without end: constant memory, each frame answered ``delay`` frames later at the latest.

        ``chunk`` and ``look_ahead`` in frames, multiples of 8, define the answer (``backends.reference.bigru_live``);
        it does not depend on how samples are cut or on other streams, bit for bit. Without look-ahead's end, None, all
        is answered by ``finish``, as by :meth:`stream`. What is pushed from several threads is computed together.
        ValueError on anything that is not allowed.
        """
        return CpuLive(self, chunk, look_ahead)

    def push_live(self, streams: Sequence[CpuLive], samples: Sequence[np.ndarray]) -> list[FloatArray]:
        """:meth:`CpuLive.push` of several different streams of this engine at once."""
        from .. import _core

        found: list[FloatArray] = [stream._nothing for stream in streams]
        endless = [i for i, stream in enumerate(streams) if stream._live is not None]
        for i in set(range(len(streams))) - set(endless):
            streams[i].push(samples[i])
        cores = [core for stream in streams if (core := stream._live) is not None]
        for i, rows in zip(endless, _core.push_live(cores, [samples[i] for i in endless], self.threads), strict=True):
            found[i] = rows
        return found

    def stream(self) -> CpuStream:
        """A recording to be pushed in blocks; its memory grows by some 100 kB a second of audio, up to ``memory``."""
        return CpuStream(self)

    def detect_wave(self, wave: npt.ArrayLike) -> FloatArray:
        """Mono samples (n,) at the config's rate, n >= 1 -> frame probabilities (1 + n // hop, K)."""
        stream = self.stream()
        stream.push(wave)
        return stream.finish()

    def stage_names(self) -> list[str]:
        """What :meth:`tap` can show, in the order of the data: names of modules of ``nn.SEDNet``, and ``"masks"``."""
        return self._engine.stage_names()

    def map_names(self) -> list[str]:
        """The feature maps that a convolution or the gate reads: :meth:`tap` shows them by these names, too."""
        return self._engine.map_names()

    def tap(self, name: str, log_mel: npt.ArrayLike) -> FloatArray:
        """What one stage makes of raw log-mel (T, D): channels-last rows, T padded to a multiple of 8, for checks.

        A map at scale s is (T / 2**s, D / 2**s, C), ``"masks"`` (T, D, C), ``"gate"`` (T, D / pooling, C), ``"gru"``
        (T, 2, U): both directions of the last layer. M is never in memory otherwise: for this the gate's kernel writes
        down what it multiplies with. ValueError on another name.
        """
        array = np.asarray(log_mel, dtype=np.float32)
        bands = self.config.features.mel_bands
        if array.ndim != 2 or array.shape[0] < 1 or array.shape[1] != bands:
            raise ValueError(f"log_mel: got shape {array.shape}, allowed: (T >= 1, {bands})")
        return self._engine.tap(name, array, self.threads)

    def recurrent(self, vectors: npt.ArrayLike) -> FloatArray:
        """The recurrent part alone: pooled vectors (T, D / pooling * C), T >= 1 -> frame probabilities (T, K)."""
        array = np.asarray(vectors, dtype=np.float32)
        if array.ndim != 2 or array.shape[0] < 1 or array.shape[1] != self.config.gru_inputs:
            raise ValueError(f"vectors: got shape {array.shape}, allowed: (T >= 1, {self.config.gru_inputs})")
        return self._engine.recurrent(array, self.threads)

    def explain(self) -> dict[str, Any]:
        """Which instruction set, precision and thread count run, and why."""
        return {"isa": self.isa, "precision": self.precision, "threads": self.threads, "reasons": dict(self._reasons)}


def _same(rows: FloatArray) -> FloatArray:
    return rows


class CpuLive:
    """One stream of an engine: ``push`` for ever, or until ``finish``. Not for several threads at once."""

    def __init__(self, engine: CpuEngine, chunk: int, look_ahead: int | None) -> None:
        from .. import _core

        require_int("chunk", chunk, 1)
        self._engine = engine
        self._nothing = np.zeros((0, engine._classes), np.float32)
        self._live = self._whole = None
        self.delay: int | None = None  # frames; None: until the end
        if look_ahead is None:
            self._whole = engine.stream()
        else:
            require_int("look_ahead", look_ahead, 0)
            self._live = _core.LiveStream(engine._engine, chunk, look_ahead)
            self.delay = self._live.delay

    def push(self, samples: np.ndarray) -> FloatArray:
        """Mono float32 (n,), n >= 0, at the config's rate -> the frame probabilities (m, K) that became final.

        ValueError for a NaN or infinite sample; nothing is taken then.
        """
        if self._live is not None:
            return self._engine._together((self._live, samples))
        assert self._whole is not None
        self._whole.push(samples)
        return self._nothing

    def finish(self) -> FloatArray:
        """The remaining frames' probabilities, 1 + n // hop in all; ValueError when n is 0."""
        if self._live is not None:
            return self._live.finish(self._engine.threads)
        assert self._whole is not None
        return self._whole.finish()


def _spill_folder() -> str:
    """Where files go that do not fit in memory: not /tmp, which on many machines is memory."""
    return os.environ.get("TMPDIR") or ("/var/tmp" if os.access("/var/tmp", os.W_OK | os.X_OK) else gettempdir())


class CpuStream:
    """One recording, in blocks of any size: ``push`` as often as you like, then ``finish`` once."""

    def __init__(self, engine: CpuEngine) -> None:
        from .. import _core

        self._engine = engine
        self._stream = _core.Stream(engine._engine, int(engine.memory * 1e9), _spill_folder())

    def push(self, samples: npt.ArrayLike) -> None:
        """Mono samples (n,), n >= 0, at the config's rate; the network runs as far as they reach."""
        array = np.asarray(samples, dtype=np.float32)
        if array.ndim != 1:
            raise ValueError(f"samples: got shape {array.shape}, allowed: (n,)")
        self._stream.push_samples(array, self._engine.threads)

    def finish(self) -> FloatArray:
        """Frame probabilities (1 + n // hop, K) of the n samples pushed; ValueError when n is 0."""
        out: FloatArray = self._stream.finish(self._engine._classes, self._engine.threads)
        return out
