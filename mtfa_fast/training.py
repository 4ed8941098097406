"""Training after section 3.2 of the paper, on mixtures made on the fly or read from a folder.

One process, or several under ``torchrun``, with the same call. Data and dropout depend on
(seed, step, rank) alone, so a run that was killed goes on from its last checkpoint as if nothing had
been: on the CPU in float32 it ends with the same bits.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .backends.reference.log_mel import log_mel
from .config import HOURGLASS_DEPTH, Config, _require, _require_int
from .data.augment import AugmentConfig
from .data.mixing import EBRS
from .data.sampler import MARGIN, Batch, Chunks, ChunkSampler, prefetch
from .data.sources import SourceAudio, SourceSet
from .features import analysis_window, mel_matrix
from .nn.modules import pad_time
from .nn.sednet import SEDNet
from .training_state import Average, Progress, RunFolder

STATISTICS_STREAM = 1_000_003  # stands in for a rank: the normalisation's chunks are no training step's
STATISTICS_CHUNKS = 512


@dataclass(frozen=True)
class TrainConfig:
    """A training run. The defaults are the paper's protocol where it speaks (section 3.2).

    ``sources``: folder of events and backgrounds (see ``data.sources``); ``output``: the run's folder.
    The network and its classes are ``config``'s: one class, or several in one network.
    """

    sources: str
    output: str
    config: Config = field(default_factory=Config)
    split: str = "train"
    seed: int = 0
    batch_size: int = 16  # a process
    chunk_frames: int = 256
    chunk_shift: int = 128  # of chunks cut from a folder of mixtures
    steps_per_epoch: int = 500
    epochs: int = 40
    patience: int = 10  # epochs without a better validation loss, 0 = never stop early
    learning_rate: float = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = 0
    weight_decay: float = 0.0
    clip_norm: float = 0.0  # of the gradient, 0 = none
    average_decay: float = 0.0  # moving average of the weights, 0 = none
    precision: Literal["fp32", "bf16"] = "fp32"
    presence: float = 0.75  # chunks that hold an event
    ebrs: tuple[float, ...] = EBRS
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    validation_fraction: float = 0.15  # of the source recordings
    validation_chunks: int = 256
    device: str = "cpu"
    threads: int = 0  # 0 = torch's choice

    def __post_init__(self) -> None:
        for name in ("batch_size", "chunk_frames", "chunk_shift", "steps_per_epoch", "epochs", "validation_chunks"):
            _require_int(name, getattr(self, name), 1)
        for name in ("seed", "patience", "warmup_steps", "threads"):
            _require_int(name, getattr(self, name), 0)
        for name in ("weight_decay", "clip_norm"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "a number >= 0")
        _require(self.learning_rate > 0, "learning_rate", self.learning_rate, "a number > 0")
        _require(0 <= self.average_decay < 1, "average_decay", self.average_decay, "0 <= decay < 1")
        _require(0 <= self.presence <= 1, "presence", self.presence, "0 <= presence <= 1")
        _require(0 < self.validation_fraction < 1, "validation_fraction", self.validation_fraction, "0 < fraction < 1")
        _require(self.schedule in ("constant", "cosine"), "schedule", self.schedule, "constant, cosine")
        _require(self.precision in ("fp32", "bf16"), "precision", self.precision, "fp32, bf16")
        _require(len(self.ebrs) > 0, "ebrs", self.ebrs, "at least one")

    @property
    def total_steps(self) -> int:
        return self.epochs * self.steps_per_epoch

    def learning_rate_at(self, step: int) -> float:
        """Linear warm-up, then constant or half a cosine down to zero at ``total_steps``."""
        rate = self.learning_rate * min(1.0, (step + 1) / max(1, self.warmup_steps))
        if self.schedule == "cosine":
            done = max(0, step - self.warmup_steps) / max(1, self.total_steps - self.warmup_steps)
            rate *= 0.5 * (1.0 + math.cos(math.pi * min(1.0, done)))
        return rate


class TrainingNet(nn.Module):
    """SEDNet as it is trained: convolutions in bf16 where asked, channels-last; GRU and head in float32.

    The recurrence stays in float32 because its bf16 backward is slow on CPUs and gains nothing elsewhere.
    """

    def __init__(self, net: SEDNet, precision: str) -> None:
        super().__init__()
        self.net, self.bf16 = net, precision == "bf16"

    def forward(self, x: Tensor) -> Tensor:
        """Normalised log-mel (B, T, D) -> logits (B, T, K), float32."""
        net = self.net
        maps = pad_time(x.unsqueeze(1), 2**HOURGLASS_DEPTH).contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            vectors = net.flatten(net.attention(net.stem(maps)))
        states = net.gru(net.input_dropout(vectors.float()))[0]
        return net.head(net.gru_dropout(states))[:, : x.shape[1]]


class Features:
    """Batches to normalised log-mel on the training device."""

    def __init__(self, config: Config, device: torch.device) -> None:
        self.features, self.device = config.features, device
        self.window = torch.from_numpy(analysis_window(config.features)).to(device)
        self.mel = torch.from_numpy(mel_matrix(config.features)).to(device)

    def log_mel(self, batch: Batch) -> Tensor:
        """(B, frames, D): the chunk's frames, its ``log_gain`` applied to the mel power."""
        f = self.features
        wave = torch.from_numpy(batch.waves).to(self.device)
        bands = log_mel(wave, self.window, self.mel, f.hop, f.fft_length, f.log_floor)[:, MARGIN:-MARGIN]
        if batch.log_gain.any():
            gain = torch.from_numpy(batch.log_gain).to(self.device)[:, None]
            power = (bands.exp() - f.log_floor).clamp_min(0.0)
            bands = torch.log(power * gain.exp() + f.log_floor)
        return bands

    def inputs(self, batch: Batch, net: SEDNet) -> tuple[Tensor, Tensor]:
        """(normalised log-mel with SpecAugment's holes at the mean, targets)."""
        x = net.normalize(self.log_mel(batch))
        hidden = torch.from_numpy(batch.hidden).to(self.device)
        return x.masked_fill(hidden, 0.0), torch.from_numpy(batch.targets).to(self.device)

    def fit(self, net: SEDNet, chunks: Chunks, count: int) -> None:
        """Set the network's mean and deviation from ``count`` batches."""
        total = torch.zeros(self.features.mel_bands, dtype=torch.float64, device=self.device)
        squares, frames = total.clone(), 0
        for step in range(count):
            bands = self.log_mel(chunks.batch(step, STATISTICS_STREAM)).double().flatten(0, 1)
            total += bands.sum(0)
            squares += bands.square().sum(0)
            frames += len(bands)
        mean = total / frames
        deviation = (squares / frames - mean.square()).clamp_min(1e-6).sqrt()
        net.mean.copy_(mean)
        net.std.copy_(deviation)


@dataclass(frozen=True)
class Processes:
    """This process among those of torchrun; one alone without it."""

    rank: int
    count: int
    device: torch.device

    @classmethod
    def join(cls, device: str) -> Processes:
        count = int(os.environ.get("WORLD_SIZE", "1"))
        rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
        target = torch.device(device)
        if count > 1:
            if target.type == "cuda":
                target = torch.device("cuda", local)
                torch.cuda.set_device(target)
            if not torch.distributed.is_initialized():
                torch.distributed.init_process_group("nccl" if target.type == "cuda" else "gloo")
        return cls(rank, count, target)

    def wrap(self, model: nn.Module) -> nn.Module:
        return nn.parallel.DistributedDataParallel(model) if self.count > 1 else model

    def agree(self, value: bool) -> bool:
        """The first process's answer, on all of them."""
        if self.count == 1:
            return value
        answer = torch.tensor(float(value), device=self.device)
        torch.distributed.broadcast(answer, 0)
        return bool(answer.item())


def train(config: TrainConfig, report: Callable[[dict[str, Any]], None] | None = None) -> Path:
    """Run to the end, from the last checkpoint where there is one; the path of the best weights.

    ``report`` is called on the first process: {"step", "total", "loss"} after each step and a row of
    ``log.jsonl`` after each epoch. ValueError for unusable sources or a folder with another run.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    processes = Processes.join(config.device)
    folder = RunFolder(Path(config.output))
    torch.manual_seed(config.seed)
    net = _network(config.config, processes.device)
    chunks, validation = _chunks(config)
    if processes.rank == 0:
        folder.begin(dataclasses.asdict(config), free=("output", "device", "threads", "sources"))
    features = Features(config.config, processes.device)
    average = Average(net, config.average_decay)
    optimizer = torch.optim.Adam(net.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    progress = folder.restore(net, average, optimizer, processes.device)
    if progress.step == 0:
        features.fit(net, chunks, max(1, STATISTICS_CHUNKS // config.batch_size))
        average = Average(net, config.average_decay)
    run = _Run(config, processes, folder, net, features, average, optimizer, progress, validation, report)
    if not progress.stopped:
        run.loop(chunks)
    return folder.best


def _network(config: Config, device: torch.device) -> SEDNet:
    net = SEDNet(config).to(device)
    for parameter in net.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return net


def _chunks(config: TrainConfig) -> tuple[Chunks, Chunks]:
    """Training and validation chunks, from different source recordings."""
    sources = SourceSet.load(config.sources, config.split, config.config.class_names)
    kept, held = sources.cut(config.validation_fraction, config.seed)
    audio = SourceAudio(config.config.features.sample_rate)
    common: dict[str, Any] = {
        "features": config.config.features,
        "batch_size": config.batch_size,
        "frames": config.chunk_frames,
        "ebrs": config.ebrs,
        "seed": config.seed,
    }
    training = ChunkSampler(kept, audio, presence=config.presence, augment=config.augment, **common)
    return training, ChunkSampler(held, audio, presence=0.5, **common)


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

    def loop(self, chunks: Chunks) -> None:
        config, progress = self.config, self.progress
        model = self.processes.wrap(TrainingNet(self.net, config.precision))
        losses: list[float] = []
        began = time.monotonic()
        for step, batch in prefetch(chunks, range(progress.step, config.total_steps), self.processes.rank):
            loss = self.step(model, step, batch)
            losses.append(loss)
            progress.step = step + 1
            self._tell({"step": progress.step, "total": config.total_steps, "loss": loss})
            if progress.step % config.steps_per_epoch == 0:
                self.end_epoch(float(np.mean(losses)), time.monotonic() - began)
                losses, began = [], time.monotonic()
                if self.processes.agree(progress.stopped):
                    break

    def step(self, model: nn.Module, step: int, batch: Batch) -> float:
        """One step of Adam on one batch; the loss before it."""
        config = self.config
        seed = np.random.SeedSequence([config.seed, step, self.processes.rank]).generate_state(1, np.uint64)[0]
        torch.manual_seed(int(seed >> np.uint64(1)))  # dropout
        self.net.train()
        x, targets = self.features.inputs(batch, self.net)
        loss = F.binary_cross_entropy_with_logits(model(x), targets)
        for group in self.optimizer.param_groups:
            group["lr"] = config.learning_rate_at(step)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if config.clip_norm:
            nn.utils.clip_grad_norm_(self.net.parameters(), config.clip_norm)
        self.optimizer.step()
        self.average.update(self.net, step)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise FloatingPointError(f"loss is {value} at step {step}; the last checkpoint is {self.folder.checkpoint}")
        return value

    def end_epoch(self, training_loss: float, seconds: float) -> None:
        """Validate the average, keep it if it is the best, write checkpoint and log (first process)."""
        config, progress = self.config, self.progress
        if self.processes.rank != 0:
            return
        epoch = progress.step // config.steps_per_epoch
        loss = self.validate()
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
        self.folder.save(self.net, self.average, self.optimizer, progress)
        self._tell(row)

    @torch.no_grad()
    def validate(self) -> float:
        """Mean loss of the averaged network over the same validation chunks every time."""
        config = self.config
        net = _network(config.config, self.processes.device)
        net.load_state_dict(self.average.state)
        model = TrainingNet(net, config.precision).eval()
        steps = range(max(1, config.validation_chunks // config.batch_size))
        losses = []
        for _, batch in prefetch(self.validation, steps):
            x, targets = self.features.inputs(batch, net)
            losses.append(float(F.binary_cross_entropy_with_logits(model(x), targets)))
        return float(np.mean(losses))

    def _tell(self, facts: dict[str, Any]) -> None:
        if self.report is not None and self.processes.rank == 0:
            self.report(facts)


def _settings(config: TrainConfig) -> dict[str, Any]:
    """The settings that describe the weights; where things lay on one machine does not."""
    settings = dataclasses.asdict(config)
    for name in ("sources", "output", "device", "threads", "config"):
        del settings[name]
    return settings
