"""conv3x3 and residual_block_train: derivatives, what torch is told about them, what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.library import opcheck
from torch.nn import functional as F

from mtfa_fast import ops
from mtfa_fast.checking.cases import LAYOUTS

NAMES = ("conv3x3", "residual_block_train")
EPS = 1e-5


def arguments(
    name: str,
    shape: tuple[int, int, int, int] = (2, 16, 7, 9),
    dtype: torch.dtype = torch.float32,
    layout: str = "channels_last",
) -> list[Tensor]:
    """Leaves, weights of the size that keeps the maps', norms far from neutral."""
    torch.manual_seed(0)
    channels = shape[1]

    def weight() -> Tensor:
        return torch.randn(channels, channels, 3, 3) * (9 * channels) ** -0.5

    made = [torch.randn(shape), weight()]
    if name == "residual_block_train":
        made += [torch.rand(channels) + 0.5, torch.randn(channels), weight(), torch.rand(channels) + 0.5]
        made += [torch.randn(channels)]
    changed = [t.to(dtype).contiguous(memory_format=LAYOUTS[layout]) if t.ndim == 4 else t.to(dtype) for t in made]
    return [t.requires_grad_() for t in changed]


def call(name: str, values: list[Tensor], backend: str = "auto") -> Tensor:
    out = getattr(ops, name)(*values, backend=backend)
    return out if isinstance(out, Tensor) else out[0]


def plain(name: str, values: list[Tensor]) -> Tensor:
    """In torch's own words."""
    if name == "conv3x3":
        return F.conv2d(*values, padding=1)
    x, w1, scale1, shift1, w2, scale2, shift2 = values
    y = F.relu(F.batch_norm(F.conv2d(x, w1, padding=1), None, None, scale1, shift1, True, 0.1, EPS))
    return F.relu(F.batch_norm(F.conv2d(y, w2, padding=1), None, None, scale2, shift2, True, 0.1, EPS) + x)


def number(name: str) -> list[float]:
    return [EPS] if name == "residual_block_train" else []


@pytest.mark.parametrize("name", NAMES)
def test_reference_is_torch_and_its_gradients_are_the_derivatives(name: str) -> None:
    values = arguments(name, (2, 2, 3, 4), torch.float64)
    torch.testing.assert_close(call(name, values), plain(name, values))
    assert torch.autograd.gradcheck(lambda *v: call(name, list(v)), values)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_kernels_agree_with_torch(name: str, layout: str) -> None:
    values = arguments(name, layout=layout)
    wanted, got = plain(name, values), call(name, values, "cpu")
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)
    assert got.is_contiguous(memory_format=LAYOUTS[layout])
    cotangent = torch.randn_like(wanted)
    gradients = [torch.autograd.grad(out, values, cotangent) for out in (got, wanted)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-4)
    assert [g.stride() for g in gradients[0]] == [v.stride() for v in values]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", NAMES)
def test_opcheck(name: str, layout: str) -> None:
    overload = getattr(torch.ops.mtfa_fast, name).default
    for dtype in (torch.float32, torch.bfloat16):
        opcheck(overload, (*arguments(name, dtype=dtype, layout=layout), *number(name)))
    values = [v.detach() for v in arguments(name, layout=layout)]
    strided = torch.stack([values[0]] * 2, -1)[..., 0]
    transposed = values[0].transpose(2, 3).contiguous().transpose(2, 3)
    for x in (strided, transposed):
        opcheck(overload, (x, *values[1:], *number(name)))


@pytest.mark.parametrize("name", NAMES)
def test_compiled_equals_eager_forward_and_backward(name: str, compiler_cache: None) -> None:
    def square(*values: Tensor) -> Tensor:
        return call(name, list(values)).square()

    compiled = torch.compile(square, fullgraph=True, dynamic=True)
    for shape in ((2, 16, 6, 8), (3, 16, 9, 12)):
        values = arguments(name, shape)
        wanted, got = square(*values), compiled(*values)
        torch.testing.assert_close(got, wanted)
        assert got.stride() == wanted.stride()
        torch.testing.assert_close(
            torch.autograd.grad(got.sum(), values), torch.autograd.grad(wanted.sum(), values), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("name", NAMES)
def test_autocast_casts_what_it_casts_for_a_convolution(name: str) -> None:
    values = arguments(name)
    with torch.autocast("cpu", torch.bfloat16):
        out = call(name, values)
    assert out.dtype == torch.bfloat16
    out.float().square().mean().backward()
    assert all(v.grad is not None and v.grad.dtype == torch.float32 for v in values)
    if name == "residual_block_train":
        with torch.autocast("cpu", torch.bfloat16):
            assert ops.residual_block_train(*values)[1].dtype == torch.float32
        # The norms' vectors are not rounded: a scale that bf16 does not know acts as it is.
        changed = [v.detach() for v in values]
        changed[5] = changed[5] * (1 + 2**-12)
        with torch.autocast("cpu", torch.bfloat16):
            assert not torch.equal(ops.residual_block_train(*changed)[0].float(), out.float())


def test_statistics_are_those_of_the_convolutions() -> None:
    values = arguments("residual_block_train")
    statistics = ops.residual_block_train(*values)[1]
    assert not statistics.requires_grad
    y1 = F.conv2d(values[0], values[1], padding=1)
    variance, mean = torch.var_mean(y1, (0, 2, 3), correction=0)
    torch.testing.assert_close(statistics[:2], torch.stack([mean, variance]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives_and_forward_mode_are_refused(name: str) -> None:
    values = arguments(name)
    first = torch.autograd.grad(call(name, values).square().sum(), values[0], create_graph=True)[0]
    with pytest.raises(NotImplementedError, match="second derivatives are not implemented"):
        first.sum().backward()
    plain_values = [v.detach() for v in values]
    with pytest.raises(NotImplementedError, match=f"mtfa_fast.ops.{name} has no forward-mode derivative"):
        torch.func.jvp(lambda x: call(name, [x, *plain_values[1:]]), (plain_values[0],), (plain_values[0],))


def test_no_value_in_a_map() -> None:
    for shape in ((0, 16, 3, 4), (2, 16, 0, 4), (2, 16, 3, 0)):
        values = arguments("conv3x3", shape)
        call("conv3x3", values).sum().backward()
        assert [v.grad.shape for v in values if v.grad is not None] == [v.shape for v in values]
        assert not values[1].grad.any()  # type: ignore[union-attr]


CONV = torch.zeros(4, 4, 3, 3)
NORM = torch.zeros(4)


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda x: ops.conv3x3(x, CONV[:2]), r"weight: got shape \(2, 4, 3, 3\), allowed: \(4, 4, 3, 3\)"),
        (lambda x: ops.conv3x3(x, CONV.double()), "weight: got torch.float64, allowed: torch.float32"),
        (lambda x: ops.conv3x3(x, CONV, backend="cpu"), "multiples of 16, not 4"),
        (lambda x: block(x[:1, :, :1, :1]), r"x: got shape \(1, 4, 1, 1\), allowed: .* B \* T \* D >= 2"),
        (lambda x: block(x, w1=CONV[..., :2]), r"w1: got shape \(4, 4, 3, 2\), allowed: \(4, 4, 3, 3\)"),
        (lambda x: block(x, shift2=NORM[:3]), r"shift2: got shape \(3,\), allowed: \(4,\)"),
        (lambda x: block(x, scale1=NORM.double()), "scale1: got torch.float64, allowed: torch.float32"),
        (lambda x: block(x, scale2=NORM.to("meta")), "scale2: got a tensor on meta, allowed: cpu"),
        (lambda x: torch.ops.mtfa_fast.conv3x3_backward(x[:, :, :2], x, CONV), r"grad: got shape \(2, 4, 2, 8\)"),
        (lambda x: backward(x, x[:1], torch.zeros(4, 4)), r"y1: got \(1, 4, 6, 8\) torch.float32, allowed: \(2, 4"),
        (lambda x: backward(x, x, torch.zeros(3, 4)), r"statistics: got shape \(3, 4\), allowed: \(4, 4\)"),
    ],
)
def test_bad_arguments_are_named(use: Callable[[Tensor], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        use(torch.zeros(2, 4, 6, 8))


def block(x: Tensor, **changes: Tensor) -> Tensor:
    given = {"w1": CONV, "scale1": NORM, "shift1": NORM, "w2": CONV, "scale2": NORM, "shift2": NORM, **changes}
    return ops.residual_block_train(x, *given.values())[0]


def backward(x: Tensor, y1: Tensor, statistics: Tensor) -> Any:
    inputs = (x, CONV, NORM, NORM, CONV, NORM, NORM, EPS)
    return torch.ops.mtfa_fast.residual_block_train_backward(x, *inputs, x, statistics, y1, x)


def test_norms_of_the_maps_own_type() -> None:
    # Of a model that was cast as a whole; a block of half precision with norms in float32 is the same block.
    half = arguments("residual_block_train", dtype=torch.bfloat16)
    mixed = [v.detach().float() if v.ndim == 1 else v.detach() for v in half]
    out = call("residual_block_train", half)
    assert torch.equal(out, call("residual_block_train", mixed))
    out.sum().backward()
    assert all(v.grad is not None and v.grad.dtype == torch.bfloat16 for v in half)
