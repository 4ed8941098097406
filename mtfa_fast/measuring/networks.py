"""Networks to measure: the speed of a dense network does not depend on its weights, the check of it does."""

from __future__ import annotations

import numpy as np

from ..audio import features
from ..config import HOURGLASS_DEPTH, Config
from ..engine.tiles import padded
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


def noise(weights: Weights, clips: int, frames: int, seed: int) -> np.ndarray:
    """Raw log-mel (clips, T, D), float32: every band independently with the mean and deviation of the training set."""
    shape = clips, frames, weights.config.features.mel_bands
    given = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    found: np.ndarray = given * weights.tensors["std"] + weights.tensors["mean"]
    return found


def operations(config: Config, frames: int) -> dict[str, float]:
    """Floating-point operations of one clip by part; convolutions count as direct ones, 2 * 9 * C * C a pixel."""
    net, hidden = config.network, config.network.hidden
    steps = padded(frames)
    pixels = steps * config.features.mel_bands
    trunk = _residual_pixels(config, frames) * 2 * 2.0 * 9 * net.channels**2 + 2.0 * 9 * net.channels * pixels
    if net.mask_projection and net.variant != "res":
        trunk += 2.0 * net.channels**2 * pixels
    recurrent = steps * 2 * 2.0 * (3 * hidden * (config.gru_inputs + hidden) + 3 * hidden * (2 * hidden + hidden))
    recurrent += steps * 2.0 * (2 * hidden * hidden + hidden * len(config.classes))
    return {"trunk": trunk, "recurrent": recurrent, "network": trunk + recurrent}


def _residual_pixels(config: Config, frames: int) -> float:
    """Pixels of all residual blocks together."""
    pixels = float(padded(frames) * config.features.mel_bands)
    total = 2 * pixels  # F
    if config.network.variant == "resatt":
        total += 2 * pixels
    if config.network.variant == "mtfa":
        for depth in range(HOURGLASS_DEPTH):
            total += pixels / 4**depth  # skip
            total += 2 * pixels / 4 ** (depth + 1)  # low_in, low_out
        total += pixels / 4**HOURGLASS_DEPTH
    return total


def traffic(config: Config, frames: int, size: int) -> float:
    """Bytes through memory when every convolution reads and writes whole maps of ``size`` bytes a value.

    A residual block then moves five maps: both convolutions read one and write one, and the second adds the input.
    """
    blocks = _residual_pixels(config, frames)
    return 5.0 * blocks * config.network.channels * size
