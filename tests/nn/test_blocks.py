"""The fast residual block in training: where its op runs, what it leaves behind, and that a network trains with it."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from mtfa_fast.nn import blocks, modules
from mtfa_fast.nn.fast import accelerate
from tests.networks import random_network


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The maps that came to the op."""
    seen: list[Tensor] = []
    op = blocks.residual_block_train
    monkeypatch.setattr(blocks, "residual_block_train", lambda x, *rest: seen.append(x) or op(x, *rest))
    return seen


def pair(channels: int = 16, dtype: torch.dtype = torch.float32) -> tuple[modules.ResidualBlock, blocks.ResidualBlock]:
    torch.manual_seed(0)
    plain = modules.ResidualBlock(channels)
    for norm in (plain.norm1, plain.norm2):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.3)
    fast = copy.deepcopy(plain)
    assert accelerate(fast) is fast and type(fast) is blocks.ResidualBlock
    return plain.to(dtype), fast.to(dtype)


def step(block: nn.Module, x: Tensor) -> list[Tensor]:
    leaf = x.clone().requires_grad_()
    out = block(leaf)
    gradients = torch.autograd.grad(out.float().square().mean(), [leaf, *block.parameters()], allow_unused=True)
    return [out, *(g for g in gradients if g is not None), *(b.clone() for b in block.buffers())]


@pytest.mark.parametrize("momentum", [0.1, 0.01])
def test_gradients_and_running_averages_are_the_plain_blocks(calls: list[Tensor], momentum: float) -> None:
    plain, fast = pair()
    for block in (plain, fast):
        block.norm1.momentum = block.norm2.momentum = momentum
    for _ in range(3):
        x = torch.randn(2, 16, 5, 9)
        torch.testing.assert_close(step(fast, x), step(plain, x), rtol=1e-4, atol=1e-5)
    assert len(calls) == 3 and int(fast.norm2.num_batches_tracked) == 3  # type: ignore[arg-type]


def evaluated(block: nn.Module) -> None:
    block.norm2.eval()  # type: ignore[operator, union-attr]


def hooked(block: nn.Module) -> None:
    block.conv1.register_forward_hook(lambda *_: None)  # type: ignore[operator, union-attr]


def other_norm(block: nn.Module) -> None:
    block.norm1 = nn.GroupNorm(2, 16)


def no_averages(block: nn.Module) -> None:
    block.norm1.track_running_stats = False  # type: ignore[union-attr, assignment]
    block.norm1.running_mean = block.norm1.running_var = None  # type: ignore[union-attr, assignment]


def cumulative(block: nn.Module) -> None:
    block.norm1.momentum = None  # type: ignore[union-attr, assignment]


def dilated(block: nn.Module) -> None:
    block.conv2.dilation, block.conv2.padding = (2, 2), (2, 2)  # type: ignore[union-attr, assignment]


def other_eps(block: nn.Module) -> None:
    block.norm2.eps = 1e-2  # type: ignore[union-attr, assignment]


@pytest.mark.parametrize("change", [evaluated, hooked, other_norm, no_averages, cumulative, dilated, other_eps])
def test_what_was_changed_runs_as_it_is(change: Callable[[nn.Module], None], calls: list[Tensor]) -> None:
    plain, fast = pair()
    change(plain), change(fast)
    x = torch.randn(2, 16, 5, 9)
    assert all(torch.equal(a, b) for a, b in zip(step(fast, x), step(plain, x), strict=True))
    assert not calls


def test_what_the_kernels_do_not_take_runs_in_torch(calls: list[Tensor]) -> None:
    for channels, dtype in ((10, torch.float32), (16, torch.float64)):
        plain, fast = pair(channels, dtype)
        x = torch.randn(2, channels, 5, 9, dtype=dtype)
        assert all(torch.equal(a, b) for a, b in zip(step(fast, x), step(plain, x), strict=True))
    plain, fast = pair()
    with torch.no_grad():
        x = torch.randn(2, 16, 5, 9)
        assert torch.equal(fast(x), plain(x))
        with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
            fast(x[:1, :, :1, :1])
    with pytest.raises(ValueError, match="Expected more than 1 value per channel"):
        fast(x[:1, :, :1, :1])
    assert not calls


def gradients(network: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    loss = nn.functional.binary_cross_entropy_with_logits(network(x), y)
    return [g.double() for g in torch.autograd.grad(loss, list(network.parameters()))]


def test_every_parameters_gradient_is_as_good_as_torchs(calls: list[Tensor]) -> None:
    # Where rounding puts one ReLU's argument on the other side of zero, or exchanges two maxima, a gradient is far off,
    # and whether it is stock's or ours is a matter of chance: hence the middle of some batches.
    plain = random_network(channels=32, bands=32, hidden=16, pooling=4).train()
    for module in plain.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    plain.gru.dropout = 0.0
    fast = accelerate(copy.deepcopy(plain))
    exact_net = copy.deepcopy(plain).double()
    errors = []
    for seed in range(5):
        torch.manual_seed(seed)
        x, y = torch.randn(2, 32, 32), (torch.rand(2, 32, len(plain.config.classes)) < 0.2).float()
        exact = gradients(exact_net, x.double(), y.double())
        found = (gradients(network, x, y) for network in (plain, fast))
        errors.append([[float((g - e).norm() / e.norm()) for g, e in zip(f, exact, strict=True)] for f in found])
    stock, ours = torch.tensor(errors).transpose(0, 1)  # (batch, parameter)
    assert len(calls) == 5 * 12
    assert ours.median(0).values.mean() <= 2 * stock.median(0).values.mean()
    for (name, _), got, theirs in zip(plain.named_parameters(), ours.median(0).values, stock.amax(0), strict=True):
        assert got <= 2 * theirs, (name, got, theirs)
