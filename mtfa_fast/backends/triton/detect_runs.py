"""Threshold, median filter and run boundaries in one kernel a class, without a wait for the device."""

# A kernel's parameters are pointers and numbers that Triton types at launch.
# mypy: disallow-untyped-defs=False, disallow-incomplete-defs=False

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..support import Support
from ._maps import on_device, runs_here
from .median_filter import MAX_WINDOW

_TILE = 4096  # window entries in a step: 32 a thread with 4 warps


@triton.jit
def _filtered(p, t, steps, classes, threshold, window, WIDTH: tl.constexpr):
    # The median of zeros and ones is the majority. Of a frame just outside the signal less than that lies inside.
    j = tl.arange(0, WIDTH)
    q = t[:, None] + (j - window // 2)[None, :]
    inside = (q >= 0) & (q < steps) & (j < window)[None, :]
    v = tl.load(p + q * classes, mask=inside, other=0.0).to(tl.float32)
    count = tl.sum((inside & (v > threshold)).to(tl.int32), 1)
    return (count > window // 2).to(tl.int32)


@triton.jit
def _runs(
    p, runs, counts, steps, classes, room, index, threshold, window,
    FRAMES: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    # One program walks through one signal of one class, so that the number of a run is a running sum and no
    # second pass is needed; clips and classes run side by side.
    clip = tl.program_id(0).to(tl.int64)
    p += clip * steps * classes + index
    runs += (clip * classes + index) * room * 2
    lane = tl.arange(0, FRAMES)
    begun = 0
    ended = 0
    for start in range(0, steps + 1, FRAMES):
        t = start + lane
        now = _filtered(p, t, steps, classes, threshold, window, WIDTH)
        # Filtering twice is cheaper than handing the last frame of a tile to the next one.
        before = _filtered(p, t - 1, steps, classes, threshold, window, WIDTH)
        begins = now * (1 - before)
        ends = before * (1 - now)
        tl.store(runs + (begun + tl.cumsum(begins, 0) - 1) * 2, t, mask=begins > 0)
        tl.store(runs + (ended + tl.cumsum(ends, 0) - 1) * 2 + 1, t, mask=ends > 0)
        begun += tl.sum(begins, 0)
        ended += tl.sum(ends, 0)
    tl.store(counts + clip * classes + index, begun)
    for start in range(0, room, FRAMES):
        slot = start + lane
        unused = (slot >= begun) & (slot < room)
        tl.store(runs + slot * 2, -1, mask=unused)
        tl.store(runs + slot * 2 + 1, -1, mask=unused)


def supports(probabilities: Tensor, thresholds: Sequence[float], windows: Sequence[int]) -> Support:
    if windows and max(windows) > MAX_WINDOW:
        return Support.no(f"its windows end at {MAX_WINDOW} frames, not {max(windows)}")
    if probabilities.shape[-2] * probabilities.shape[-1] >= 2**31 - MAX_WINDOW:
        return Support.no(f"its indices are 32 bits wide, the signal has {probabilities.shape[-2]} frames")
    return runs_here(probabilities)


def detect_runs(probabilities: Tensor, thresholds: Sequence[float], windows: Sequence[int]) -> tuple[Tensor, Tensor]:
    *leading, steps, classes = probabilities.shape
    room = (steps + 1) // 2
    runs = torch.empty((*leading, classes, room, 2), dtype=torch.int32, device=probabilities.device)
    counts = torch.empty((*leading, classes), dtype=torch.int32, device=probabilities.device)
    if counts.numel() == 0:
        return runs, counts
    clips = counts.numel() // classes
    with on_device(probabilities):
        for index, (threshold, window) in enumerate(zip(thresholds, windows, strict=True)):
            width = triton.next_power_of_2(window)
            frames = min(_TILE // width, triton.next_power_of_2(steps + 1))
            _runs[(clips,)](
                probabilities, runs, counts, steps, classes, room, index, float(threshold), window,
                FRAMES=frames, WIDTH=width,
            )  # fmt: skip
    return runs, counts
