"""Which code runs a residual block: every candidate that can, checked and timed once for each scale and class of batch.

Nothing on a GPU says beforehand whether the streaming kernel, the Triton convolution or cuDNN is the fastest on it, so
that is measured where it runs; ``Choice.reasons`` tells what was found.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from ...backends.support import Support
from ...ops._dispatch import Table, ladder, load

LOG = logging.getLogger(__name__)
TABLE = Table("residual_block")
CUDNN = "cudnn"  # torch's convolution with bias, addition and ReLU in cuDNN's own epilogue
CHECKED_ROWS = 64
# Of the RMS, against float64: a middle map and a result rounded to 8, 11 and 24 bits, with room for the order of sums.
BOUNDS = {torch.bfloat16: 1e-2, torch.float16: 2e-3, torch.float32: 1e-5, torch.float64: 1e-5}
REPEATS = 10
MANY_FRAMES = 16 * 1_024  # of the spectrogram: a batch of as many fills a GPU, and one that has fewer may not
QUEUED_BYTES, QUEUED_FILLS = 2**28, 32  # device work of 2 ms or more, which takes the host 0.2 ms to ask for

Run = Callable[[Tensor], Tensor]
Timer = Callable[[Callable[[], object], torch.device], float]


class Block:
    """One residual block's folded weights, w1, b1, w2, b2, and what a candidate makes of them before its first run."""

    def __init__(self, weights: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
        self.weights = weights
        self._packed: Tensor | None = None

    def run(self, name: str, x: Tensor) -> Tensor:
        if name == "cuda":
            from ...backends.cuda import residual_block

            if self._packed is None:
                self._packed = residual_block.pack(*self.weights)
            return residual_block.run_packed(x, self._packed)
        if name == CUDNN:
            return _fused_by_cudnn(x, *self.weights)
        if name == "reference":
            return _plain(x, *self.weights)
        module = load(name, "residual_block")
        assert not isinstance(module, str), module  # only candidates that support the call are run
        out: Tensor = module.residual_block(x, *self.weights)
        return out


def _plain(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """The reference without its intermediate copies."""
    y = torch.relu_(F.conv2d(x, w1, b1, padding=1))
    return torch.relu_(F.conv2d(y, w2, b2, padding=1).add_(x))


def _fused_by_cudnn(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    one = [1, 1]
    y = torch.cudnn_convolution_relu(x, w1, b1, one, one, one, 1)
    return torch.cudnn_convolution_add_relu(y, w2, x, 1.0, b2, one, one, one, 1)


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """A call's time on the device, after a call that may compile; on a CPU the fastest of a few.

    A kernel of a small map takes a tenth of what its launch takes the host, and in a CUDA graph nothing is launched. So
    the device has other work until all calls are queued, and they follow each other without a gap.
    """
    call()
    if device.type != "cuda":
        found = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            call()
            found.append(time.perf_counter() - start)
        return min(found)
    queued = torch.empty(QUEUED_BYTES, dtype=torch.uint8, device=device)
    start_event, end_event = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    for _ in range(QUEUED_FILLS):
        queued.zero_()
    start_event.record()
    for _ in range(REPEATS):
        call()
    end_event.record()
    end_event.synchronize()
    return start_event.elapsed_time(end_event) / 1e3 / REPEATS


class Choice:
    """The candidate for each scale and class of batch, fewer than ``MANY_FRAMES`` frames or not.

    ``backend``: ``"auto"`` measures, another name takes that one or raises its reason. What was chosen serves for as
    long as the engine lives.
    """

    def __init__(self, backend: str = "auto", *, timer: Timer = seconds) -> None:
        self._backend, self._timer = backend, timer
        self._chosen: dict[tuple[int, bool], str] = {}
        self.reasons: dict[tuple[int, bool], str] = {}

    def __call__(self, scale: int, block: Block, x: Tensor) -> Tensor:
        """``block`` of ``x``, (B, C, T / 2**scale, D / 2**scale) channels-last."""
        frames = x.shape[2] << scale
        kind = scale, x.shape[0] * frames >= MANY_FRAMES
        if kind not in self._chosen:
            # As many clips as make a large batch; a small one is measured as it is.
            self._chosen[kind] = self._choose(kind, block, x[: -(-MANY_FRAMES // frames)])
        return block.run(self._chosen[kind], x)

    def _choose(self, kind: tuple[int, bool], block: Block, x: Tensor) -> str:
        where = f"scale 1/{2 ** kind[0]}, {'at least' if kind[1] else 'fewer than'} {MANY_FRAMES} frames"
        if self._backend != "auto":
            TABLE.choose(self._backend, x, *block.weights)  # or raises
            self.reasons[kind] = f"{where}: {self._backend}: asked for"
            return self._backend
        times: dict[str, float] = {}
        refusals: dict[str, str] = {}
        probe = torch.randn_like(x)
        expected = _expected(probe, block)
        for name in (*ladder((x,)), CUDNN):
            if not (answer := self._support(name, x, block)).ok:
                refusals[name] = answer.reason
                continue
            try:
                refusals[name] = _wrong(block.run(name, probe), expected)
                if not refusals[name]:
                    times[name] = self._timer(partial(block.run, name, probe), x.device)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # cuDNN's are RuntimeErrors, of Triton's some are of no common kind
                refusals[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        if not times:
            raise RuntimeError(f"no residual block runs here: {refusals}")
        best = min(times, key=lambda name: times[name])
        shown = [f"{name} {1e3 * value:.3g} ms" for name, value in sorted(times.items(), key=lambda item: item[1])]
        shown += [f"{name} not ({reason})" for name, reason in refusals.items() if reason]
        shape = "x".join(map(str, x.shape))
        self.reasons[kind] = f"{where}: {best}: fastest at {shape} by device time: {', '.join(shown)}"
        LOG.info("residual block at %s", self.reasons[kind])
        return best

    def candidates(self, x: Tensor, block: Block) -> str:
        """Before anything was measured: what could run ``block`` of maps like ``x``, and why the others cannot."""
        if self._backend != "auto":
            return f"{self._backend}: asked for"
        answers = {name: self._support(name, x, block) for name in (*ladder((x,)), CUDNN)}
        able = ", ".join(name for name, answer in answers.items() if answer.ok)
        refused = [f"not {name} ({answer.reason})" for name, answer in answers.items() if not answer.ok]
        return ", ".join([f"measured at the first run or warmup(): {able}", *refused])

    @staticmethod
    def _support(name: str, x: Tensor, block: Block) -> Support:
        if name != CUDNN:
            return TABLE.support(name, x, *block.weights)
        if not x.is_cuda or torch.version.hip is not None or not torch.backends.cudnn.is_available():
            return Support.no("needs cuDNN")
        return Support.yes()


def _expected(x: Tensor, block: Block) -> Tensor:
    """The first rows of the first clip; the last two of them lack what follows.

    In float64, which no library computes by Winograd's algorithm: in float32 that errs more than a candidate may.
    """
    rows = x[:1, :, :CHECKED_ROWS].double()
    out = _plain(rows, *(w.double() for w in block.weights))
    return out if rows.shape[2] == x.shape[2] else out[:, :, :-2]


def _wrong(out: Tensor, expected: Tensor) -> str:
    """Nothing, or by how much ``out`` is wrong."""
    got = out[:1, :, : expected.shape[2]].to(expected.dtype)
    error = float((got - expected).norm() / expected.norm())
    bound = BOUNDS[out.dtype]
    return "" if error <= bound else f"wrong results: relative error {error:.2g}, allowed {bound:g}"
