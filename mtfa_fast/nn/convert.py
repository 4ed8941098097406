"""Between torch modules and weight files."""

from __future__ import annotations

import numpy as np
import torch

from ..audio.features import analysis_window, mel_matrix
from ..weights import Weights
from .sednet import SEDNet


def to_weights(net: SEDNet, metadata: dict[str, str] | None = None) -> Weights:
    """The network's tensors in float32 with its config, window and mel matrix. ValueError if one is not finite."""
    tensors = {
        name: value.detach().to("cpu", torch.float32).contiguous().numpy().copy()
        for name, value in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    tensors["features.window"] = analysis_window(net.config.features)
    tensors["features.mel"] = mel_matrix(net.config.features)
    return Weights(net.config, tensors, metadata or {})


def from_weights(weights: Weights) -> SEDNet:
    """A float32 :class:`SEDNet` on the CPU in evaluation mode."""
    net = SEDNet(weights.config)
    state = {
        name: torch.from_numpy(np.array(value))
        for name, value in weights.tensors.items()
        if not name.startswith("features.")
    }
    missing, unexpected = net.load_state_dict(state, strict=False)
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unexpected:
        raise ValueError(f"weights: missing {missing}, not of this network {list(unexpected)}")
    return net.eval()
