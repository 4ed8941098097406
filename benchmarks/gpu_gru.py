"""One layer of the GRU on a GPU, against float64 and against cuDNN's; a step of gpu_kernels.py."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.gpu_rows import DEVICE, Rows
from mtfa_fast import ops
from mtfa_fast.backends import gru_layers
from mtfa_fast.backends.cuda import bigru as cuda_bigru

FRAMES, BATCH = 1504, 32
CHUNK = 256  # frames of a training chunk

Call = Callable[[], Tensor]


def gru_module(inputs: int, hidden: int, like: nn.GRU | None = None) -> nn.GRU:
    module = nn.GRU(inputs, hidden, batch_first=True, bidirectional=True)
    if like is not None:
        module.load_state_dict(like.state_dict())
    return module


def gru(rows: Rows, quick: bool) -> None:
    """One layer of 1504 steps, both directions: the recurrence alone, with its projection, cuDNN's whole layer."""
    shapes = [(1, 64), (BATCH, 64)]
    if not quick:
        shapes += [(8, 64), (128, 64), (1, 128), (BATCH, 128), (BATCH, 96)]
    for batch, hidden in shapes:
        torch.manual_seed(0)
        module, x = gru_module(128, hidden), torch.randn(batch, FRAMES, 128)
        few = min(batch, 2)  # float64 on the CPU is slow, and a clip does not depend on the others
        with torch.no_grad():
            reference = gru_module(128, hidden, module).double()(x[:few].double())[0].to(DEVICE)
            for dtype in (torch.float32, torch.bfloat16):
                gru_forward(
                    rows, gru_module(128, hidden, module).to(DEVICE, dtype).eval(), x.to(DEVICE, dtype), reference
                )
        if batch == BATCH:
            for dtype in (torch.float32, torch.bfloat16):
                gru_training(rows, gru_module(128, hidden, module), x[:, :CHUNK], dtype)


def gru_forward(rows: Rows, stock: nn.GRU, x: Tensor, reference: Tensor) -> None:
    weights = [w.detach() for layer in stock.all_weights for w in layer]
    layer = gru_layers.layers(weights)[0]
    held = (gru_layers.project(x, layer), *gru_layers.recurrent_weights(layer))

    def recurrence(lanes: int) -> Tensor:
        return cuda_bigru._forward(*held, keep=False, lanes=lanes)[0]

    calls: dict[str, Call] = {"recurrence alone": partial(recurrence, 0)}
    if x.dtype == torch.float32 and stock.hidden_size == 64:
        calls["recurrence alone, 4 lanes a unit"] = partial(recurrence, 4)
    calls["ops.bigru, cuda"] = lambda: ops.bigru(x, weights, backend="cuda")[0]
    calls["torch.nn.GRU (cuDNN)"] = lambda: stock(x)[0]
    if x.shape[0] in (1, BATCH):
        calls["ops.bigru, triton"] = lambda: ops.bigru(x, weights, backend="triton")[0]
    facts: dict[str, Any] = {
        "batch": x.shape[0],
        "steps": x.shape[1],
        "hidden": stock.hidden_size,
        "dtype": str(x.dtype),
    }
    bound = 1e-5 if x.dtype == torch.float32 else 1e-2
    few = len(reference)
    for name, call in calls.items():
        rows.compare("gru", name, call, reference, bound, part=lambda r: r[:few], **facts)


def gru_training(rows: Rows, exact: nn.GRU, x: Tensor, dtype: torch.dtype) -> None:
    """Forward and backward over a training chunk; checked by the gradient of x."""
    gradient = torch.randn(x.shape[0], x.shape[1], 2 * exact.hidden_size)
    stock, exact = copy.deepcopy(exact).to(DEVICE, dtype), exact.double()
    wanted = x[:2].double().requires_grad_()
    (reference,) = torch.autograd.grad(exact(wanted)[0], wanted, gradient[:2].double())
    weights = [w for layer in stock.all_weights for w in layer]
    inputs, gradient = x.to(DEVICE, dtype).requires_grad_(), gradient.to(DEVICE, dtype)

    def step(forward: Call) -> Tensor:
        return torch.autograd.grad(forward(), (inputs, *weights), gradient)[0]

    calls: dict[str, Call] = {
        "ops.bigru, cuda": lambda: ops.bigru(inputs, weights, backend="cuda")[0],
        "torch.nn.GRU (cuDNN)": lambda: stock(inputs)[0],
    }
    facts: dict[str, Any] = {"batch": x.shape[0], "steps": x.shape[1], "hidden": exact.hidden_size, "dtype": str(dtype)}
    bound = 1e-5 if dtype == torch.float32 else 2e-2
    for name, call in calls.items():
        rows.compare(
            "gru", f"forward and backward, {name}", partial(step, call), reference.to(DEVICE), bound,
            part=lambda r: r[:2], **facts,
        )  # fmt: skip
