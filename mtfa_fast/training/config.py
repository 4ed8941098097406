"""Settings of a training run: frozen, checked, without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from ..arguments import require, require_int
from ..config import Config
from ..data.augment import AugmentConfig
from ..data.mixing import EBRS


@dataclass(frozen=True)
class TrainConfig:
    """A training run. The defaults are the paper's protocol where it speaks (section 3.2).

    ``sources``: folder of events and backgrounds (see ``data.sources``), a file of packed ones (see ``data.pack``), or
    with ``recorded`` a folder of finished mixtures (see ``data.layout``), from which chunks are cut as the paper did;
    ``more_sources``: further such folders of events and backgrounds; ``output``: the run's folder.
    The network and its classes are ``config``'s: one class, or several in one network.
    """

    sources: str
    output: str
    config: Config = field(default_factory=Config)
    more_sources: tuple[str, ...] = ()
    split: str = "train"
    recorded: bool = False  # presence, ebrs and augment then have no effect
    validation: str = ""  # with recorded: another folder of mixtures to validate on; empty = files of sources' own
    initial: str = ""  # weights to start from, their normalisation included, of any classes; empty = random
    trunk_rate: float = 1.0  # of the learning rate, for all but the head: small where initial knows more than the data
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
    distractors: str = ""  # folder of recordings without the classes, for augment's distractors and background_mix
    more_events: str = ""  # folder of further events to train on (see ``data.more_events``)
    validation_fraction: float = 0.15  # of the source recordings; 0 = all are trained on, and validated on
    folds: int = 0  # by place, maker and recording (see ``data.folds``), in place of validation_fraction; 0 = none
    fold: int = 0  # the one to hold out, 1 to folds
    validation_chunks: int = 256
    hard_share: float = 0.0  # of each batch: chunks that had the greatest loss in the epoch before, mixed again
    onset_weight: float = 1.0  # of the loss in the frames around an onset
    minutes: float = 0.0  # to train now; the run goes on with the next call. 0 = to its end
    device: str = "cpu"
    threads: int = 0  # 0 = torch's choice

    def __post_init__(self) -> None:
        for name in ("batch_size", "chunk_frames", "chunk_shift", "steps_per_epoch", "epochs", "validation_chunks"):
            require_int(name, getattr(self, name), 1)
        for name in ("seed", "patience", "warmup_steps", "threads"):
            require_int(name, getattr(self, name), 0)
        for name in ("weight_decay", "clip_norm"):
            require(getattr(self, name) >= 0, name, getattr(self, name), "a number >= 0")
        require(self.trunk_rate >= 0, "trunk_rate", self.trunk_rate, "a number >= 0")
        require(self.learning_rate > 0, "learning_rate", self.learning_rate, "a number > 0")
        require(0 <= self.average_decay < 1, "average_decay", self.average_decay, "0 <= decay < 1")
        require(0 <= self.presence <= 1, "presence", self.presence, "0 <= presence <= 1")
        require(0 <= self.validation_fraction < 1, "validation_fraction", self.validation_fraction, "0 <= fraction < 1")
        require(0 <= self.hard_share < 1, "hard_share", self.hard_share, "0 <= share < 1")
        require(self.onset_weight > 0, "onset_weight", self.onset_weight, "a number > 0")
        require(self.minutes >= 0, "minutes", self.minutes, "a number >= 0")
        if self.folds or self.fold:
            require_int("folds", self.folds, 2)
            require_int("fold", self.fold, 1)
            require(self.fold <= self.folds, "fold", self.fold, f"1 to {self.folds}, the number of folds")
            require(not self.recorded, "folds", self.folds, "0 with recorded")
            require(not self.more_events, "more_events", self.more_events, "nothing with folds")
        if self.recorded:
            for name in ("more_sources", "hard_share"):
                require(not getattr(self, name), name, getattr(self, name), "nothing with recorded")
            held = bool(self.validation) or self.validation_fraction > 0
            require(held, "validation_fraction", self.validation_fraction, "0 < fraction < 1 where validation is empty")
            require(not self.more_events, "more_events", self.more_events, "nothing with recorded")
        require(self.schedule in ("constant", "cosine"), "schedule", self.schedule, "constant, cosine")
        require(self.precision in ("fp32", "bf16"), "precision", self.precision, "fp32, bf16")
        require(len(self.ebrs) > 0, "ebrs", self.ebrs, "at least one")
        # What would have no effect is a mistake.
        require(self.recorded or not self.validation, "validation", self.validation, "only with recorded")
        used = not self.recorded and (self.augment.distractors or self.augment.background_mix)
        require(
            used or not self.distractors,
            "distractors",
            self.distractors,
            "without recorded, with augment's distractors or background_mix",
        )

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
