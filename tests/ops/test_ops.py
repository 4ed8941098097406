"""Every op, backend, dtype and layout against float64, and against libraries that nobody here wrote."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import signal
from torch import Tensor

from mtfa_fast import ops
from mtfa_fast.audio.features import analysis_window, log_mel, mel_matrix
from mtfa_fast.checking.cases import (
    DTYPES,
    EDGE_CASES,
    LAYOUTS,
    MAIN_CASES,
    OpCase,
    deviations,
    gru,
    pointwise,
    spectrogram,
)
from mtfa_fast.config import FeatureConfig
from mtfa_fast.engine.gpu.device import without_tf32

BACKENDS = ["triton", "auto"]


def layouts(case: OpCase) -> list[str]:
    return list(LAYOUTS) if case.maps else ["contiguous"]


MAIN = [
    pytest.param(case, dtype, layout, id=f"{case}-{dtype}-{layout}".replace("torch.", ""))
    for case in MAIN_CASES
    for dtype in DTYPES
    for layout in layouts(case)
]
# At the edges the arithmetic is the same, the addresses are not: one dtype a layout.
EDGES = [
    pytest.param(case, dtype, layout, id=f"{case}-{layout}")
    for case in EDGE_CASES
    for layout, dtype in zip(layouts(case), (torch.float32, torch.bfloat16), strict=False)
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("case", "dtype", "layout"), MAIN + EDGES)
def test_against_float64(
    case: OpCase, dtype: torch.dtype, layout: str, backend: str, device: str, poisoned_memory: None
) -> None:
    for deviation in deviations(case, backend, dtype, LAYOUTS[layout], device):
        assert deviation.ok, str(deviation)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", [case for case in MAIN_CASES if case.maps], ids=str)
def test_result_keeps_the_layout(case: OpCase, layout: str, device: str) -> None:
    # Apart from the comparison above, in which fast and stock could agree on a wrong one.
    out = case.call(case.arguments(torch.float32, LAYOUTS[layout], device), "reference")[0]
    assert out.is_contiguous(memory_format=LAYOUTS[layout])


GRADIENTS = [*pointwise((1, 2, 3, 5)), gru(1, 3, 2, 2, 2), spectrogram(40, 3, 10, 7, 16)]


@pytest.mark.parametrize("case", GRADIENTS, ids=str)
def test_gradients_are_the_derivatives(case: OpCase) -> None:
    # The formulas in float64 against finite differences.
    tensors: list[Tensor] = []
    for value in case.arguments(torch.float64):
        tensors += value if isinstance(value, list) else [value]

    def call(*values: Tensor) -> tuple[Tensor, ...]:
        return case.call([values[0], list(values[1:])] if case.op == "bigru" else list(values))

    assert torch.autograd.gradcheck(call, [t.requires_grad_() for t in tensors])


@pytest.mark.parametrize("name", ["upsample_add", "attention_gate", "upsample_add_gate", "residual_block"])
def test_any_strides(name: str, device: str) -> None:
    case = next(case for case in MAIN_CASES if case.op == name)
    plain = case.arguments(torch.float32, device=device)
    if name == "residual_block":
        plain[0] = torch.randn(2, 16, 5, 9, device=device)
    wanted = case.call(plain)[0]

    def spread(x: Tensor) -> Tensor:
        return torch.stack([x, -x], dim=-1)[..., 0] if x.ndim == 4 else x

    def permuted(x: Tensor) -> Tensor:
        return x.permute(3, 1, 0, 2).contiguous().permute(2, 1, 3, 0) if x.ndim == 4 else x

    for change in (spread, permuted):
        for backend in ("triton", "reference"):
            torch.testing.assert_close(case.call([change(x) for x in plain], backend)[0], wanted)
    mixed = [plain[0].to(memory_format=torch.channels_last), *plain[1:]]
    torch.testing.assert_close(case.call(mixed, "triton")[0], wanted)


@pytest.mark.parametrize(("layers", "steps"), [(1, 1), (3, 7), (2, 64), (1, 1501)])
def test_bigru_is_torch_gru(layers: int, steps: int, device: str) -> None:
    stock = torch.nn.GRU(5, 9, layers, batch_first=True, bidirectional=True, device=device)
    x = torch.randn(2, steps, 5, device=device, requires_grad=True)
    leaves = [x, *stock.parameters()]
    with without_tf32():  # cuDNN's default on a GPU
        wanted = stock(x)
        got = ops.bigru(x, stock._flat_weights)  # type: ignore[arg-type]
        cotangents = [torch.randn_like(o) / steps for o in wanted]
        pairs = zip(
            [*wanted, *torch.autograd.grad(wanted, leaves, cotangents)],
            [*got, *torch.autograd.grad(got, leaves, cotangents)],
            strict=True,
        )
    for a, b in pairs:
        torch.testing.assert_close(b, a, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_swapped_gates_are_noticed(backend: str, device: str) -> None:
    # The tolerances above are worth something only if a wrong gate order exceeds them by far.
    case = gru(2, 9, 5, 7, 1)
    x, weights = case.arguments(torch.float32, device=device)
    swapped = [torch.cat((w[7:14], w[:7], w[14:])) for w in weights]
    assert (ops.bigru(x, swapped, backend=backend)[0] - ops.bigru(x, weights)[0]).abs().max() > 0.01


def test_plain_bigru_op_is_differentiable_too(device: str) -> None:
    # torch.ops.mtfa_fast.bigru keeps no gates; its gradient computes them again, with a backend by name too.
    x, weights = gru(2, 5, 3, 4, 2).arguments(torch.float64, device=device)
    leaves = [x.requires_grad_(), *(w.requires_grad_() for w in weights)]
    wanted = torch.autograd.grad(ops.bigru(x, weights)[0].square().sum(), leaves)
    for backend in ("auto", "reference"):
        got = torch.autograd.grad(torch.ops.mtfa_fast.bigru(x, weights, backend)[0].square().sum(), leaves)
        torch.testing.assert_close(got, wanted)


@pytest.mark.parametrize("samples", [1, 7, 882, 1501])
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64])
def test_log_mel_is_the_torch_free_one(samples: int, dtype: torch.dtype, device: str) -> None:
    # Which in its turn is librosa's (test_log_mel.py).
    config = FeatureConfig(mel_bands=16)
    wave = torch.randn(2, 3, samples).to(dtype)
    window, mel = (torch.from_numpy(f(config)).to(device, dtype) for f in (analysis_window, mel_matrix))
    got = ops.log_mel(wave.to(device), window, mel).cpu()
    assert got.dtype == dtype and got.shape == (2, 3, 1 + samples // 882, 16) and got.is_contiguous()
    wanted = log_mel(
        wave[1, 2].float().numpy(), config, window=window.float().cpu().numpy(), mel=mel.float().cpu().numpy()
    )
    bound = max(1e-4, torch.finfo(dtype).eps * float(np.abs(wanted).max()))
    np.testing.assert_allclose(got[1, 2].double().numpy(), wanted, rtol=0, atol=bound)
    empty = wave[:0].to(device).requires_grad_()
    ops.log_mel(empty, window, mel).sum().backward()
    assert empty.grad is not None and empty.grad.shape == (0, 3, samples)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("window", [3, 27, 101])
def test_median_is_scipy(window: int, backend: str, device: str) -> None:
    x = torch.randn(150, 2)
    x[::7] = 0
    x[::11] *= 1e-42  # denormal numbers have an order, too
    wanted = np.stack([signal.medfilt(x[:, k].double().numpy(), window) for k in range(2)], axis=1)
    got = ops.median_filter(x.to(device), window, backend=backend).cpu()
    np.testing.assert_array_equal(got.double().numpy(), wanted)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_median_of_nan_and_infinity(dtype: torch.dtype, backend: str, device: str) -> None:
    x = torch.linspace(-3, 3, 40, dtype=dtype, device=device)[:, None].repeat(1, 2)
    x[5, 0], x[20, 0], x[30, 0] = float("nan"), float("inf"), -float("inf")
    got = ops.median_filter(x, 5, backend=backend)[:, 0]
    assert got.isnan().nonzero().flatten().tolist() == [3, 4, 5, 6, 7]
    windows = torch.nn.functional.pad(x[:, 0], (2, 2)).unfold(0, 5, 1)
    torch.testing.assert_close(got, windows.median(-1).values, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("backend", BACKENDS)
def test_runs_one_by_one(backend: str, device: str) -> None:
    # 256 frames are one tile of the kernel: a run that ends with them is closed in the next one.
    p = torch.rand(3, 256, 2).sub(0.5).cumsum(1).sin().abs()
    p[0, 3:9, 0] = float("nan")
    p[2] = 1.0
    p[1, -1] = 1.0
    thresholds, windows = [0.4, 0.6], [1, 9]
    runs, counts = ops.detect_runs(p.to(device), thresholds, windows, backend=backend)
    for clip in range(3):
        for k in range(2):
            active = [bool(v > thresholds[k]) for v in p[clip, :, k]]
            half = windows[k] // 2
            kept = [sum(active[max(0, t - half) : t + half + 1]) > half for t in range(256)]
            wanted, start = [], None
            for t, on in enumerate([*kept, False]):
                if on and start is None:
                    start = t
                if not on and start is not None:
                    wanted.append([start, t])
                    start = None
            assert counts[clip, k] == len(wanted)
            assert runs[clip, k, : len(wanted)].tolist() == wanted
            assert (runs[clip, k, len(wanted) :] == -1).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: ops.upsample_add(x, x), r"low: got shape \(1, 4, 6, 8\), allowed: \(B, C, ceil\(T / 2\), ceil"),
        (lambda x: ops.upsample_add(x[0], x), r"low: got shape \(4, 6, 8\), allowed: \(B, C, T, D\)"),
        (lambda x: ops.attention_gate(x.half(), x), "logits: got torch.float16, allowed: torch.float32"),
        (lambda x: ops.attention_gate(x[:, :1], x), r"logits: got shape \(1, 1, 6, 8\), allowed: \(1, 4, 6, 8\)"),
        (lambda x: ops.attention_gate(x.int(), x.int()), "features: got torch.int32, allowed: float32"),
        (lambda x: ops.attention_gate(x.to("meta"), x), "logits: got a tensor on meta, allowed: cpu"),
        (lambda x: ops.residual_block(x, *[x] * 4), r"w1: got shape \(1, 4, 6, 8\), allowed: \(4, 4, 3, 3\)"),
        (lambda x: ops.bigru(x[0], [x] * 7), "weights: got 7 tensors, allowed: 8 for each layer"),
        (lambda x: ops.bigru(x[0], [x[0, 0]] * 8), r"weights\[0\]: got shape \(6, 8\), allowed: \(24, 8\)"),
        (lambda x: ops.bigru(x[0, :, :0], [x[0, 0]] * 8), r"x: got shape \(4, 0, 8\), allowed: \(B, T >= 1, I\)"),
        (lambda x: ops.median_filter(x, 4), "window: got 4, allowed: an odd number >= 1"),
        (lambda x: ops.median_filter(x.int(), 3), "x: got torch.int32, allowed: float32, float16, bfloat16, float64"),
        (lambda x: ops.detect_runs(x, [0.5], [3]), "thresholds: got 1 values, allowed: 8, one for each class"),
        (lambda x: ops.detect_runs(x, [0.5] * 8, [2] * 8), r"windows\[0\]: got 2, allowed: an odd number"),
        (lambda x: ops.log_mel(x, x[0, 0, 0], x[0, 0], fft_length=16), r"mel: got shape \(6, 8\), allowed: \(D, fft"),
    ],
)
def test_bad_arguments_are_named(call, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(1, 4, 6, 8))
