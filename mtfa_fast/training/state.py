"""What a training run keeps (checkpoint, best weights, log; written beside and renamed) and its processes."""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..files import write_beside
from ..nn.convert import to_weights
from ..nn.sednet import SEDNet


class Average:
    """Exponential moving average of a network's parameters and running statistics.

    With ``decay = 0`` the average is the network. Early on the decay is (1 + n) / (10 + n), so that the
    first random weights are soon forgotten.
    """

    def __init__(self, net: SEDNet, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in net.state_dict().items()}

    @torch.no_grad()
    def update(self, net: SEDNet, step: int) -> None:
        """Move towards ``net`` after step ``step``; counters are taken over."""
        weight = 1.0 - min(self.decay, (1.0 + step) / (10.0 + step)) if self.decay else 1.0
        for name, value in net.state_dict().items():
            kept = self.state[name]
            if kept.is_floating_point():
                kept.lerp_(value, weight)
            else:
                kept.copy_(value)


@dataclass
class Progress:
    """Where a run stands."""

    step: int = 0
    best_loss: float = float("inf")
    best_epoch: int = 0
    stopped: bool = False
    history: list[dict[str, Any]] = field(default_factory=list)
    # Of the epoch that has begun: its steps' losses, its time; with hard_share its chunks' losses and keys, and the
    # keys that the epoch before found hard.
    losses: list[float] = field(default_factory=list)
    seconds: float = 0.0
    ranked: list[tuple[float, tuple[int, int, int]]] = field(default_factory=list)
    hard: list[tuple[int, int, int]] = field(default_factory=list)


@dataclass(frozen=True)
class RunFolder:
    """The files of a run: train.json, log.jsonl, checkpoint.pt, best.safetensors, last.safetensors."""

    path: Path

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        return self.path / "last.safetensors"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoint.pt"

    def begin(self, settings: dict[str, Any], free: tuple[str, ...]) -> None:
        """Create the folder, or check that a run found there has the same settings but for those in ``free``.

        ValueError naming what differs.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        file = self.path / "train.json"
        settings = json.loads(json.dumps(settings))  # tuples become lists, as they are on disk
        if self.checkpoint.exists() and file.exists():
            before = json.loads(file.read_text("utf-8"))
            changed = [k for k in settings if k not in free and before.get(k) != settings[k]]
            if changed:
                given = "; ".join(f"{k}: got {settings[k]!r}, the run has {before.get(k)!r}" for k in changed)
                raise ValueError(f"{self.path}: holds a run with other settings ({given}); name another folder")
        self._write(file, json.dumps(settings, indent=1))

    def save(self, net: SEDNet, average: Average, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
        """Write the checkpoint, then the log, each whole or not at all. OSError naming the file on a full disk."""
        state = {
            "net": net.state_dict(),
            "average": average.state,
            "optimizer": optimizer.state_dict(),
            "progress": vars(progress),
        }
        data = io.BytesIO()  # torch would turn a full disk into a RuntimeError about positions
        torch.save(state, data)
        with write_beside(self.checkpoint, "wb") as file:
            file.write(data.getbuffer())
        self._write(self.path / "log.jsonl", "".join(json.dumps(row) + "\n" for row in progress.history))

    def restore(
        self, net: SEDNet, average: Average, optimizer: torch.optim.Optimizer, device: torch.device
    ) -> Progress:
        """Load the checkpoint if there is one. ValueError naming a file that cannot be read."""
        if not self.checkpoint.exists():
            return Progress()
        try:
            state = torch.load(self.checkpoint, map_location=device, weights_only=True)
            net.load_state_dict(state["net"])
            average.state = state["average"]
            optimizer.load_state_dict(state["optimizer"])
            return Progress(**state["progress"])
        except (OSError, RuntimeError, KeyError, TypeError, EOFError, ValueError) as error:
            raise ValueError(f"{self.checkpoint}: not a checkpoint of this run ({error})") from None

    def export(self, path: Path, net: SEDNet, state: dict[str, Tensor], facts: dict[str, str]) -> None:
        """Weight file of ``state``, a state of ``net``."""
        copy = SEDNet(net.config)
        copy.load_state_dict(state)
        to_weights(copy, facts).save(path)

    def _write(self, path: Path, text: str) -> None:
        with write_beside(path) as file:
            file.write(text)


def _leave() -> None:
    if torch.distributed.is_initialized():
        gc.collect()  # a model in a reference cycle would keep the group
        torch.distributed.destroy_process_group()


@dataclass(frozen=True)
class Processes:
    """This process among those of torchrun; one alone without it."""

    rank: int
    count: int
    device: torch.device

    @classmethod
    def join(cls, device: str) -> Processes:
        """Join torchrun's group, if it started this process; each process of a node then has a GPU of its own."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
        target = torch.device(device)
        if count > 1:
            if target.type == "cuda":
                target = torch.device("cuda", local)
                torch.cuda.set_device(target)
            if not torch.distributed.is_initialized():
                # The functions of this module, first imported by Adam or DDP, have the group of that moment as their
                # default argument. It would then outlive _leave, and its threads meet an interpreter that is gone.
                importlib.import_module("torch.distributed.nn.functional")
                torch.distributed.init_process_group("nccl" if target.type == "cuda" else "gloo")
                # Left to the end of the process, the group's threads can outlive what they use and abort it.
                atexit.register(_leave)
        return cls(rank, count, target)

    def wrap(self, model: nn.Module) -> nn.Module:
        """Gradients averaged over the processes, where there are several."""
        return nn.parallel.DistributedDataParallel(model) if self.count > 1 else model

    def agree(self, value: bool) -> bool:
        """The first process's answer, on all of them."""
        if self.count == 1:
            return value
        answer = torch.tensor(float(value), device=self.device)
        torch.distributed.broadcast(answer, 0)
        return bool(answer.item())
