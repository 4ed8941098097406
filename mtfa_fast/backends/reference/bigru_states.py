"""The recurrence of one bidirectional layer for inference: the states, and nothing that a gradient would need."""

from __future__ import annotations

import torch
from torch import Tensor


def bigru_states(gi: Tensor, w_hh: Tensor, b_hn: Tensor) -> Tensor:
    """gi (B, T, 2, 3H), w_hh (2, 3H, H), b_hn (2, H) -> out (B, T, 2H), as of mtfa_fast.backends.gru_layers."""
    return bigru_states_from(gi, w_hh, b_hn, w_hh.new_zeros(len(gi), w_hh.shape[2])).to(gi.dtype)


def bigru_states_from(gi: Tensor, w_hh: Tensor, b_hn: Tensor, initial: Tensor) -> Tensor:
    """The same in w_hh's dtype, the forward direction from the state ``initial`` (B, H) on.

    By torch's own GRU, whose input projection becomes the selection of a direction's part: products with 1 and 0.
    """
    batch, _, _, width = gi.shape
    if batch == 0:  # torch refuses an empty batch
        return w_hh.new_zeros(0, gi.shape[1], width // 3 * 2)
    select = torch.eye(2 * width, dtype=w_hh.dtype, device=gi.device)
    none = w_hh.new_zeros(width)
    weights = []
    for direction in range(2):
        hidden_bias = torch.cat((none[: width // 3 * 2], b_hn[direction]))
        weights += [select[direction * width : (direction + 1) * width], w_hh[direction], none, hidden_bias]
    h0 = torch.stack((initial, torch.zeros_like(initial)))
    rows = gi.flatten(2).to(w_hh.dtype)
    out: Tensor = torch.gru(rows, h0, weights, True, 1, 0.0, False, True, True)[0]
    return out.contiguous()
