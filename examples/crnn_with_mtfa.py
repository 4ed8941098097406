"""The MTFA layer inside somebody else's network: a CRNN of the shape of the DESED baseline, trained for some steps.

    python examples/crnn_with_mtfa.py --steps 30

The convolutional part, gated linear units and the pooling of the weak output follow the usual recipe; the two lines
that matter are ``MTFA(...)`` between the convolutions and ``BiGRU(...)`` in place of ``torch.nn.GRU``. The clips are
tones in noise, so that the script needs no download; give it yours.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtfa_fast import MTFA, BiGRU


class GatedConv(nn.Module):
    """3x3 convolution, batch norm, gated linear unit, average pooling."""

    def __init__(self, inputs: int, outputs: int, pooling: tuple[int, int], dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm = nn.BatchNorm2d(outputs)
        self.gate = nn.Linear(outputs, outputs)
        self.dropout = nn.Dropout(dropout)
        self.pooling = pooling

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        gate = torch.sigmoid(self.gate(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        return F.avg_pool2d(self.dropout(x * gate), self.pooling)


class CRNN(nn.Module):
    """Log-mel (B, 1, T, 128) -> strong (B, T / 4, classes) and weak (B, classes) probabilities."""

    FILTERS = (16, 32, 64, 128, 128, 128, 128)
    POOLING = ((2, 2), (2, 2), (1, 2), (1, 2), (1, 2), (1, 2), (1, 2))
    ATTENTION_AFTER = 2  # with 64 filters, a quarter of the frames and 16 of the bands are left

    def __init__(self, classes: int = 10, hidden: int = 128, dropout: float = 0.5) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = 1
        for index, (filters, pooling) in enumerate(zip(self.FILTERS, self.POOLING, strict=True)):
            layers.append(GatedConv(inputs, filters, pooling, dropout))
            if index == self.ATTENTION_AFTER:
                layers.append(MTFA(filters))
            inputs = filters
        self.convolutions = nn.Sequential(*layers)
        self.gru = BiGRU(inputs, hidden, num_layers=2, dropout=dropout)
        self.dropout = nn.Dropout(dropout)
        self.strong = nn.Linear(2 * hidden, classes)
        self.attention = nn.Linear(2 * hidden, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.convolutions(x)  # (B, 128, T / 4, 1)
        frames = self.dropout(self.gru(maps.squeeze(3).transpose(1, 2))[0])
        strong = torch.sigmoid(self.strong(frames))
        attention = torch.softmax(self.attention(frames), dim=-1).clamp(1e-7, 1)
        return strong, (strong * attention).sum(1) / attention.sum(1)


def tones_in_noise(batch: int, frames: int, classes: int) -> tuple[Tensor, Tensor]:
    """Log-mel (B, 1, frames, 128) and labels (B, frames / 4, classes): one tone of some length in each clip."""
    spectra = torch.randn(batch, 1, frames, 128)
    labels = torch.zeros(batch, frames // 4, classes)
    for clip in range(batch):
        label = int(torch.randint(classes, ()))
        first = int(torch.randint(frames // 8, ()))
        last = first + frames // 8
        labels[clip, first:last, label] = 1
        band = 4 + 12 * label
        spectra[clip, 0, 4 * first : 4 * last, band : band + 3] += 4
    return spectra, labels


def train(steps: int, batch: int = 4, frames: int = 256, classes: int = 10, device: str = "cpu") -> list[float]:
    """Binary cross-entropy of the strong and the weak output; returns the loss of every step."""
    model = CRNN(classes).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for step in range(steps):
        spectra, labels = (t.to(device) for t in tones_in_noise(batch, frames, classes))
        # Half precision on a GPU; the fused ops follow autocast.
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            strong, weak = model(spectra)
        loss = F.binary_cross_entropy(strong.float(), labels)
        loss = loss + F.binary_cross_entropy(weak.float(), labels.amax(1))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step % 10 == 0:
            print(f"step {step}: loss {losses[-1]:.3f}")
    return losses


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    print(f"last loss {train(arguments.steps, device=arguments.device)[-1]:.3f}")
