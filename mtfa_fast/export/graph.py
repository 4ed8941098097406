"""The network as it is exported: raw log-mel or samples in, probabilities out, any batch and length."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch._higher_order_ops.scan import scan

from ..backends.reference.log_mel import log_mel as plain_log_mel
from ..nn.convert import from_weights
from ..nn.fast import accelerate
from ..ops import log_mel
from ..weights import Weights

Source = Literal["log-mel", "samples"]
GRU_TENSORS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


class Exported(nn.Module):
    """``SEDNet`` to probabilities (section 2 of the paper), dropout gone, the front end before it if wanted.

    forward: log-mel (B, T, D) -> (B, T, K), or with ``source="samples"`` mono samples (B, n) at the config's rate ->
    (B, 1 + n // hop, K); float32. ``fast``: of this package's ops, each one node for the exporter; else of torch's own
    alone, so that the program runs where this package is not installed.
    """

    window: Tensor
    mel: Tensor

    def __init__(self, weights: Weights, source: Source, *, fast: bool) -> None:
        super().__init__()
        self.source, self.fast, self.features = source, fast, weights.config.features
        self.net = from_weights(weights)
        if fast:
            accelerate(self.net)
        else:
            self.net.gru = ScannedGRU(self.net.gru)  # type: ignore[assignment]
        self.register_buffer("window", torch.from_numpy(weights.tensors["features.window"].copy()))
        self.register_buffer("mel", torch.from_numpy(weights.tensors["features.mel"].copy()))
        self.eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        if self.source == "samples":
            f = self.features
            if self.fast:
                x = log_mel(x, self.window, self.mel, hop=f.hop, fft_length=f.fft_length, log_floor=f.log_floor)
            else:
                x = plain_log_mel(x, self.window, self.mel, f.hop, f.fft_length, f.log_floor)
        return torch.sigmoid(self.net(self.net.normalize(x)))

    def example(self) -> Tensor:
        """Two inputs of a length that is special to nobody."""
        f = self.features
        return torch.zeros((2, 21 * f.hop + 1) if self.source == "samples" else (2, 22, f.mel_bands))


class ScannedGRU(nn.Module):
    """torch.nn.GRU, bidirectional and batch first, as a scan over time: torch.export would unroll the layer itself."""

    def __init__(self, gru: nn.GRU) -> None:
        super().__init__()
        self.hidden, self.layers = gru.hidden_size, gru.num_layers
        for layer in range(gru.num_layers):
            for name in GRU_TENSORS:
                both = [getattr(gru, f"{name}_l{layer}{direction}").detach() for direction in ("", "_reverse")]
                self.register_buffer(f"{name}{layer}", torch.stack(both))

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """(B, T, I) -> (B, T, 2H); the last states, which the network does not use, are left out."""
        for layer in range(self.layers):
            x = self._layer(
                x, *(self.get_buffer(f"{n}{layer}") for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
            )
        return x, None

    def _layer(self, x: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor, b_hh: Tensor) -> Tensor:
        hidden = self.hidden
        both = torch.stack((x, x.flip(1)))  # direction 1 starts at the last frame
        projected = torch.einsum("dbti,dgi->tdbg", both, w_ih) + b_ih.unsqueeze(1)
        transposed, bias = w_hh.transpose(1, 2), b_hh.unsqueeze(1)

        def step(h: Tensor, gi: Tensor) -> tuple[Tensor, Tensor]:
            gh = torch.baddbmm(bias, h, transposed)
            r, z = torch.sigmoid(gi[..., : 2 * hidden] + gh[..., : 2 * hidden]).chunk(2, -1)
            n = torch.tanh(gi[..., 2 * hidden :] + r * gh[..., 2 * hidden :])
            h = n + z * (h - n)
            return h, h.clone()  # a scan's state and result may not share memory

        _, out = scan(step, projected.new_zeros(2, x.shape[0], hidden), projected)
        return torch.cat((out[:, 0], out[:, 1].flip(0)), -1).transpose(0, 1)
