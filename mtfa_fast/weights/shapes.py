"""Which tensors a detector has, by its config."""

from __future__ import annotations

from collections.abc import Iterator

from ..config import HOURGLASS_DEPTH, Config

Shapes = dict[str, tuple[int, ...]]


def expected_shapes(config: Config) -> Shapes:
    """Name and shape of every tensor of a detector with this config."""
    net, features = config.network, config.features
    channels, hidden = net.channels, net.hidden
    shapes: Shapes = {
        "features.window": (features.window_length,),
        "features.mel": (features.mel_bands, features.fft_length // 2 + 1),
        "mean": (features.mel_bands,),
        "std": (features.mel_bands,),
        "stem.conv.weight": (channels, 1, 3, 3),
        **_norm("stem.norm", channels),
        **_block("attention.features.0", channels),
        **_block("attention.features.1", channels),
    }
    for block in _mask_blocks(config):
        shapes |= _block(f"attention.mask.{block}", channels)
    if net.mask_projection and net.variant != "res":
        shapes |= _linear("attention.projection", channels, channels, 1, 1)
    for layer, inputs in enumerate((config.gru_inputs, 2 * hidden)):
        for direction in ("", "_reverse"):
            shapes |= {
                f"gru.weight_ih_l{layer}{direction}": (3 * hidden, inputs),
                f"gru.weight_hh_l{layer}{direction}": (3 * hidden, hidden),
                f"gru.bias_ih_l{layer}{direction}": (3 * hidden,),
                f"gru.bias_hh_l{layer}{direction}": (3 * hidden,),
            }
    return shapes | _linear("head.hidden", hidden, 2 * hidden) | _linear("head.output", len(config.classes), hidden)


def _mask_blocks(config: Config) -> Iterator[str]:
    """Residual blocks of the mask branch, by their names below ``attention.mask``."""
    if config.network.variant == "resatt":
        yield from ("0", "1")
    if config.network.variant == "mtfa":
        for depth in range(HOURGLASS_DEPTH):
            yield from ("inner." * depth + part for part in ("skip", "low_in", "low_out"))
        yield ".".join(["inner"] * HOURGLASS_DEPTH)


def _norm(name: str, channels: int) -> Shapes:
    return {f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")}


def _block(name: str, channels: int) -> Shapes:
    shapes: Shapes = {}
    for i in (1, 2):
        shapes[f"{name}.conv{i}.weight"] = (channels, channels, 3, 3)
        shapes |= _norm(f"{name}.norm{i}", channels)
    return shapes


def _linear(name: str, outputs: int, inputs: int, *kernel: int) -> Shapes:
    return {f"{name}.weight": (outputs, inputs, *kernel), f"{name}.bias": (outputs,)}
