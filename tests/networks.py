"""Networks with random weights for tests and benchmarks: batch norms that do something, uneven bands."""

from __future__ import annotations

import torch
from torch import nn

from mtfa_fast.config import ClassConfig, Config, FeatureConfig, NetworkConfig, Variant
from mtfa_fast.nn import SEDNet


def random_network(
    *,
    channels: int = 64,
    bands: int = 128,
    variant: Variant = "mtfa",
    mask_projection: bool = True,
    classes: int = 3,
    hidden: int = 64,
    pooling: int = 8,
    seed: int = 0,
) -> SEDNet:
    """A SEDNet in evaluation mode whose folded norms, normalisation and biases are all far from neutral."""
    config = Config(
        features=FeatureConfig(mel_bands=bands),
        network=NetworkConfig(
            variant=variant,
            channels=channels,
            hidden=hidden,
            mask_projection=mask_projection,
            frequency_pooling=pooling,
        ),
        classes=tuple(ClassConfig(f"class{i}") for i in range(classes)),
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = SEDNet(config).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 1.5),
                (module.weight, 0.5, 1.5),
                (module.bias, -0.2, 0.2),
            ):
                assert tensor is not None
                tensor.data.uniform_(low, high, generator=generator)
    net.mean.uniform_(-2, 2, generator=generator)
    net.std.uniform_(0.5, 2, generator=generator)
    return net


def random_log_mel(net: SEDNet, frames: int, batch: int = 1, seed: int = 1) -> torch.Tensor:
    """(batch, frames, D) float32 around the network's stored statistics."""
    generator = torch.Generator().manual_seed(seed)
    bands = net.config.features.mel_bands
    return torch.randn(batch, frames, bands, generator=generator) * 2 + net.mean
