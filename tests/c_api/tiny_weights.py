"""Weight files of networks with random weights: small ones, and of every variant and odd size."""

from __future__ import annotations

import numpy as np

from mtfa_fast.audio.features import analysis_window, mel_matrix
from mtfa_fast.config import ClassConfig, Config, FeatureConfig, NetworkConfig
from mtfa_fast.weights import Weights, expected_shapes


def tiny_config() -> Config:
    """Some 20 kB."""
    return Config(
        features=FeatureConfig(sample_rate=800, window_length=32, hop=16, fft_length=32, mel_bands=8),
        network=NetworkConfig(channels=2, hidden=2),
        classes=(ClassConfig("Säge"), ClassConfig("two", 0.25, 3)),
    )


def random_weights(config: Config, seed: int = 3) -> Weights:
    """Weights under which the network says something: unit variance through every layer."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, shape in expected_shapes(config).items():
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 4
        values = rng.standard_normal(shape) / np.sqrt(fan_in)
        if name.endswith("running_var") or name == "std":
            values = 1 + np.abs(values)
        tensors[name] = values.astype(np.float32)
    tensors["features.window"], tensors["features.mel"] = analysis_window(config.features), mel_matrix(config.features)
    return Weights(config, tensors)
