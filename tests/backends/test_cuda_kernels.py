"""The CUDA kernels' arithmetic on the CPU: csrc/cuda compiled by g++ against cuda_shim, called by the wrappers.

One fibre runs each CUDA thread; bulk copies, matrix products and stores land late and in random order, and
uninitialised memory is NaN, so that a missing wait shows as a wrong result.
"""

from __future__ import annotations

import copy
import ctypes
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mtfa_fast import ops
from mtfa_fast.backends import gru_layers
from mtfa_fast.backends.cuda import bigru, library, residual_block
from mtfa_fast.checking.comparison import RECURRENT_FLOOR
from tests.backends.cuda_on_cpu import CUDA, compile_for_cpu


def gru(inputs: int, hidden: int, layers: int = 1) -> nn.GRU:
    return nn.GRU(inputs, hidden, layers, batch_first=True, bidirectional=True).double()


def flat(module: nn.GRU, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [w.detach().to(dtype) for layer in module.all_weights for w in layer]


def error(result: Tensor, reference: Tensor) -> float:
    """Largest error against the reference's largest element; NaN if anything is."""
    return float((result.double() - reference).abs().max() / reference.abs().max())


# batch, steps, hidden, shared memory in KiB, multiprocessors
SIZES = [
    (2, 23, 64, 227, 132),  # weights in registers
    (1, 1, 64, 227, 132),
    (3, 6, 128, 227, 132),
    (3, 5, 40, 227, 132),  # in shared memory, one clip a block
    (3, 5, 40, 12, 4),  # a few of them, four clips a block
    (1, 3, 256, 99, 132),  # half of them
    (1, 9, 1, 227, 132),
]


@pytest.mark.parametrize(("batch", "steps", "hidden", "kib", "processors"), SIZES)
def test_bigru_equals_torch(shim: ctypes.CDLL, batch: int, steps: int, hidden: int, kib: int, processors: int) -> None:
    shim.shim_machine(kib * 1024, processors, ctypes.c_ulong(2))
    module, x = gru(11, hidden, 2), torch.randn(batch, steps, 11)
    expected, expected_h_n = module(x.double())
    output, h_n = bigru.bigru(x, flat(module))
    stock, stock_h_n = copy.deepcopy(module).float()(x)
    # The design's bound: twice what stock PyTorch errs, or where that was lucky the floor of recurrent parts.
    for ours, theirs, exact in ((output, stock, expected), (h_n, stock_h_n, expected_h_n)):
        assert error(ours, exact.detach()) < max(2 * error(theirs.detach(), exact.detach()), RECURRENT_FLOOR)
    assert output.is_contiguous() and output.dtype == torch.float32


@pytest.mark.parametrize(("batch", "steps", "hidden", "kib", "processors"), SIZES)
def test_bigru_gradients_equal_torch(
    shim: ctypes.CDLL, batch: int, steps: int, hidden: int, kib: int, processors: int
) -> None:
    shim.shim_machine(kib * 1024, processors, ctypes.c_ulong(3))
    module, x = gru(11, hidden, 2), torch.randn(batch, steps, 11, dtype=torch.float64, requires_grad=True)
    output, h_n = module(x)
    grad_output, grad_h_n = torch.randn(output.shape).double(), torch.randn(h_n.shape).double()
    weights = [w for layer in module.all_weights for w in layer]
    expected = torch.autograd.grad((output, h_n), (x, *weights), (grad_output, grad_h_n))

    inputs, held = x.detach().float(), flat(module)
    out, _, inner, gates = gru_layers.forward(inputs, held, bigru.bigru_recurrence)
    d_x, d_weights = gru_layers.backward(
        grad_output.float(), grad_h_n.float(), inputs, held, out, inner, gates, bigru.bigru_recurrence_backward
    )
    for result, reference in zip((d_x, *d_weights), expected, strict=True):
        assert float((result - reference).norm()) <= 2e-6 * float(reference.norm()) + 1e-9


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("hidden", [64, 20])
def test_bigru_in_half_precision(shim: ctypes.CDLL, dtype: torch.dtype, hidden: int) -> None:
    """At most twice stock torch's error in the same dtype; gradients within a few roundings."""
    module, x = gru(24, hidden), torch.randn(2, 21, 24).to(dtype)
    rounded = gru(24, hidden)
    rounded.load_state_dict({k: v.to(dtype) for k, v in module.state_dict().items()})
    reference = rounded(x.double())[0].detach()
    stock = error(module.to(dtype)(x)[0].detach(), reference)
    weights = flat(rounded, dtype)
    output, _ = bigru.bigru(x, weights)
    assert output.dtype == dtype and error(output, reference) <= 2 * stock

    layer = gru_layers.layers(weights)[0]
    held = (gru_layers.project(x, layer), *gru_layers.recurrent_weights(layer))
    out, gates = bigru.bigru_recurrence(*held)
    gradient = torch.randn(out.shape).to(dtype)
    half = bigru.bigru_recurrence_backward(gradient, out, gates, held[1])
    full = bigru.bigru_recurrence_backward(gradient.float(), out.float(), gates, held[1])
    for result, reference in zip(half, full, strict=True):
        assert result.dtype == dtype and error(result, reference.double()) < torch.finfo(dtype).eps


def test_bigru_lanes_agree(shim: ctypes.CDLL) -> None:
    gi, w_hh, b_hn = torch.randn(2, 11, 2, 192), torch.randn(2, 192, 64) / 8, torch.randn(2, 64)
    two, four = (bigru._forward(gi, w_hh, b_hn, keep=True, lanes=lanes) for lanes in (2, 4))
    torch.testing.assert_close(two, four, rtol=0, atol=1e-6)


def test_bigru_saturates_cleanly(shim: ctypes.CDLL) -> None:
    """Gates far beyond exp's range are 0 and 1, not NaN."""
    gi = 300 * torch.randn(1, 5, 2, 192).sign()
    w_hh, b_hn = torch.randn(2, 192, 64), torch.full((2, 64), 200.0)
    out, gates = bigru.bigru_recurrence(gi, w_hh, b_hn)
    assert out.abs().max() <= 1 and gates[..., :2, :].min() >= 0 and gates[..., :2, :].max() <= 1
    d_gi, d_hn = bigru.bigru_recurrence_backward(torch.ones_like(out), out, gates, w_hh)
    assert d_gi.isfinite().all() and d_hn.isfinite().all()


def test_bigru_checks_see_swapped_gates(shim: ctypes.CDLL) -> None:
    """The distance that exchanging two gates makes is far beyond the tolerances above."""
    module, x = gru(11, 64), torch.randn(1, 9, 11)
    expected = module(x.double())[0].detach()
    swapped = [torch.cat((w[64:128], w[:64], w[128:])) for w in flat(module)]
    assert error(bigru.bigru(x, swapped)[0], expected) > 1e-2


def test_bigru_takes_an_empty_batch(shim: ctypes.CDLL) -> None:
    for hidden in (64, 7):
        output, h_n = bigru.bigru(torch.zeros(0, 5, 3), flat(gru(3, hidden)))
        assert output.shape == (0, 5, 2 * hidden) and h_n.shape == (2, 0, hidden)


def block_weights() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    w1, w2 = (torch.randn(64, 64, 3, 3).div(24).bfloat16() for _ in range(2))
    return w1, torch.randn(64).bfloat16(), w2, torch.randn(64).bfloat16()


def block_reference(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor) -> Tensor:
    """In float64, with the one rounding that the kernel's definition has in the middle."""
    x, w1, b1, w2, b2 = (t.double() for t in (x, w1, b1, w2, b2))
    middle = F.relu(F.conv2d(x, w1, b1, padding=1)).bfloat16().double()
    return F.relu(F.conv2d(middle, w2, b2, padding=1) + x)


def assert_rounded(result: Tensor, reference: Tensor) -> None:
    """Nothing but the last rounding, and the few middle values that fp32 sums round to the other side."""
    best = float((reference.bfloat16().double() - reference).norm())
    assert float((result.double() - reference).norm()) <= 1.02 * best
    assert float((result.double() - reference).abs().max()) <= 2**-7 * float(reference.abs().max())


# batch, T, D, strip width, rows of a block
BLOCKS = [
    (1, 5, 128, 128, 5),  # the network's width, one block
    (2, 3, 127, 128, 2),  # narrower than the strip by one
    (1, 2, 150, 128, 1),  # two strips
    (1, 7, 64, 64, 7),
    (2, 4, 70, 64, 3),
    (1, 3, 62, 32, 2),  # three strips, the last has two columns
    (1, 26, 32, 32, 26),  # the rings go round several times
    (1, 26, 32, 32, 5),
    (3, 1, 1, 32, 1),
]  # fmt: skip


@pytest.mark.parametrize(("batch", "steps", "bands", "width", "rows"), BLOCKS)
def test_residual_block(shim: ctypes.CDLL, batch: int, steps: int, bands: int, width: int, rows: int) -> None:
    shim.shim_machine(227 * 1024, 132, ctypes.c_ulong(steps + bands + rows))
    x, weights = torch.randn(batch, 64, steps, bands).bfloat16(), block_weights()
    result = residual_block.run_packed(x, residual_block.pack(*weights), shape=(width, rows))
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert_rounded(result, block_reference(x, *weights))


def test_residual_block_by_its_own_plan(shim: ctypes.CDLL) -> None:
    """Any layout of the map and of the weights, a start that is not a multiple of 16 bytes, an empty batch."""
    w1, b1, w2, b2 = block_weights()
    memory = torch.randn(2 * 64 * 5 * 33 + 1).bfloat16()[1:]
    x = memory.view(2, 5, 33, 64).permute(0, 3, 1, 2)
    assert x.data_ptr() % 16 != 0
    last = [w.contiguous(memory_format=torch.channels_last) for w in (w1, w2)]
    reference = block_reference(x, w1, b1, w2, b2)
    assert_rounded(residual_block.residual_block(x, last[0], b1, last[1], b2), reference)
    assert_rounded(residual_block.residual_block(x.contiguous(), w1, b1, last[1], b2), reference)
    assert residual_block.residual_block(x[:0], w1, b1, w2, b2).shape == (0, 64, 5, 33)


def test_packed_weights_are_rounded_once(shim: ctypes.CDLL) -> None:
    w1, b1, w2, b2 = (t.float() + 1e-3 * torch.randn(t.shape) for t in block_weights())
    single = residual_block.pack(w1, b1, w2, b2)
    half = residual_block.pack(w1.bfloat16(), b1.bfloat16(), w2.bfloat16(), b2.bfloat16())
    assert torch.equal(single[:-128], half[:-128])
    assert torch.equal(single[-128:].view(torch.float32), torch.cat((b1, b2)))


def test_trial_trusts_and_distrusts(
    shim: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What decides on a real device, here against the shim in the child process as well."""
    trial = residual_block._trial.__wrapped__
    monkeypatch.setattr(residual_block, "PATH", Path(shim._name))
    monkeypatch.setattr(residual_block, "TRIAL_SECONDS", 300.0)  # the shim is slow, and the machine may be busy
    assert trial(0).ok
    monkeypatch.setattr(residual_block, "TRIAL_ERROR", 1e-3)
    assert "wrong results" in trial(0).reason
    monkeypatch.setattr(residual_block, "TRIAL_SECONDS", 0.05)
    assert "did not end" in trial(0).reason
    monkeypatch.setattr(residual_block, "TRIAL_SECONDS", 60.0)
    monkeypatch.setattr(residual_block, "PATH", Path(__file__))
    assert "ended the process" in trial(0).reason
    monkeypatch.setattr(residual_block, "_TRIAL", "print(46, 'nan')")
    assert "exclusive-process mode" in trial(0).reason and "exclusive-process mode" in caplog.text


def test_trial_sees_every_phase(tmp_path: Path) -> None:
    """A ring whose barriers go wrong from the fifth time round on passes five rows, but not the trial."""
    for source in ("api.h", "launch.h", "residual_block.h", "residual_block_trial.cu", "library.cu"):
        shutil.copy(CUDA / source, tmp_path)
    code = (CUDA / "residual_block.cu").read_text()
    wrong = "return (i / kSize & 1) ^ (i / kSize == 4);"
    assert code.count("return i / kSize & 1;") == 1
    (tmp_path / "residual_block.cu").write_text(code.replace("return i / kSize & 1;", wrong))
    broken = ctypes.CDLL(str(compile_for_cpu(tmp_path, tmp_path)))
    worst = ctypes.c_float(0.0)
    broken.shim_machine(227 * 1024, 132, ctypes.c_ulong(1))
    failed = broken.mtfa_residual_block_trial(0, ctypes.byref(worst))
    assert failed or not worst.value <= residual_block.TRIAL_ERROR


def test_the_other_reading_of_descriptors(shim: ctypes.CDLL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On hardware that counts a matrix's rows from the descriptor's start the switch is what makes the block right."""
    x, weights = torch.randn(1, 64, 3, 40).bfloat16(), block_weights()
    for source in (*CUDA.glob("*.h"), CUDA / "residual_block.cu"):
        shutil.copy(source, tmp_path)
    for value in (0, 1):
        folder = tmp_path / str(value)
        folder.mkdir()
        made = compile_for_cpu(tmp_path, folder, "-DSHIM_ROW_NUMBERS", f"-DMTFA_BASE_OFFSET={value}")
        other: Any = ctypes.CDLL(str(made))
        for name in ("mtfa_residual_block_pack", "mtfa_residual_block"):
            getattr(other, name).argtypes = getattr(shim, name).argtypes
        other.mtfa_cuda_error = shim.mtfa_cuda_error
        other.shim_machine(227 * 1024, 132, ctypes.c_ulong(1))
        monkeypatch.setattr(library, "load", lambda other=other: other)
        result = residual_block.run_packed(x, residual_block.pack(*weights), shape=(32, 3))
        if value == 1:
            assert_rounded(result, block_reference(x, *weights))
        else:
            assert error(result, block_reference(x, *weights)) > 0.1


def test_plan_keeps_the_machine_busy() -> None:
    assert residual_block.plan(32, 1504, 128, 132) == (128, 376)  # 128 blocks, one wave
    assert residual_block.plan(1, 188, 16, 132)[0] == 32
    for batch, steps, bands in ((1, 1, 1), (1, 1504, 128), (3, 7, 200), (500, 9, 64), (0, 5, 5)):
        width, rows = residual_block.plan(batch, steps, bands, 132)
        assert width in residual_block.WIDTHS and 1 <= rows <= steps


def test_shifted_descriptors_as_the_block_uses_them(shim: ctypes.CDLL) -> None:
    """The shim's answer to the question that the GPU is asked first: dx rows into the pattern, base offset 0."""
    w, x = torch.randn(64, 64).bfloat16(), torch.randn(136, 64).bfloat16()
    weights = torch.zeros(64, 64, 3, 3).bfloat16()
    weights[..., 0, 0] = w
    bias = torch.zeros(64).bfloat16()
    words = residual_block.pack(weights, bias, weights, bias)[: 16 * 128].clone()
    for dx in range(9):
        out = torch.full((64, 128), torch.nan)
        library.launch("mtfa_shifted_descriptor", out, words, x, out, dx, 0)
        torch.testing.assert_close(out, w.float() @ x[dx : dx + 128].float().T, rtol=1e-5, atol=1e-4)


def test_launch_reports_what_failed(shim: ctypes.CDLL) -> None:
    x, packed = torch.zeros(1, 64, 4, 8).bfloat16(), residual_block.pack(*block_weights())
    with pytest.raises(RuntimeError, match="mtfa_residual_block: CUDA error 1"):
        residual_block.run_packed(x, packed, shape=(48, 1))
    with pytest.raises(RuntimeError, match="mtfa_bigru_wide_forward: CUDA error 1"):
        bigru.bigru_recurrence(torch.zeros(1, 2, 2, 771), torch.zeros(2, 771, 257), torch.zeros(2, 257))


def test_refusals_name_what_is_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    x, weights = torch.zeros(1, 64, 4, 8), block_weights()
    assert "float32" in residual_block.supports(x, *weights).reason
    assert "not 32" in residual_block.supports(x[:, :32].bfloat16(), *weights).reason
    assert "x is on cpu" in residual_block.supports(x.bfloat16(), *weights).reason
    assert "float64" in bigru.supports(torch.zeros(1, 2, 3).double(), flat(gru(3, 4))).reason
    assert "not 257" in bigru.supports(torch.zeros(1, 2, 3), flat(gru(3, 257))).reason
    monkeypatch.setattr(library, "PATH", Path("absent.so"))
    monkeypatch.setattr(library, "load", lambda: library.open_library(library.PATH))
    assert "absent.so was not built" in library.available().reason
    assert library.explain() == {"path": "absent.so", "loaded": False, "reason": library.available().reason}


def gpu(test: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.gpu(pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU here")(test))


@gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("batch", "steps", "hidden"), [(3, 101, 64), (2, 33, 128), (140, 7, 40), (1, 9, 256)])
def test_bigru_on_the_gpu(batch: int, steps: int, hidden: int, dtype: torch.dtype) -> None:
    """Through the op, forward and backward, against float64; half precision at most twice cuDNN's error."""
    torch.manual_seed(0)
    module = gru(13, hidden, 2)
    module.load_state_dict({k: v.to(dtype) for k, v in module.state_dict().items()})
    x = torch.randn(batch, steps, 13).to(dtype)
    exact = x.double().requires_grad_()
    expected = module(exact)[0]
    gradient = torch.randn(expected.shape).to(dtype)
    (expected_d_x,) = torch.autograd.grad(expected, exact, gradient.double())

    inputs, weights = x.cuda().requires_grad_(), [w.cuda() for w in flat(module, dtype)]
    output, _ = ops.bigru(inputs, weights, backend="cuda")
    (d_x,) = torch.autograd.grad(output, inputs, gradient.cuda())
    stock = nn.GRU(13, hidden, 2, batch_first=True, bidirectional=True).to("cuda", dtype)
    stock.load_state_dict(module.state_dict())
    stock_output = stock(inputs)[0]
    (stock_d_x,) = torch.autograd.grad(stock_output, inputs, gradient.cuda())
    least = 1e-5 if dtype == torch.float32 else torch.finfo(dtype).eps
    assert error(output.cpu(), expected.detach()) <= max(least, 2 * error(stock_output.cpu(), expected.detach()))
    assert error(d_x.cpu(), expected_d_x) <= max(least, 2 * error(stock_d_x.cpu(), expected_d_x))


@gpu
@pytest.mark.parametrize(("batch", "steps", "bands"), [(2, 101, 128), (1, 33, 200), (3, 50, 64), (5, 7, 33), (1, 1, 1)])
def test_residual_block_on_the_gpu(batch: int, steps: int, bands: int) -> None:
    torch.manual_seed(0)
    x, weights = torch.randn(batch, 64, steps, bands).bfloat16(), block_weights()
    on_device = [t.cuda() for t in (x, *weights)]
    answer = residual_block.supports(*on_device)
    if torch.cuda.get_device_capability() != (9, 0):
        pytest.skip(f"no Hopper GPU: {answer.reason}")
    assert answer.ok, answer.reason  # on one, a kernel that its trial refused is a failure
    for _ in range(3):  # waits that are missing show only sometimes
        assert_rounded(ops.residual_block(*on_device, backend="cuda").cpu(), block_reference(x, *weights))
