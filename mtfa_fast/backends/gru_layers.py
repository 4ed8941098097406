"""A bidirectional GRU around its recurrence: everything that is a matrix product, layer by layer.

Shared by the backends and the op. The recurrence itself, the part with T dependent steps, comes from a
backend and knows one layer, both directions:

    recurrence(gi, w_hh, b_hn) -> (out, gates)
        gi     (B, T, 2, 3H)    x W_ih^T + b_ih, for r and z with b_hh added; any float dtype
        w_hh   (2, 3H, H)       float32 (float64 for float64 gi)
        b_hn   (2, H)           as w_hh; stays apart because r multiplies W_hn h + b_hn
        out    (B, T, 2H)       as gi
        gates  (B, T, 2, 4, H)  as w_hh: r, z, n and W_hn h + b_hn; the backward pass needs them
    recurrence_backward(d_out, out, gates, w_hh) -> (d_gi (B, T, 2, 3H), d_hn (B, T, 2, H))
        gradients of the pre-activations; d_hn is that of W_hn h + b_hn

Gate order r, z, n and equations are torch.nn.GRU's; direction 1 runs backward in time; states start at zero.
``weights`` is torch.nn.GRU's flat list: for each layer, for each direction, w_ih (3H, I), w_hh (3H, H),
b_ih (3H), b_hh (3H).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

PER_DIRECTION = 4
PER_LAYER = 2 * PER_DIRECTION

Recurrence = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
RecurrenceBackward = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def layers(weights: Sequence[Tensor]) -> list[Sequence[Tensor]]:
    return [weights[i : i + PER_LAYER] for i in range(0, len(weights), PER_LAYER)]


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """The state of a half-precision recurrence is held in float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def recurrent_weights(layer: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """w_hh (2, 3H, H) and b_hn (2, H) of one layer."""
    dtype, hidden = state_dtype(layer[1].dtype), layer[1].shape[1]
    w_hh = torch.stack((layer[1], layer[5])).to(dtype)
    b_hn = torch.stack((layer[3][2 * hidden :], layer[7][2 * hidden :])).to(dtype)
    return w_hh, b_hn


def project(x: Tensor, layer: Sequence[Tensor]) -> Tensor:
    """gi (B, T, 2, 3H): the input projections of all steps and both directions as one matrix product."""
    hidden = layer[1].shape[1]
    w_ih = torch.cat((layer[0], layer[4]))
    parts = []
    for b_ih, b_hh in ((layer[2], layer[3]), (layer[6], layer[7])):
        parts += [b_ih[: 2 * hidden] + b_hh[: 2 * hidden], b_ih[2 * hidden :]]
    rows = x.reshape(x.shape[0] * x.shape[1], x.shape[2])
    gi = torch.addmm(torch.cat(parts), rows, w_ih.t())
    return gi.view(x.shape[0], x.shape[1], 2, 3 * hidden)


def gates(gi: Tensor, w_hh: Tensor, b_hn: Tensor, out: Tensor) -> Tensor:
    """The gates of all steps at once, (B, T, 2, 4, H), for a recurrence that kept none: the states are known."""
    hidden = w_hh.shape[2]
    states = out.unflatten(2, (2, hidden)).to(w_hh.dtype)
    before = torch.zeros_like(states)
    before[:, 1:, 0] = states[:, :-1, 0]
    before[:, :-1, 1] = states[:, 1:, 1]
    recurrent = torch.einsum("btdh,dgh->btdg", before, w_hh)
    projected = gi.to(w_hh.dtype)
    r, z = torch.sigmoid(projected[..., : 2 * hidden] + recurrent[..., : 2 * hidden]).chunk(2, -1)
    candidate = recurrent[..., 2 * hidden :] + b_hn
    n = torch.tanh(projected[..., 2 * hidden :] + r * candidate)
    return torch.stack((r, z, n, candidate), -2)


def last_states(out: Tensor) -> Tensor:
    """h_n (2, B, H) of one layer: the forward state after the last step, the backward one after the first."""
    hidden = out.shape[2] // 2
    return torch.stack((out[:, -1, :hidden], out[:, 0, hidden:]))


def forward(x: Tensor, weights: Sequence[Tensor], recurrence: Recurrence) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x (B, T, I) -> output (B, T, 2H), h_n (2L, B, H), inner (L - 1, B, T, 2H), gates (L, B, T, 2, 4, H).

    ``inner`` holds the outputs of the layers before the last one.
    """
    outs, gates, states = [], [], []
    for layer in layers(weights):
        out, layer_gates = recurrence(project(x, layer), *recurrent_weights(layer))
        outs.append(out)
        gates.append(layer_gates)
        states.append(last_states(out))
        x = out
    inner = torch.stack(outs[:-1]) if len(outs) > 1 else x.new_empty((0, *x.shape))
    return x, torch.cat(states), inner, torch.stack(gates)


def backward(
    d_output: Tensor,
    d_h_n: Tensor,
    x: Tensor,
    weights: Sequence[Tensor],
    output: Tensor,
    inner: Tensor,
    gates: Tensor,
    recurrence_backward: RecurrenceBackward,
) -> tuple[Tensor, list[Tensor]]:
    """Gradients of x and of each weight, given those of output and h_n and what :func:`forward` returned."""
    outs = [*inner.unbind(0), output]
    inputs = [x, *outs[:-1]]
    hidden = weights[1].shape[1]
    d_weights: list[Tensor] = []
    d_out = d_output
    for index in reversed(range(len(outs))):
        layer, out = layers(weights)[index], outs[index]
        d_out = d_out.clone(memory_format=torch.contiguous_format)
        d_out[:, -1, :hidden] += d_h_n[2 * index]
        d_out[:, 0, hidden:] += d_h_n[2 * index + 1]
        d_gi, d_hn = recurrence_backward(d_out, out, gates[index], recurrent_weights(layer)[0])
        d_weights = _weight_gradients(d_gi, d_hn, inputs[index], out) + d_weights
        w_ih = torch.cat((layer[0], layer[4]))
        d_out = (d_gi.flatten(0, 1).flatten(1) @ w_ih).view_as(inputs[index])
    return d_out, d_weights


def _weight_gradients(d_gi: Tensor, d_hn: Tensor, x: Tensor, out: Tensor) -> list[Tensor]:
    """The eight gradients of one layer. The state before a step is the output of the step before it."""
    hidden = d_hn.shape[-1]
    rows = x.reshape(x.shape[0] * x.shape[1], x.shape[2])
    earlier = (out[:, :-1, :hidden], out[:, 1:, hidden:])
    gradients = []
    for direction, state in enumerate(earlier):
        d_input = d_gi[:, :, direction].flatten(0, 1)
        d_state = torch.cat((d_gi[:, :, direction, : 2 * hidden], d_hn[:, :, direction]), dim=2)
        with_state = d_state[:, 1:] if direction == 0 else d_state[:, :-1]
        gradients += [
            d_input.t() @ rows,
            with_state.flatten(0, 1).t() @ state.flatten(0, 1),
            d_input.sum(0),
            d_state.sum((0, 1)),
        ]
    return gradients
