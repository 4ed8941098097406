"""The recurrence of one bidirectional layer for inference: :mod:`.bigru`'s kernel without the gates."""

from __future__ import annotations

from torch import Tensor

from ..support import Support
from .bigru import _forward, supports_recurrence


def supports(gi: Tensor, w_hh: Tensor, b_hn: Tensor) -> Support:
    return supports_recurrence(gi, w_hh, b_hn)


def bigru_states(gi: Tensor, w_hh: Tensor, b_hn: Tensor) -> Tensor:
    """One layer, see :mod:`mtfa_fast.backends.gru_layers` -> out (B, T, 2H)."""
    return _forward(gi, w_hh, b_hn, keep=False)[0]
