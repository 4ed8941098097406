"""A training step: forward, backward, Adam; the plain modules and the fast ones, in float32 and mixed precision."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.contest import Contest
from mtfa_fast import __version__
from mtfa_fast.checking.comparison import LAST_PLACE, TIMES_STOCK, Check
from mtfa_fast.measuring.checks import Refused
from mtfa_fast.measuring.rows import Entry, Row, race
from mtfa_fast.nn import SEDNet
from mtfa_fast.nn.convert import from_weights
from mtfa_fast.nn.fast import accelerate
from mtfa_fast.training.net import TrainingNet


def rows(contest: Contest) -> list[Row]:
    """One step on chunks of the paper's length, without dropout so that gradients can be compared."""
    batch, frames = contest.plan.chunk
    generator = torch.Generator().manual_seed(0)
    net = _without_dropout(from_weights(contest.weights).train()).to(memory_format=torch.channels_last)
    x = torch.randn(batch, frames, contest.plan.config.features.mel_bands, generator=generator)
    y = (torch.rand(batch, frames, len(contest.plan.config.classes), generator=generator) < 0.1).float()
    torch.set_num_threads(contest.threads)
    exact = _gradients(copy.deepcopy(net).double(), x.double(), y.double())
    stock = {p: _distance(_gradients(TrainingNet(copy.deepcopy(net), p), x, y), exact) for p in ("fp32", "bf16")}

    def entry(name: str, precision: str, fast: bool) -> Entry:
        version = f"mtfa-fast {__version__}" if fast else f"torch {torch.__version__}"
        settings = f"{'accelerate(net)' if fast else 'plain modules'}, channels-last, {contest.threads} threads"

        def ready() -> tuple[Check, Callable[[], object]]:
            inside = copy.deepcopy(net)
            if fast:
                accelerate(inside)
            model = TrainingNet(inside, precision)
            error = _distance(_gradients(copy.deepcopy(model), x, y), exact)
            bound = max(TIMES_STOCK * stock[precision], LAST_PLACE)
            optimizer = torch.optim.Adam(model.parameters(), 1e-3)

            def step() -> None:
                torch.set_num_threads(contest.threads)
                optimizer.zero_grad()
                _loss(model, x, y).backward()
                optimizer.step()

            return Check("training step", name, error, bound, "gradients"), step

        return Entry(Row(name, "training step", batch, frames, precision, version, settings), ready)

    entries = [
        entry(f"{'mtfa-fast' if fast else 'torch'} {precision}", precision, fast)
        for precision in ("bf16", "fp32")
        for fast in (True, False)
    ]
    return race(entries, **contest.timing)


def _without_dropout(net: SEDNet) -> SEDNet:
    for module in net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.GRU):
            module.dropout = 0.0
    return net


def _loss(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(model(x), y)


def _gradients(model: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    """In the order of the parameters."""
    _loss(model, x, y).backward()
    found = [p.grad for p in model.parameters()]
    if any(g is None for g in found):
        raise Refused("a parameter has no gradient")
    return [g.double() for g in found if g is not None]


def _distance(got: list[Tensor], exact: list[Tensor]) -> float:
    """Root mean square over all parameters, relative to the exact gradient's."""
    off = sum(float((g - e).square().sum()) for g, e in zip(got, exact, strict=True))
    size = sum(float(e.square().sum()) for e in exact)
    return (off / size) ** 0.5
