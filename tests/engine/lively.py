"""Small networks whose every weight shows, what they answer in float64, and a live stream's answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from mtfa_fast import _core
from mtfa_fast.engine.cpu import CpuEngine
from mtfa_fast.nn import SEDNet
from tests.networks import random_log_mel, random_network


def lively_network(**options: Any) -> SEDNet:
    """Small, with weights that do not let far neighbours fade below rounding, and probabilities that differ."""
    net = random_network(**{"channels": 4, "bands": 16, "hidden": 5, "pooling": 4, "classes": 2, **options})
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, generator=generator)
    with torch.no_grad():
        for norm in (m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            assert norm.running_var is not None
            norm.running_var.mul_(2)  # or the maps grow from block to block
        for weight in net.gru.parameters():
            weight.mul_(2)
        net.head.output.weight.mul_(4)
    return net


def spectrograms(net: SEDNet, *frames: int) -> list[np.ndarray]:
    return [random_log_mel(net, n, seed=n)[0].numpy() for n in frames]


def alone(net: SEDNet, log_mel: np.ndarray) -> np.ndarray:
    """By the plain network in float64."""
    return net.double().probabilities(torch.from_numpy(log_mel).double()[None])[0].numpy()


def by_log_mel(
    engine: CpuEngine, log_mel: np.ndarray, chunk: int, look_ahead: int, cuts: Sequence[int] = ()
) -> np.ndarray:
    stream = _core.LiveStream(engine._engine, chunk, look_ahead)
    parts = [stream.push_log_mel(part, log_mel.shape[1], engine.threads) for part in np.split(log_mel, cuts)]
    return np.concatenate([*parts, stream.finish(engine.threads)])


class CompilationError(Exception):
    """Of no kind that torch raises, as Triton's."""
