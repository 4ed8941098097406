"""A plain attention layer that looks trained, and the fast layer with its weights."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from mtfa_fast.nn import modules
from mtfa_fast.nn.fast import MTFA


def trained(channels: int = 16, **options: Any) -> modules.MTFA:
    """A plain layer whose batch norms are far from neutral."""
    layer = modules.MTFA(channels, **options)
    for module in layer.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2)  # type: ignore[arg-type]
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
    return layer


def twins(**options: Any) -> tuple[modules.MTFA, MTFA]:
    plain = trained(**options)
    fast = MTFA(16, **options)
    fast.load_state_dict(plain.state_dict())
    assert list(fast.state_dict()) == list(plain.state_dict())
    return plain, fast


def maps(*shape: int, layout: torch.memory_format = torch.contiguous_format) -> Tensor:
    return torch.randn(shape).contiguous(memory_format=layout)
