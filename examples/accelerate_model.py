"""Speeding up a finished model that was written against the plain layers, without touching its code.

    python examples/accelerate_model.py

``accelerate(model)`` changes the classes of the layers in place: parameters, state dict keys, optimizers and
checkpoints stay as they are, and so do the results.
"""

from __future__ import annotations

import argparse
import copy
import time

import torch
from torch import Tensor, nn

from mtfa_fast import accelerate
from mtfa_fast.nn.modules import MTFA


class Tagger(nn.Module):
    """Somebody's model: plain attention layer, plain torch.nn.GRU."""

    def __init__(self, channels: int = 64, bands: int = 128, classes: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, channels, 3, padding=1)
        self.attention = MTFA(channels)
        self.gru = nn.GRU(channels * bands // 16, 64, num_layers=2, batch_first=True, bidirectional=True)
        self.output = nn.Linear(128, classes)

    def forward(self, log_mel: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, classes)."""
        maps = self.attention(torch.relu(self.stem(log_mel.unsqueeze(1))))
        maps = nn.functional.max_pool2d(maps, (1, 16))
        states, _ = self.gru(maps.permute(0, 2, 3, 1).flatten(2))
        return torch.sigmoid(self.output(states))


@torch.no_grad()
def compare(plain: nn.Module, fast: nn.Module, x: Tensor, repeats: int = 3) -> tuple[float, float, float]:
    """Largest difference of the results, and the best of some times in seconds of each."""
    times = []
    for model in (plain, fast):
        runs = []
        for _ in range(repeats):
            start = time.perf_counter()
            model(x)
            runs.append(time.perf_counter() - start)
        times.append(min(runs))
    return (plain(x) - fast(x)).abs().max().item(), times[0], times[1]


def main(channels: int = 64, bands: int = 128, frames: int = 512) -> tuple[float, nn.Module, nn.Module]:
    plain = Tagger(channels, bands).eval()
    fast = accelerate(copy.deepcopy(plain))
    fast.load_state_dict(plain.state_dict())  # the keys are the same
    difference, before, after = compare(plain, fast, torch.randn(1, frames, bands))
    print(f"largest difference {difference:.1e}; plain {before * 1e3:.0f} ms, accelerated {after * 1e3:.0f} ms")
    return difference, plain, fast


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=512)
    main(frames=parser.parse_args().frames)
