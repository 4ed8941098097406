"""The whole network: log-mel spectrogram in, one logit per frame and class out."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import HOURGLASS_DEPTH, Config
from .modules import MTFA, crop_time, pad_time


class Stem(nn.Module):
    """relu(norm(conv(x))), 3x3: (B, 1, T, D) -> (B, C, T, D)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, channels, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)))


class Head(nn.Module):
    """Linear 2U -> U, ReLU, dropout, Linear U -> K: (..., 2U) -> (..., K) (section 2.3 of the paper)."""

    def __init__(self, inputs: int, hidden: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, hidden)
        self.output = nn.Linear(hidden, classes)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.dropout(F.relu(self.hidden(x))))


class SEDNet(nn.Module):
    """Section 2 of the paper: stem, MTFA layer, frequency pooling, 2-layer BiGRU, head.

    ``forward`` takes normalised log-mel (B, T, D), any float dtype and any T >= 1, and returns
    logits (B, T, K); :meth:`probabilities` applies the sigmoid and, given ``normalize=True``, the
    per-band mean and deviation that the module holds as buffers. Time is padded once, before the
    stem, so the whole network and its engines see the same frames.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        net = config.network
        self.config = config
        self.stem = Stem(net.channels)
        self.attention = MTFA(net.channels, variant=net.variant, mask_projection=net.mask_projection)
        self.input_dropout = nn.Dropout(net.dropout)
        self.gru = nn.GRU(
            config.gru_inputs,
            net.hidden,
            num_layers=2,
            batch_first=True,
            bidirectional=True,
            dropout=net.dropout,
        )
        self.gru_dropout = nn.Dropout(net.dropout)
        self.head = Head(2 * net.hidden, net.hidden, len(config.classes), net.dropout)
        self.register_buffer("mean", torch.zeros(config.features.mel_bands))
        self.register_buffer("std", torch.ones(config.features.mel_bands))

    def forward(self, x: Tensor) -> Tensor:
        bands = self.config.features.mel_bands
        if x.ndim != 3 or x.shape[1] < 1 or x.shape[2] != bands:
            raise ValueError(f"x: got shape {tuple(x.shape)}, allowed: (B, T >= 1, {bands})")
        frames = x.shape[1]
        maps = self.attention(self.stem(pad_time(x.unsqueeze(1), 2**HOURGLASS_DEPTH)))
        vectors = self.input_dropout(self.flatten(maps))
        return crop_time(self.head(self.gru_dropout(self.gru(vectors)[0])), frames, dim=1)

    def flatten(self, maps: Tensor) -> Tensor:
        """(B, C, T, D) -> (B, T, D/pooling * C), index d * C + c; the maximum of each group of bands."""
        pooling = self.config.network.frequency_pooling
        if pooling > 1:
            maps = F.max_pool2d(maps, (1, pooling))
        return maps.permute(0, 2, 3, 1).flatten(2)

    def normalize(self, log_mel: Tensor) -> Tensor:
        """(…, T, D) log-mel to zero mean and unit deviation per band, by the stored statistics."""
        return (log_mel - self.mean) / self.std

    @torch.no_grad()
    def probabilities(self, log_mel: Tensor) -> Tensor:
        """Raw log-mel (B, T, D) -> frame probabilities (B, T, K), in evaluation mode's arithmetic."""
        return torch.sigmoid(self(self.normalize(log_mel)))
