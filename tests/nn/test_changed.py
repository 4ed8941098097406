"""Fast layers whose parts are watched, shared, replaced, or differentiated in other ways: the plain layer's answer."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from mtfa_fast.nn import SEDNet, modules
from mtfa_fast.nn.fast import MTFA, BiGRU, Hourglass, accelerate
from tests.networks import random_network
from tests.nn.layers import maps, trained, twins


def test_hooks_on_parts_are_served_and_masks_work() -> None:
    plain, fast = (layer.eval() for layer in twins())
    x = maps(1, 16, 11, 8)
    seen: list[Tensor] = []
    handle = fast.features[1].register_forward_hook(lambda _m, _i, out: seen.append(out))
    with torch.no_grad():
        wanted = plain(x)
        torch.testing.assert_close(fast(x), wanted, rtol=1e-5, atol=1e-5)
        assert len(seen) == 1
        handle.remove()
        torch.testing.assert_close(fast(x), wanted, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(fast.masks(x), plain.masks(x))
    assert len(seen) == 1
    everywhere = nn.modules.module.register_module_forward_hook(lambda _m, _i, out: seen.append(out))
    try:
        with torch.no_grad():
            fast(x)
    finally:
        everywhere.remove()
    assert len(seen) > 60
    fast.train().mask.register_full_backward_hook(lambda *_: seen.clear())  # type: ignore[union-attr]
    fast(maps(2, 16, 16, 8).requires_grad_()).sum().backward()
    assert not seen


class Louder(modules.ResidualBlock):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Adapted(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return 3 * self.inner(x)  # type: ignore[no-any-return]


class Deaf(modules.Hourglass):
    def forward(self, x: Tensor) -> Tensor:
        return x


def share_blocks(layer: Any) -> None:
    layer.features[1] = layer.features[0]
    layer.mask.low_out = layer.mask.skip


def patch_forward(layer: Any) -> None:
    block = layer.features[1]
    block.forward = lambda x: 2 * type(block).forward(block, x)


def put(path: str, make: Callable[[nn.Module], nn.Module]) -> Callable[[Any], None]:
    def change(layer: Any) -> None:
        owner, _, name = path.rpartition(".")
        parent = layer.get_submodule(owner)
        torch.manual_seed(7)
        setattr(parent, name, make(getattr(parent, name)).train(layer.training))

    change.__name__ = f"{path}: {make.__name__}"
    return change


def dilated(conv: nn.Module) -> nn.Module:
    return nn.Conv2d(16, 16, 3, padding=2, dilation=2, bias=False)


def group_norm(norm: nn.Module) -> nn.Module:
    return nn.GroupNorm(4, 16)


def normalised(conv: nn.Module) -> nn.Module:
    return nn.utils.parametrizations.weight_norm(conv)  # type: ignore[no-any-return]


def louder(block: nn.Module) -> nn.Module:
    return Louder(16)


def deaf(hourglass: nn.Module) -> nn.Module:
    return Deaf(16, 3)


def one_sided(projection: nn.Module) -> nn.Module:
    return nn.Conv2d(16, 16, 1, bias=False)


CHANGES = [
    share_blocks,
    patch_forward,
    put("features.0.conv1", dilated),
    put("features.0.conv1", Adapted),
    put("features.0.conv2", normalised),
    put("features.0.norm1", group_norm),
    put("features.1", louder),
    put("features.1", nn.Identity),
    put("mask", deaf),
    put("mask.inner", Adapted),
    put("mask.inner.skip", louder),
    put("projection", Adapted),
    put("projection", one_sided),
]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_part_of_another_kind_keeps_its_own_forward(change: Callable[[Any], None], training: bool) -> None:
    plain, fast = (layer.double().train(training) for layer in twins())
    x = maps(2, 16, 16, 16).double()
    for layer in (plain, fast):
        change(layer)
        layer.double()
    with torch.set_grad_enabled(training):
        torch.testing.assert_close(fast(x), plain(x), rtol=1e-9, atol=1e-9)


def test_one_norm_that_still_learns() -> None:
    plain, fast = (layer.eval() for layer in twins())
    x = maps(2, 16, 8, 8)
    for layer in (plain, fast):
        layer.features[1].norm1.train()  # type: ignore[union-attr]
    with torch.no_grad():
        torch.testing.assert_close(fast(x), plain(x))


def test_other_ways_to_differentiate() -> None:
    """torch.func and forward mode, which know no ops of torch.library and would go on with zeros."""
    plain, fast = (layer.double().eval() for layer in twins(depth=1))
    x, tangent = maps(2, 16, 3, 4).double(), maps(2, 16, 3, 4).double()

    def results(layer: nn.Module) -> list[Tensor]:
        def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
            return torch.func.functional_call(layer, parameters, (x[None],)).square().mean()

        each = torch.vmap(torch.func.grad(loss), in_dims=(None, 0))(dict(layer.named_parameters()), x)
        return [*torch.func.jvp(layer, (x,), (tangent,)), *each.values()]

    torch.testing.assert_close(results(fast), results(plain))
    stock = nn.GRU(4, 3, bidirectional=True, batch_first=True)
    answers = [torch.func.jvp(lambda x, gru=gru: gru(x)[0], (x[0].float(),), (tangent[0].float(),)) for gru in
               (stock, accelerate(copy.deepcopy(stock)))]  # fmt: skip
    torch.testing.assert_close(answers[1], answers[0])


def test_shapes_are_known_on_the_meta_device() -> None:
    with torch.device("meta"):
        layer, x = MTFA(16).eval(), torch.empty(2, 16, 9, 8)
    with torch.no_grad():
        assert layer(x).shape == x.shape and layer(x).is_meta


class Own(modules.MTFA):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Somebodys(nn.Module):
    """Nested, shared and subclassed layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first = trained()
        self.again = self.first
        self.nested = nn.ModuleList([nn.Sequential(trained(depth=2))])
        self.own = Own(16)
        self.hourglass = modules.Hourglass(16, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.hourglass(self.own(self.nested[0](self.again(self.first(x)))))  # type: ignore[no-any-return]


def test_accelerate_finds_nested_shared_and_subclassed_layers() -> None:
    model, x = Somebodys().double().eval(), maps(1, 16, 8, 8).double()
    calls: list[int] = []
    model.first.register_forward_hook(lambda *_: calls.append(1))
    with torch.no_grad():
        wanted = model(x)
        torch.testing.assert_close(accelerate(model)(x), wanted)
    assert len(calls) == 4
    assert type(model.first) is type(model.nested[0][0]) is MTFA and type(model.hourglass) is Hourglass
    assert type(model.own) is Own and type(model.own.mask) is Hourglass


def test_accelerate_keeps_identities() -> None:
    model = nn.ModuleDict({
        "net": random_network(channels=16, bands=16, hidden=5),
        "hourglass": modules.Hourglass(16, 2),
        "one_way": nn.GRU(3, 4),
        "no_bias": nn.GRU(3, 4, bidirectional=True, bias=False),
    })  # fmt: skip
    names, parameters = list(model.state_dict()), list(map(id, model.parameters()))
    assert accelerate(model) is model
    assert list(model.state_dict()) == names and list(map(id, model.parameters())) == parameters
    network = model["net"]
    assert isinstance(network, SEDNet)
    assert type(network.attention) is MTFA and type(network.gru) is BiGRU
    assert type(network.attention.mask) is Hourglass and type(model["hourglass"]) is Hourglass
    assert type(model["one_way"]) is nn.GRU and type(model["no_bias"]) is nn.GRU
    accelerate(model)  # again changes nothing, and does not warn
    with pytest.warns(UserWarning, match="nothing was changed"):
        accelerate(nn.Linear(1, 1))
