"""Training chunks mixed on the fly, on the training device."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch

from ..data.batches import Batch
from .plan import Key, Plan, Planner
from .render import Renderer
from .sounds import SoundBank


@dataclass
class ChunkSampler:
    """Batches of a planner from a bank. A batch depends on (seed, step, rank), and on ``hard`` where ``hard_share`` is
    not 0: keys of earlier chunks, one of which stands in for that share of the chunks of each batch."""

    planner: Planner
    bank: SoundBank
    batch_size: int = 16
    hard_share: float = 0.0
    hard: list[Key] = field(default_factory=list)

    def __post_init__(self) -> None:
        bank, planner = self.bank, self.planner
        rate, faster = planner.features.sample_rate, planner.augment.speed
        self._renderer = Renderer(bank.sounds, planner.samples, rate, bank.events if faster else 0)

    def draw(self, step: int, rank: int = 0) -> Plan:
        """The plan of one step on one process."""
        keys = [(step, rank, number) for number in range(self.batch_size)]
        if self.hard:
            rng = np.random.default_rng([self.planner.seed, step, rank, self.batch_size])
            again = rng.choice(len(self.hard), round(self.hard_share * self.batch_size))
            keys[: len(again)] = [self.hard[i] for i in again]
        return self.planner.plan(keys)

    def batch(self, drawn: Plan) -> Batch:
        """Its chunks, mixed."""
        targets, gain, hidden = (
            torch.from_numpy(np.stack(parts)).to(self.bank.sounds.device, non_blocking=True)
            for parts in (drawn.targets, drawn.log_gain, drawn.hidden)
        )
        on = self.planner.augment
        waves = self._renderer.waves(drawn)
        return Batch(waves, targets, gain if on.chunk_filter else None, hidden if on.masking else None)
