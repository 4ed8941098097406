"""The loop of training: steps, validation, checkpoints, on mixtures made on the fly or read from a folder.

One process, or several under ``torchrun``, with the same call. Data and dropout depend on (seed, step, rank) alone,
with hard_share on the chunks of the epoch before, too, so a run that was killed goes on from its last checkpoint as if
nothing had been: on the CPU in float32 it ends with the same bits.
"""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..data.batches import Batch, Chunks, prefetch
from ..nn.sednet import SEDNet
from .chunks import open_chunks
from .config import TrainConfig
from .net import Features, TrainingNet, losses_of, parameter_groups, placed, start_from
from .sampler import ChunkSampler
from .state import Average, Processes, Progress, RunFolder

STATISTICS_CHUNKS = 512
# Where things lie, and on what they run: another place or device goes on with the same run.
_FILES = ("sources", "more_sources", "output", "validation", "distractors", "more_events")
_PLACES = (*_FILES, "device", "threads", "minutes")
HARDEST = 0.25  # of an epoch's chunks: those that hard_share takes from


def train(config: TrainConfig, report: Callable[[dict[str, Any]], None] | None = None) -> Path:
    """Run to the end, or for ``config.minutes``, from the last checkpoint where there is one; the path of the best
    weights, which the first epoch writes.

    ``report`` is called on the first process: {"step", "total", "loss"} after each step, a row of
    ``log.jsonl`` after each epoch, {"paused", "total"} (steps) where the minutes end. ValueError for unusable sources
    or a folder with another run; FloatingPointError where the loss is not finite, the last checkpoint being kept;
    OSError where the disk fails.
    """
    ends = time.monotonic() + 60.0 * config.minutes if config.minutes else math.inf
    if config.threads:
        torch.set_num_threads(config.threads)
    processes = Processes.join(config.device)
    folder = RunFolder(Path(config.output))
    torch.manual_seed(config.seed)
    net = placed(config.config, processes.device)
    if config.hard_share and processes.count > 1:
        raise ValueError(f"hard_share: got {config.hard_share}, allowed: 0 with several processes")
    chunks, validation, recordings = open_chunks(config, processes.device)
    if processes.rank == 0:
        settings = dataclasses.asdict(config) | {"config": config.config.to_dict(), "recordings": recordings}
        folder.begin(settings, free=_PLACES)
    features = Features(config.config, processes.device)
    average = Average(net, config.average_decay)
    optimizer = torch.optim.Adam(
        parameter_groups(net, config.trunk_rate), config.learning_rate, weight_decay=config.weight_decay
    )
    progress = folder.restore(net, average, optimizer, processes.device)
    if progress.step == 0:
        if config.initial:
            start_from(net, config.initial)
        else:
            features.fit(net, chunks, max(1, STATISTICS_CHUNKS // config.batch_size))
        average = Average(net, config.average_decay)
    run = _Run(config, processes, folder, net, features, average, optimizer, progress, validation, report, ends)
    if not progress.stopped:
        run.loop(chunks)
    return folder.best


@dataclass
class _Run:
    config: TrainConfig
    processes: Processes
    folder: RunFolder
    net: SEDNet
    features: Features
    average: Average
    optimizer: torch.optim.Optimizer
    progress: Progress
    validation: Chunks
    report: Callable[[dict[str, Any]], None] | None
    ends: float = math.inf  # time.monotonic()

    def loop(self, chunks: Chunks) -> None:
        """From the step where the run stands to the last, until an epoch stops it, or until its time is over."""
        config, progress = self.config, self.progress
        model = self.processes.wrap(TrainingNet(self.net, config.precision))
        while progress.step < config.total_steps:
            if isinstance(chunks, ChunkSampler):
                chunks.hard = progress.hard
            began = time.monotonic() - progress.seconds
            last = (progress.step // config.steps_per_epoch + 1) * config.steps_per_epoch
            queued: tuple[int, Any, Tensor] | None = None
            for step, drawn in prefetch(chunks, range(progress.step, last), self.processes.rank):
                losses = self.step(model, step, chunks.batch(drawn))
                if queued:  # asked for only now, so that a GPU has the next step before it ends this one
                    self._count(*queued)
                queued = step, drawn, losses
                if self._over() and step + 1 < last:
                    break
            if queued:
                self._count(*queued)
            progress.seconds = time.monotonic() - began
            if progress.step < last:
                self._save()
            else:
                self.end_epoch()
                if self.processes.agree(progress.stopped):
                    return
            if self._over():
                self._tell({"paused": progress.step, "total": config.total_steps})
                return

    def step(self, model: nn.Module, step: int, batch: Batch) -> Tensor:
        """One step of Adam on one batch; the loss of each chunk before it, (B,)."""
        config = self.config
        seed = np.random.SeedSequence([config.seed, step, self.processes.rank]).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(seed >> np.uint64(1)))  # dropout
        self.net.train()
        x, targets = self.features.inputs(batch, self.net)
        losses = losses_of(model(x), targets, config.onset_weight)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate_at(step) * group["scale"]
        self.optimizer.zero_grad(set_to_none=True)
        losses.mean().backward()
        if config.clip_norm:
            nn.utils.clip_grad_norm_(self.net.parameters(), config.clip_norm)
        self.optimizer.step()
        self.average.update(self.net, step)
        return losses.detach()

    def _count(self, step: int, drawn: Any, losses: Tensor) -> None:
        """What a step that was queued came to."""
        progress, loss = self.progress, float(losses.mean())
        self._require_finite("loss", loss, step)
        progress.step = step + 1
        progress.losses.append(loss)
        if self.config.hard_share:
            progress.ranked += zip(losses.tolist(), drawn.keys, strict=True)
        self._tell({"step": progress.step, "total": self.config.total_steps, "loss": loss})

    def _over(self) -> bool:
        return math.isfinite(self.ends) and self.processes.agree(time.monotonic() > self.ends)

    def end_epoch(self) -> None:
        """Validate the average, keep it if it is the best, write checkpoint and log (first process)."""
        config, progress = self.config, self.progress
        training_loss, seconds = float(np.mean(progress.losses)), progress.seconds
        ranked = sorted(progress.ranked, reverse=True)
        progress.hard = sorted({key for _, key in ranked[: round(HARDEST * len(ranked))]})
        progress.losses, progress.ranked, progress.seconds = [], [], 0.0
        if self.processes.rank != 0:
            return
        epoch = progress.step // config.steps_per_epoch
        loss = self.validate()
        self._require_finite("validation loss", loss, progress.step)
        facts = {"step": str(progress.step), "validation_loss": f"{loss:.6f}"}
        facts["training"] = json.dumps(_settings(config))
        if loss < progress.best_loss:
            progress.best_loss, progress.best_epoch = loss, epoch
            self.folder.export(self.folder.best, self.net, self.average.state, facts)
        self.folder.export(self.folder.last, self.net, self.average.state, facts)
        progress.stopped = bool(config.patience) and epoch - progress.best_epoch >= config.patience
        row = {
            "epoch": epoch,
            "step": progress.step,
            "training_loss": round(training_loss, 6),
            "validation_loss": round(loss, 6),
            "best_epoch": progress.best_epoch,
            "learning_rate": config.learning_rate_at(progress.step - 1),
            "seconds": round(seconds, 1),
        }
        progress.history.append(row)
        self._save()
        self._tell(row)

    def _save(self) -> None:
        if self.processes.rank == 0:
            self.folder.save(self.net, self.average, self.optimizer, self.progress)

    @torch.no_grad()
    def validate(self) -> float:
        """Mean loss of the averaged network over the same validation chunks every time."""
        config = self.config
        net = placed(config.config, self.processes.device)
        net.load_state_dict(self.average.state)
        model = TrainingNet(net, config.precision).eval()
        steps = range(max(1, config.validation_chunks // config.batch_size))
        losses = []
        for _, drawn in prefetch(self.validation, steps):
            x, targets = self.features.inputs(self.validation.batch(drawn), net)
            losses.append(float(losses_of(model(x), targets).mean()))
        return float(np.mean(losses))

    def _require_finite(self, name: str, value: float, step: int) -> None:
        if not math.isfinite(value):
            kept = f"the last checkpoint is {self.folder.checkpoint}" if self.progress.history else "nothing is kept"
            raise FloatingPointError(f"{name} is {value} at step {step}; {kept}")

    def _tell(self, facts: dict[str, Any]) -> None:
        if self.report is not None and self.processes.rank == 0:
            self.report(facts)


def _settings(config: TrainConfig) -> dict[str, Any]:
    """The settings that describe the weights; where things lay on one machine does not."""
    settings = dataclasses.asdict(config)
    for name in (*_PLACES, "initial", "config"):
        del settings[name]
    return settings
