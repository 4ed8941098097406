"""How the trunk is cut along time so that no cut shows: receptive field and windows. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass

from ..config import HOURGLASS_DEPTH

STEP = 2**HOURGLASS_DEPTH  # the network pads time to a multiple; a window starts and ends at multiples
BLOCK_REACH = 2  # rows that a residual block, two 3x3 convolutions, sees on each side
STEM_REACH = 1


def needed(first: int, last: int) -> tuple[int, int]:
    """Input frames [first, last] that the trunk's output frames [first, last] depend on; no ends of the recording."""
    low, high = _hourglass(first, last, HOURGLASS_DEPTH)
    features = 2 * BLOCK_REACH  # F is two residual blocks
    return min(low, first - features) - STEM_REACH, max(high, last + features) + STEM_REACH


def _hourglass(first: int, last: int, depth: int) -> tuple[int, int]:
    """Rows that an hourglass needs for its output rows [first, last], at its own scale."""
    low, high = first // 2 - BLOCK_REACH, last // 2 + BLOCK_REACH  # low_out
    if depth > 1:
        low, high = _hourglass(low, high, depth - 1)
    else:
        low, high = low - BLOCK_REACH, high + BLOCK_REACH
    low, high = 2 * (low - BLOCK_REACH), 2 * (high + BLOCK_REACH) + 1  # low_in and the pooling before it
    return min(low, first - BLOCK_REACH), max(high, last + BLOCK_REACH)  # skip


def _halo() -> int:
    """What must stand on both sides of a window's kept frames, which begin and end at multiples of STEP."""
    before = -needed(0, 0)[0]
    after = needed(STEP - 1, STEP - 1)[1] - (STEP - 1)
    return -(-max(before, after) // STEP) * STEP


HALO_FRAMES = _halo()


@dataclass(frozen=True)
class Window:
    """Frames [low, low + size) are computed, [first, last) are kept of them."""

    low: int
    first: int
    last: int


def windows(total: int, size: int) -> list[Window]:
    """Windows of ``size`` frames that cover ``total``, all of one size; one of ``total`` frames if that is no more.

    Every kept frame sees in its window what it would see in the whole: its neighbourhood, or the recording's end,
    where zeros follow in both. ``total`` and ``size`` are multiples of STEP, ``size`` > 2 * HALO_FRAMES.
    """
    if total <= size:
        return [Window(0, 0, total)]
    found, first, low = [], 0, 0
    while low + size < total:
        found.append(Window(low, first, low + size - HALO_FRAMES))
        first, low = found[-1].last, low + size - 2 * HALO_FRAMES
    return [*found, Window(total - size, first, total)]


def padded(frames: int) -> int:
    """``frames`` rounded up to a multiple of STEP."""
    return -(-frames // STEP) * STEP
