"""A training step: forward, backward, Adam; the plain modules and the fast ones, in float32 and mixed precision."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.contest import Contest
from mtfa_fast import __version__
from mtfa_fast.checking.comparison import LAST_PLACE, TIMES_STOCK, Check
from mtfa_fast.measuring.checks import Refused
from mtfa_fast.measuring.networks import random_weights
from mtfa_fast.measuring.rows import Entry, Row, race
from mtfa_fast.nn import SEDNet
from mtfa_fast.nn.convert import from_weights
from mtfa_fast.nn.fast import accelerate
from mtfa_fast.training.net import TrainingNet
from mtfa_fast.weights import Weights

PART = "training step"


def rows(contest: Contest) -> list[Row]:
    """A step of the paper's network, and one of a network of the shipped one's channels on more chunks."""
    plan = contest.plan
    small = dataclasses.replace(plan.config, network=dataclasses.replace(plan.config.network, channels=plan.channels))
    found = _network(contest, contest.weights, plan.chunk, PART)
    return found + _network(contest, random_weights(small), plan.chunks, f"{PART}, {plan.channels} channels")


def _network(contest: Contest, weights: Weights, chunk: tuple[int, int], part: str) -> list[Row]:
    """Steps on chunks of the paper's length, without dropout so that gradients can be compared."""
    batch, frames = chunk
    generator = torch.Generator().manual_seed(0)
    net = _without_dropout(from_weights(weights).train()).to(memory_format=torch.channels_last)
    x = torch.randn(batch, frames, weights.config.features.mel_bands, generator=generator)
    y = (torch.rand(batch, frames, len(weights.config.classes), generator=generator) < 0.1).float()
    torch.set_num_threads(contest.threads)
    exact = _gradients(copy.deepcopy(net).double(), x.double(), y.double())
    stock = {p: _distance(_gradients(TrainingNet(copy.deepcopy(net), p), x, y), exact) for p in ("fp32", "bf16")}

    def entry(name: str, precision: str, kind: str) -> Entry:
        version = f"mtfa-fast {__version__}" if kind == "accelerate(net)" else f"torch {torch.__version__}"
        settings = f"{kind}, channels-last, {contest.threads} threads"

        def ready() -> tuple[Check, Callable[[], object]]:
            inside = copy.deepcopy(net)
            if kind == "accelerate(net)":
                accelerate(inside)
            model: nn.Module = TrainingNet(inside, precision)
            if kind == "torch.compile":
                model = torch.compile(model)  # type: ignore[assignment]
            error = _distance(_gradients(copy.deepcopy(model), x, y), exact)
            bound = max(TIMES_STOCK * stock[precision], LAST_PLACE)
            optimizer = torch.optim.Adam(model.parameters(), 1e-3)

            def step() -> None:
                torch.set_num_threads(contest.threads)
                optimizer.zero_grad()
                _loss(model, x, y).backward()
                optimizer.step()

            return Check("training step", name, error, bound, "gradients"), step

        return Entry(Row(name, part, batch, frames, precision, version, settings), ready)

    kinds = {"mtfa-fast": "accelerate(net)", "torch": "plain modules"}
    if contest.plan.compiled:
        kinds["torch.compile"] = "torch.compile"
    entries = [entry(f"{who} {p}", p, kind) for p in ("bf16", "fp32") for who, kind in kinds.items()]
    contest.progress(f"{part}, {batch} x {frames} frames: {', '.join(e.row.name for e in entries)}")
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
