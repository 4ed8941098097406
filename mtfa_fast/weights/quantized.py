"""What 8-bit arithmetic needs beside a detector's tensors, by its config: the steps of maps and transformed inputs."""

from __future__ import annotations

from ..config import HOURGLASS_DEPTH, Config, NetworkConfig
from .shapes import Shapes

PREFIX = "int8."
POSITIONS = 24  # of Winograd's blocks of 2 rows and 4 columns
_MASK = "attention.mask"


def map_of(network: NetworkConfig, stage: str) -> str:
    """The stage whose steps the map of ``stage`` has: maps that are added have those of their sum."""
    for suffix in (".skip", ".low_out"):
        total = stage.removesuffix(suffix)
        if total != stage and (total != _MASK or not network.mask_projection):
            return total
    return stage


def quantized_convolutions(config: Config) -> dict[str, str]:
    """Every convolution that runs in 8 bits, with the stage whose map it reads (``low_in``: the pooled map)."""
    found = {}
    for block, source in _blocks(config.network.variant):
        found[f"{block}.conv1"] = source
        found[f"{block}.conv2"] = f"{block}.conv1"
    return found


def quantized_shapes(config: Config) -> Shapes:
    """Name and shape of every tensor of steps."""
    channels, convolutions = config.network.channels, quantized_convolutions(config)
    blocks = {name.rpartition(".")[0] for name in convolutions}
    stages = sorted({"stem", *blocks, *convolutions.values()})
    shapes: Shapes = {f"{PREFIX}step.{map_of(config.network, stage)}": (channels,) for stage in stages}
    return shapes | {f"{PREFIX}transformed.{name}": (POSITIONS, channels) for name in convolutions}


def _blocks(variant: str) -> list[tuple[str, str]]:
    """Residual blocks and the stages whose maps they read."""
    found = [("attention.features.0", "stem"), ("attention.features.1", "attention.features.0")]
    if variant == "resatt":
        found += [(f"{_MASK}.0", "stem"), (f"{_MASK}.1", f"{_MASK}.0")]
    if variant == "mtfa":
        path, source = _MASK, "stem"
        for _ in range(HOURGLASS_DEPTH):
            found += [(f"{path}.skip", source), (f"{path}.low_in", source), (f"{path}.low_out", f"{path}.inner")]
            path, source = f"{path}.inner", f"{path}.low_in"
        found.append((path, source))
    return found
