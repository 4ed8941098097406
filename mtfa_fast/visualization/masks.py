"""The attention mask at its four scales, through torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine.tiles import HALO_FRAMES, STEP
from ..extras import needs
from ..weights import Weights

TILE_FRAMES = 2_048


def mask_means(weights: Weights, log_mel: NDArray[np.float32], *, at_end: bool = True) -> list[NDArray[np.float32]]:
    """Raw log-mel (T, D) -> the mask's mean over channels at each scale, finest first: (ceil(T / 2**s), D / 2**s).

    ``at_end``: the recording ends here; otherwise T must be a multiple of 8, and the last frames lack what follows
    them. Section 2 and figure 4 of the paper. Empty for ``variant="res"``, one mask for ``"resatt"``. Works in tiles
    whose borders do not show. Raises ImportError without torch.
    """
    if weights.config.network.variant == "res":
        return []
    torch = require_torch()
    from ..nn.convert import from_weights
    from ..nn.modules import pad_time

    if not at_end and len(log_mel) % STEP:
        raise ValueError(f"log_mel: got {len(log_mel)} frames before the end, allowed: a multiple of {STEP}")
    net = from_weights(weights)
    tiles: list[list[NDArray[np.float32]]] = []
    with torch.inference_mode():
        # The network pads once, before the stem; so do its engines.
        maps = pad_time(net.normalize(torch.from_numpy(log_mel))[None, None], STEP)
        for first in range(0, maps.shape[2], TILE_FRAMES):
            last = min(first + TILE_FRAMES, maps.shape[2])
            low, high = max(0, first - HALO_FRAMES), min(maps.shape[2], last + HALO_FRAMES)
            scales = net.attention.masks(net.stem(maps[:, :, low:high]))
            tiles.append([m.mean(1)[0, (first - low) >> s : (last - low) >> s].numpy() for s, m in enumerate(scales)])
    joined = [np.concatenate(parts) for parts in zip(*tiles, strict=True)]
    return [m[: -(-len(log_mel) // 2**s)] for s, m in enumerate(joined)]


def require_torch() -> Any:
    """The module; ImportError naming the extra that brings it."""
    with needs("torch", "the masks need", ", or go without (--no-masks)"):
        import torch
    return torch
