"""The latency-controlled bidirectional GRU: the definition of what a live stream answers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def bigru_live(x: Tensor, weights: Sequence[Tensor], chunk: int, look_ahead: int) -> Tensor:
    """x (B, T, I), weights as in torch.nn.GRU -> output (B, T, 2H).

    The sequence is cut into chunks of ``chunk`` frames. Of each layer the forward direction carries its state from a
    chunk's last frame into the next chunk; the backward direction starts anew from zeros ``look_ahead`` frames behind
    the chunk, or at the sequence's end. All layers of a chunk run over the same frames, the chunk and its look-ahead.
    With a look-ahead of T frames it is the bidirectional GRU.
    """
    layers = [(weights[i : i + 4], weights[i + 4 : i + 8]) for i in range(0, len(weights), 8)]
    carried = [x.new_zeros(1, x.shape[0], weights[1].shape[1]) for _ in layers]
    frames, parts = x.shape[1], []
    for first in range(0, frames, chunk):
        last = min(first + chunk, frames)
        rows = x[:, first : min(last + look_ahead, frames)]
        for i, (forward, backward) in enumerate(layers):
            ahead = _gru(rows, carried[i], forward)
            behind = _gru(rows.flip(1), torch.zeros_like(carried[i]), backward).flip(1)
            carried[i] = ahead[:, last - first - 1].unsqueeze(0)
            rows = torch.cat((ahead, behind), 2)
        parts.append(rows[:, : last - first])
    return torch.cat(parts, 1)


def _gru(x: Tensor, initial: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """One direction of one layer from the state ``initial`` (1, B, H) on."""
    out: Tensor = torch.gru(x, initial.contiguous(), list(weights), True, 1, 0.0, False, False, True)[0]
    return out
