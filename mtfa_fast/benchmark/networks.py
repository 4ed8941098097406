"""Networks to measure: the speed of a dense network does not depend on its weights, the check of it does."""

from __future__ import annotations

import numpy as np

from .. import features
from ..config import HOURGLASS_DEPTH, Config
from ..weights import Weights, expected_shapes


def random_weights(config: Config | None = None, seed: int = 0) -> Weights:
    """Random weights as torch initialises them, with norms and statistics that do something. Default: the paper's."""
    config = config or Config()
    rng = np.random.default_rng(seed)
    ranges = {"running_mean": (-0.2, 0.2), "running_var": (0.5, 1.5), "mean": (-9.0, -5.0), "std": (1.0, 3.0)}
    tensors = {}
    for name, shape in expected_shapes(config).items():
        leaf = name.rpartition(".")[2]
        if ".norm" in name and leaf == "weight":
            low, high = 0.5, 1.5
        elif leaf in ranges:
            low, high = ranges[leaf]
        else:
            inputs = config.network.hidden if name.startswith("gru") else int(np.prod(shape[1:])) or 1
            low, high = -(inputs**-0.5), inputs**-0.5
        tensors[name] = rng.uniform(low, high, shape).astype(np.float32)
    tensors["features.window"] = features.analysis_window(config.features)
    tensors["features.mel"] = features.mel_matrix(config.features)
    return Weights(config, tensors)


def operations(config: Config, frames: int) -> dict[str, float]:
    """Floating-point operations of one clip by part; convolutions count as direct ones, 2 * 9 * C * C a pixel."""
    net, bands = config.network, config.features.mel_bands
    pixels = float(-(-frames // 2**HOURGLASS_DEPTH) * 2**HOURGLASS_DEPTH * bands)
    block = 2 * 2.0 * 9 * net.channels**2  # a pixel
    blocks = 2.0 * pixels  # F
    if net.variant == "resatt":
        blocks += 2 * pixels
    if net.variant == "mtfa":
        for depth in range(HOURGLASS_DEPTH):
            blocks += pixels / 4**depth  # skip
            blocks += 2 * pixels / 4 ** (depth + 1)  # low_in, low_out
        blocks += pixels / 4**HOURGLASS_DEPTH
    trunk = blocks * block + 2.0 * 9 * net.channels * pixels
    if net.mask_projection and net.variant != "res":
        trunk += 2.0 * net.channels**2 * pixels
    steps, hidden = pixels / bands, net.hidden
    recurrent = steps * 2 * 2 * (3 * hidden * (config.gru_inputs + hidden) + 3 * hidden * (2 * hidden + hidden))
    recurrent += steps * 2 * (2 * hidden * hidden + hidden * len(config.classes))
    return {"trunk": trunk, "recurrent": recurrent, "network": trunk + recurrent}
