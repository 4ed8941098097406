"""What torch is told about the ops: schemas, fakes, gradients, compilers, export, vmap, autocast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from mtfa_fast import ops
from mtfa_fast.checking.cases import LAYOUTS, MAIN_CASES, OpCase, block, gru, median, pointwise, spectrogram

CASES = [*pointwise((2, 16, 7, 12)), *(c for c in MAIN_CASES if not c.maps or c.op == "residual_block")]
CASES += [median((2, 9, 2), 3, binary=True), spectrogram(60, 3, 10, 7, 16)]


def overload(name: str) -> Any:
    return getattr(torch.ops.mtfa_fast, name).default


def op_arguments(case: OpCase, dtype: torch.dtype, layout: str, gradients: bool = True) -> tuple[Any, ...]:
    wanted = case.differentiable and gradients

    def leaf(x: Tensor) -> Tensor:
        return x.requires_grad_(wanted)

    made = [[leaf(t) for t in a] if isinstance(a, list) else leaf(a) for a in case.arguments(dtype, LAYOUTS[layout])]
    return (*made, *case.numbers, *case.keywords.values())


@pytest.mark.parametrize(
    ("case", "layout"),
    [
        pytest.param(case, layout, id=f"{case}-{layout}")
        for case in CASES
        for layout in LAYOUTS
        if case.maps or layout == "contiguous"
    ],
)
def test_opcheck(case: OpCase, layout: str) -> None:
    # Both dtypes that a fast CPU backend may take, so that the check sees its strides too.
    for dtype in (torch.float32, torch.bfloat16):
        opcheck(overload(case.op), op_arguments(case, dtype, layout))
    if case.op == "bigru":
        opcheck(overload("bigru_train"), op_arguments(case, torch.float32, layout))


@pytest.mark.parametrize("case", [c for c in CASES if c.maps], ids=str)
def test_opcheck_of_other_strides(case: OpCase) -> None:
    # A fake that copied the input's strides would pass for dense layouts only.
    plain = case.arguments(torch.float32)
    permuted = [a.transpose(2, 3).contiguous().transpose(2, 3) if a.ndim == 4 else a for a in plain]
    opcheck(overload(case.op), tuple(permuted))
    opcheck(overload(case.op), (torch.stack([plain[0]] * 2, -1)[..., 0], *plain[1:]))


@pytest.mark.parametrize("shape", [(0, 16, 3, 4), (2, 0, 3, 4), (2, 16, 0, 4), (2, 16, 3, 0)])
def test_empty_maps_of_every_kind(shape: tuple[int, int, int, int]) -> None:
    # Some of which torch's own convolutions, pooling and interpolation refuse.
    for case in [*pointwise(shape), *([block(shape)] if shape[1] else [])]:
        for dtype in (torch.float32, torch.float64):
            arguments = op_arguments(case, dtype, "channels_last")
            opcheck(overload(case.op), arguments, test_utils=("test_schema", "test_faketensor"))
            if case.differentiable:
                overload(case.op)(*arguments).sum().backward()
                assert all(a.grad.shape == a.shape for a in arguments)


def pointwise_chain(low: Tensor, skip: Tensor, features: Tensor) -> Tensor:
    up = ops.upsample_add(low, skip)
    return ops.attention_gate(up, features) + ops.upsample_add_gate(low, up, features)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_compiled_equals_eager_forward_and_backward(layout: str, compiler_cache: None) -> None:
    # Through Inductor, which relies on the strides that the fakes tell; dynamic, so that one compilation serves all.
    compiled = torch.compile(pointwise_chain, fullgraph=True, dynamic=True)
    for shape in ((2, 16, 6, 8), (3, 16, 9, 12)):
        b, c, t, d = shape
        shapes = ((b, c, (t + 1) // 2, d // 2), shape, shape)
        inputs = [torch.randn(s).contiguous(memory_format=LAYOUTS[layout]).requires_grad_() for s in shapes]
        wanted, got = pointwise_chain(*inputs), compiled(*inputs)
        torch.testing.assert_close(got, wanted)
        assert got.stride() == wanted.stride()
        torch.testing.assert_close(
            torch.autograd.grad(got.square().sum(), inputs), torch.autograd.grad(wanted.square().sum(), inputs)
        )


class Recurrent(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.nn.ParameterList(gru(1, 1, 5, 4, 2).arguments(torch.float32)[1])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return ops.bigru(x, list(self.weights))


def test_bigru_compiles_whole_with_any_batch_and_length() -> None:
    model = Recurrent()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for batch, steps in ((2, 9), (3, 5), (4, 31)):
        x = torch.randn(batch, steps, 5, requires_grad=True)
        leaves = [x, *model.weights]
        wanted, got = model(x), compiled(x)
        torch.testing.assert_close(got, wanted)
        gradients = [torch.autograd.grad(o[0].sum() + o[1].sum(), leaves) for o in (got, wanted)]
        torch.testing.assert_close(*gradients)


def test_every_inference_op_exports_with_dynamic_time() -> None:
    class Chain(torch.nn.Module):
        def forward(self, wave: Tensor, window: Tensor, mel: Tensor) -> tuple[Tensor, Tensor]:
            frames = ops.log_mel(wave, window, mel, hop=8, fft_length=16)
            filtered = ops.median_filter(torch.sigmoid(frames), 3)
            return ops.detect_runs(filtered, [0.5] * 3, [3, 1, 5])

    batch, samples = torch.export.Dim("batch"), torch.export.Dim("samples", min=16)
    wave, window, mel = torch.randn(2, 100), torch.hamming_window(10), torch.rand(3, 9)
    shapes = {"wave": {0: batch, 1: samples}, "window": None, "mel": None}
    exported = torch.export.export(Chain(), (wave, window, mel), dynamic_shapes=shapes)
    assert sum("mtfa_fast" in str(node.target) for node in exported.graph.nodes) == 3
    for size in ((3, 57), (1, 400)):
        wave = torch.randn(size)
        torch.testing.assert_close(exported.module()(wave, window, mel), Chain()(wave, window, mel))


@pytest.mark.parametrize("case", [*pointwise((2, 3, 5, 4)), median((2, 9, 2), 3), MAIN_CASES[-1]], ids=str)
def test_vmap(case: OpCase) -> None:
    stacks = [torch.stack([a, a.flip(0)]) for a in case.arguments(torch.float32)]
    op = overload(case.op)

    def call(*tensors: Tensor) -> Any:
        return op(*tensors, *case.numbers)

    wanted = [call(*(s[i] for s in stacks)) for i in range(2)]
    got = torch.vmap(call)(*stacks)
    for i in range(2):
        torch.testing.assert_close(got[i] if isinstance(got, Tensor) else tuple(g[i] for g in got), wanted[i])
    if len(stacks) > 1:  # one argument for all
        got = torch.vmap(call, in_dims=(0, *[None] * (len(stacks) - 1)))(stacks[0], *(s[1] for s in stacks[1:]))
        torch.testing.assert_close(got[1], wanted[1])


def test_autocast() -> None:
    x = torch.randn(1, 16, 4, 8)
    w, b = torch.randn(16, 16, 3, 3), torch.randn(16)
    with torch.autocast("cpu", torch.bfloat16):
        # Element-wise ops promote as torch's own + and * do, convolutions take the context's dtype.
        assert ops.attention_gate(x.bfloat16(), x).dtype == torch.float32
        assert ops.upsample_add(x[:, :, ::2, ::2].bfloat16(), x.bfloat16()).dtype == torch.bfloat16
        low = x[:, :, ::2, ::2].bfloat16().requires_grad_()
        ops.upsample_add_gate(low, x, x.bfloat16()).sum().backward()
        assert low.grad is not None and low.grad.dtype == torch.bfloat16
        assert ops.residual_block(x, w, b, w, b).dtype == torch.bfloat16
        stock = torch.nn.GRU(3, 4, bidirectional=True, batch_first=True)
        y = torch.randn(1, 5, 3)
        assert ops.bigru(y, stock._flat_weights)[0].dtype == stock(y)[0].dtype  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"logits: got torch\.bfloat16, allowed: torch\.float32"):
        ops.attention_gate(x.bfloat16(), x)


def test_autocast_leaves_matrix_products_inside_the_ops_alone() -> None:
    # In its dtype a logarithm of band powers is worth little, and a gradient is not what the forward pass belongs to.
    wave, window, mel = torch.randn(2, 400), torch.hamming_window(10), torch.rand(3, 9)
    x, weights = gru(2, 9, 5, 7, 2).arguments(torch.float32)
    leaves = [t.requires_grad_() for t in (x, *weights)]

    def results(inside: bool) -> list[Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=inside):
            frames = ops.log_mel(wave, window, mel, hop=8, fft_length=16)
            return [frames, *torch.autograd.grad(ops.bigru(x, weights)[0].square().sum(), leaves)]

    torch.testing.assert_close(results(True), results(False), rtol=0, atol=0)


DECISIONS: list[tuple[Callable[..., Any], str]] = [
    (lambda x: ops.residual_block(x, torch.ones(2, 2, 3, 3), x[0, :, 0, 0], torch.ones(2, 2, 3, 3), x[0, :, 0, 0]),
     "residual_block is not differentiable: it is for inference; train with mtfa_fast.nn.ResidualBlock"),
    (lambda x: ops.median_filter(x, 3), "median_filter is not differentiable: it belongs behind the trained network"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), DECISIONS, ids=["residual_block", "median_filter"])
def test_inference_ops_say_so_when_differentiated(call: Callable[..., Any], message: str) -> None:
    x = torch.rand(1, 2, 4, 4, requires_grad=True)
    with pytest.raises(NotImplementedError, match=message):
        call(x).sum().backward()
    assert not ops.detect_runs(x, [0.5] * 4, [1] * 4)[0].requires_grad


@pytest.mark.parametrize("case", [*pointwise((1, 2, 4, 4)), gru(1, 3, 2, 2, 1)], ids=str)
def test_second_derivatives_are_refused(case: OpCase) -> None:
    arguments = op_arguments(case, torch.float64, "contiguous")
    out = overload(case.op)(*arguments)
    total = (out if isinstance(out, Tensor) else out[0]).square().sum()
    first = torch.autograd.grad(total, arguments[0], create_graph=True)[0]
    with pytest.raises(NotImplementedError, match="second derivatives are not implemented"):
        first.sum().backward()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_forward_mode_is_refused(case: OpCase) -> None:
    # Of an op of torch.library torch makes a derivative of zeros, and says nothing.
    first, *others = case.arguments(torch.float32)
    if first.dtype == torch.bool:
        return
    with pytest.raises(NotImplementedError, match=f"mtfa_fast.ops.{case.op} has no forward-mode derivative"):
        torch.func.jvp(lambda x: case.call([x, *others])[0], (first,), (first,))
    torch.func.jvp(lambda x: (case.call([first, *others])[0], x), (first,), (first,))  # which is not concerned


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda o, x: o.attention_gate_backward(x[:, :, :2], x, x), r"grad: got shape \(1, 16, 2, 4\), allowed"),
        (lambda o, x: o.upsample_add_gate_backward(x.double(), x[:, :, ::2, ::2], x, x), "grad: got torch.float64"),
        (lambda o, x: o.bigru_backward(*[x[0, :2]] * 3, gru_weights(4), *[x[0, :2]] * 3), "grad_output: got shape"),
    ],
)
def test_backward_ops_check_what_they_are_given(call: Callable[..., Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call(torch.ops.mtfa_fast, torch.randn(1, 16, 4, 4))


def gru_weights(inputs: int) -> list[Tensor]:
    return list(gru(1, 1, inputs, 3, 1).arguments(torch.float32)[1])
