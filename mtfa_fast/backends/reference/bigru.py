"""The bidirectional GRU: torch's own for the result, and its recurrence step by step with what a gradient needs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def bigru(x: Tensor, weights: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """x (B, T, I), weights as in torch.nn.GRU -> output (B, T, 2H), h_n (2L, B, H)."""
    count = len(weights) // 8
    hidden = weights[1].shape[1]
    h0 = x.new_zeros(2 * count, x.shape[0], hidden)
    if x.shape[0] == 0:  # torch refuses an empty batch
        return x.new_zeros(0, x.shape[1], 2 * hidden), h0
    output, h_n = torch.gru(x, h0, list(weights), True, count, 0.0, False, True, True)
    return output.contiguous(), h_n


def bigru_recurrence(gi: Tensor, w_hh: Tensor, b_hn: Tensor) -> tuple[Tensor, Tensor]:
    """One layer: gi (B, T, 2, 3H), w_hh (2, 3H, H), b_hn (2, H) -> out (B, T, 2H), gates (B, T, 2, 4, H)."""
    batch, hidden = gi.shape[0], w_hh.shape[2]
    projected = _in_step_order(gi).to(w_hh.dtype)  # (T, 2, B, 3H)
    bias = torch.cat((b_hn.new_zeros(2, 2 * hidden), b_hn), dim=1).unsqueeze(1)
    transposed = w_hh.transpose(1, 2)
    h = projected.new_zeros(2, batch, hidden)
    states, gates = [], []
    for step in projected:
        recurrent = torch.baddbmm(bias, h, transposed)
        r, z = torch.sigmoid(step[..., : 2 * hidden] + recurrent[..., : 2 * hidden]).chunk(2, -1)
        candidate = recurrent[..., 2 * hidden :]
        n = torch.tanh(step[..., 2 * hidden :] + r * candidate)
        h = n + z * (h - n)
        states.append(h)
        gates.append(torch.cat((r, z, n, candidate), -1))
    out = _in_time_order(torch.stack(states)).to(gi.dtype)
    return out.flatten(2), _in_time_order(torch.stack(gates)).unflatten(3, (4, hidden))


def bigru_recurrence_backward(d_out: Tensor, out: Tensor, gates: Tensor, w_hh: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of gi, (B, T, 2, 3H), and of W_hn h + b_hn, (B, T, 2, H).

    Every pre-activation's gradient is the state's gradient times a factor that the forward pass fixed, so
    the loop carries the state's gradient alone.
    """
    hidden = w_hh.shape[2]
    r, z, n, candidate = _in_step_order(gates.flatten(3)).chunk(4, -1)  # (T, 2, B, H) each
    states = _in_step_order(out.unflatten(2, (2, hidden))).to(w_hh.dtype)
    before = torch.cat((torch.zeros_like(states[:1]), states[:-1]))
    factor_n = (1 - z) * (1 - n * n)
    factor_r = factor_n * candidate * r * (1 - r)
    factor_z = (before - n) * z * (1 - z)
    factors = torch.stack((factor_r, factor_z, factor_n * r), -2)  # (T, 2, B, 3, H)
    d_states = _in_step_order(d_out.unflatten(2, (2, hidden))).to(w_hh.dtype)
    carried = torch.zeros_like(states[0])
    totals = []
    for d_state, factor, keep in zip(d_states.flip(0), factors.flip(0), z.flip(0), strict=True):
        total = d_state + carried
        totals.append(total)
        carried = torch.baddbmm(keep * total, (factor * total.unsqueeze(-2)).flatten(2), w_hh)
    total = torch.stack(totals).flip(0)
    d_gi = torch.cat((factor_r * total, factor_z * total, factor_n * total), -1)
    return _in_time_order(d_gi).to(d_out.dtype), _in_time_order(factor_n * r * total).to(d_out.dtype)


def _in_step_order(x: Tensor) -> Tensor:
    """(B, T, 2, N) -> (T, 2, B, N) in the order of computation: direction 1 starts at the last frame."""
    return torch.stack((x[:, :, 0].transpose(0, 1), x[:, :, 1].transpose(0, 1).flip(0)), dim=1)


def _in_time_order(x: Tensor) -> Tensor:
    """Inverse of :func:`_in_step_order`."""
    return torch.stack((x[:, 0].transpose(0, 1), x[:, 1].flip(0).transpose(0, 1)), dim=2)
