"""The streaming residual block for Hopper: both convolutions in one kernel (csrc/cuda/residual_block.h)."""

from __future__ import annotations

import logging
import subprocess
import sys
from functools import cache, lru_cache

import torch
from torch import Tensor

from ..support import Support
from .library import DTYPES, PATH, capability, launch, runs_on

LOG = logging.getLogger(__name__)
CHANNELS = 64
WIDTHS = (128, 64, 32)  # pixels of a strip that the kernel is compiled for
WORDS = 2 * 144 * 128 + 2 * CHANNELS  # of the packed weights, MTFA_RESIDUAL_BLOCK_WORDS
# What a block spends beside its rows, in rows (2 computed twice, filling the rings, reading the weights), and a row
# beside its pixels, in pixels (barriers, draining the products). Estimates; they only choose the shape of the grid.
OVERHEAD_ROWS, OVERHEAD_PIXELS = 6, 24

TRIAL_SECONDS = 30.0
DEVICES_UNAVAILABLE = 46  # cudaErrorDevicesUnavailable
TRIAL_ERROR = 4e-3  # rounding to bf16 alone gives 1.7e-3


def supports(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Support:
    if x.dtype != torch.bfloat16:
        return Support.no(f"its kernel takes bfloat16, not {x.dtype}")
    if x.shape[1] != CHANNELS:
        return Support.no(f"its kernel takes {CHANNELS} channels, the rows of Hopper's products, not {x.shape[1]}")
    if not (answer := runs_on(x)).ok:
        return answer
    device = x.device.index
    if (found := capability(device)) != (9, 0):
        return Support.no(f"its kernel needs compute capability 9.0 (Hopper), the device has {found[0]}.{found[1]}")
    return _trial(device)


def residual_block(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """x (B, 64, T, D) bf16; channels-last memory in and out."""
    return run_packed(x, pack(w1, b1, w2, b2))


def pack(w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """Weights (64, 64, 3, 3) and biases (64) of one float dtype -> what :func:`run_packed` takes, one launch."""
    last = torch.channels_last
    if w1.is_contiguous(memory_format=last) and w2.is_contiguous(memory_format=last):
        channel_stride, tap_stride = 1, CHANNELS
    else:
        w1, w2, channel_stride, tap_stride = w1.contiguous(), w2.contiguous(), 9, 1
    packed = torch.empty(WORDS, dtype=torch.int32, device=w1.device)
    launch(
        "mtfa_residual_block_pack", packed, w1, b1.contiguous(), w2, b2.contiguous(),
        DTYPES[w1.dtype], channel_stride, tap_stride, packed,
    )  # fmt: skip
    return packed


def run_packed(x: Tensor, packed: Tensor, *, shape: tuple[int, int] | None = None) -> Tensor:
    """As :func:`residual_block`, with weights from :func:`pack`. ``shape``: strip width and rows of a block."""
    batch, _, steps, bands = x.shape
    x = x.contiguous(memory_format=torch.channels_last)
    if x.data_ptr() % 16:  # bulk copies start at multiples of 16 bytes; a view may not
        x = x.clone(memory_format=torch.channels_last)
    y = torch.empty_like(x, memory_format=torch.channels_last)
    width, rows = shape or plan(batch, steps, bands, multiprocessors(x.device.index))
    launch("mtfa_residual_block", x, x, packed, y, batch, steps, bands, width, rows)
    return y


@lru_cache(maxsize=256)
def plan(batch: int, steps: int, bands: int, processors: int) -> tuple[int, int]:
    """Width of a strip and rows of a block that keep ``processors`` multiprocessors, one block each, busy.

    The width whose strips take the least time together; then the number of blocks a strip that ends first,
    counting in rows: waves of blocks times the length of a block.
    """
    steps, bands = max(steps, 1), max(bands, 1)
    width = min(WIDTHS, key=lambda w: _strips(bands, w) * (w + OVERHEAD_PIXELS))
    columns = max(batch, 1) * _strips(bands, width)
    most = min(steps, max(1, 4 * processors // columns) + 1)

    def length(chunks: int) -> tuple[int, int]:
        rows = -(-steps // chunks)
        waves = -(-columns * -(-steps // rows) // processors)
        return waves * (rows + OVERHEAD_ROWS), chunks

    return width, -(-steps // min(range(1, most + 1), key=length))


def _strips(bands: int, width: int) -> int:
    return 1 if bands <= width else -(-bands // (width - 2))


@cache
def multiprocessors(device: int) -> int:
    return int(torch.cuda.get_device_properties(device).multi_processor_count)


@cache
def _trial(device: int) -> Support:
    """The kernel on a small map against plain loops, in a child process, before the device is trusted with it.

    The kernel starts wgmma descriptors inside a swizzle pattern, waits on barriers by hand and was written
    without a GPU at hand; what is wrong with it would show as wrong numbers, as a fault that ends the process's
    CUDA context, or as a hang. In a child all three are a reason to refuse.
    """
    if not sys.executable:
        return Support.no("its kernel is tried in a child process first, and there is no Python to start one")
    command = [sys.executable, "-I", "-c", _TRIAL, str(PATH), str(device)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TRIAL_SECONDS)
    except subprocess.TimeoutExpired:
        return Support.no(f"its kernel did not end within {TRIAL_SECONDS} s when it was tried on this device")
    except OSError as error:
        return Support.no(f"its kernel could not be tried in a child process: {error}")
    answer = done.stdout.split()
    if done.returncode != 0 or len(answer) != 2:
        return Support.no(f"its kernel ended the process that tried it: exit {done.returncode}, {done.stderr.strip()}")
    if int(answer[0]) == DEVICES_UNAVAILABLE:
        reason = (
            f"its kernel is tried in a child process first, and device {device} is in exclusive-process mode, where "
            "one process has it alone: nvidia-smi --compute-mode=DEFAULT lifts that"
        )
        LOG.warning("the fast residual block is left out: %s", reason)
        return Support.no(reason)
    if int(answer[0]) != 0:
        return Support.no(f"its kernel failed when it was tried on this device: CUDA error {answer[0]}")
    if not float(answer[1]) <= TRIAL_ERROR:
        return Support.no(f"its kernel gave wrong results on this device: relative error {answer[1]}")
    return Support.yes()


_TRIAL = """
import ctypes, sys
library, error = ctypes.CDLL(sys.argv[1]), ctypes.c_float(float("nan"))
print(library.mtfa_residual_block_trial(int(sys.argv[2]), ctypes.byref(error)), error.value)
"""
