"""How the trunk is cut along time: nothing shows, and nothing less would do."""

from __future__ import annotations

import pytest
import torch

from mtfa_fast.engine import tiles
from mtfa_fast.engine.gpu import batches
from mtfa_fast.engine.gpu.blocks import Choice
from mtfa_fast.engine.gpu.network import Network
from mtfa_fast.nn import SEDNet
from mtfa_fast.nn.convert import to_weights
from tests.engine.lively import lively_network
from tests.networks import random_log_mel

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def net() -> SEDNet:
    return lively_network()


def test_halo_is_the_receptive_field() -> None:
    """By gradients, in float64: which input frames move an output frame at all."""
    net = lively_network(bands=8, pooling=1, channels=3).double()
    x = torch.randn(1, 400, 8, dtype=torch.float64)
    for frame in (200, 203, 204, 207):
        moved = x.clone().requires_grad_()
        net.flatten(net.attention(net.stem(moved.unsqueeze(1))))[:, frame].square().sum().backward()
        assert moved.grad is not None
        seen = torch.nonzero(moved.grad.abs().sum((0, 2))).flatten()
        low, high = tiles.needed(frame, frame)
        assert low <= seen[0] and seen[-1] <= high
        if frame in (203, 204):  # where it reaches furthest; maxima may hide single frames at its rim
            assert seen[0] <= low + 4 and high - 4 <= seen[-1]
    assert tiles.HALO_FRAMES == 80


@pytest.mark.parametrize("size", [168, 256])
@pytest.mark.parametrize("total", [8, 160, 168, 176, 256, 264, 1_000])
def test_windows_cover_everything_once_with_room(total: int, size: int) -> None:
    found = tiles.windows(total, size)
    assert [w.first for w in found] == [0, *[w.last for w in found[:-1]]] and found[-1].last == total
    for w in found:
        end = w.low + min(size, total)
        assert 0 <= w.low <= w.first < w.last <= end <= total and w.low % 8 == w.first % 8 == 0
        assert w.low == 0 or w.first - w.low >= tiles.HALO_FRAMES
        assert end == total or end - w.last >= tiles.HALO_FRAMES


def test_window_sizes_waste_little() -> None:
    for total in range(384, 4_000, 8):
        size = batches.window_size(total)
        computed = size * len(tiles.windows(total, size))
        assert size in batches.SIZES and computed <= 2 * total
    assert batches.window_size(2_056) == batches.window_size(100_000) == 2_048


@pytest.mark.parametrize("halo", [80, 72])
def test_windows_are_exact_and_the_halo_is_needed(net: SEDNet, halo: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64, where rounding hides nothing: the trunk in windows is the trunk of the whole."""
    monkeypatch.setattr(tiles, "HALO_FRAMES", halo)
    network = Network(to_weights(net), CPU, torch.float64, choice=Choice("reference"))
    x = random_log_mel(net, 600).double()
    whole = network.trunk(x)
    parts = [
        network.trunk(x[:, w.low : w.low + 208])[:, w.first - w.low : w.last - w.low] for w in tiles.windows(600, 208)
    ]
    error = float((torch.cat(parts, 1) - whole).abs().max())
    assert error < 1e-12 if halo == 80 else error > 1e-10
