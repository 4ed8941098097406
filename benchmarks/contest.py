"""What all sections share: the network, who takes part, and sizes that fit a few minutes or a test."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mtfa_fast import _core
from mtfa_fast.config import Config, FeatureConfig, NetworkConfig
from mtfa_fast.measuring.checks import Oracle, Part
from mtfa_fast.measuring.contestants import Chain, Contestant
from mtfa_fast.measuring.networks import random_weights
from mtfa_fast.measuring.peers import peers
from mtfa_fast.measuring.rows import Row, compare, fastest
from mtfa_fast.measuring.run import MOST_ROUNDS, engines
from mtfa_fast.measuring.text import is_ours
from mtfa_fast.weights import Weights

HOUR = 120 * 1504  # frames, whole periods of the oracle: 3609.6 s


@dataclass(frozen=True)
class Plan:
    """Sizes and patience. The default is the paper's network and its 30 s clip, for quiet cores."""

    config: Config = field(default_factory=Config)
    frames: int = 1501
    rounds: int = 30  # nine left torch bf16's convolutions 13 % apart in two runs, 14 to 18 torch.compile's 12 %
    least: int = 3
    seconds: float = 150.0  # a comparison ends after these, if it has its least rounds
    short_seconds: float = 30.0  # of one whose calls take milliseconds: as many rounds as fit, since each is short
    batches: tuple[int, ...] = (1, 4, 16, 64)
    batch_frames: int = 256
    lengths: tuple[int, ...] = (256, 1504, 6016, 24_064, HOUR)
    peer_frames: int = 16_384  # peers hold whole feature maps: more frames at a time need many gigabytes
    search_frames: int = 512
    chunk: tuple[int, int] = (4, 256)  # a training step's batch and frames
    channels: int = 32  # of the shipped network, which trains on
    chunks: tuple[int, int] = (16, 256)
    repeats: int = 5  # of a child process
    compiled: bool = True
    hour: float = 3600.0  # seconds of audio for the memory of a long recording

    @classmethod
    def small(cls) -> Plan:
        """A little of everything, in seconds; the times mean nothing."""
        return cls(
            config=Config(FeatureConfig(mel_bands=16), NetworkConfig(channels=16, hidden=16)),
            frames=40,
            rounds=3,
            seconds=1.0,
            short_seconds=0.2,
            batches=(1, 3),
            batch_frames=16,
            lengths=(16, 48),
            peer_frames=48,
            search_frames=24,
            chunk=(2, 16),
            chunks=(3, 16),
            repeats=1,
            compiled=False,
            hour=6.0,
        )


class Contest:
    """Contestants are made once, so that what they compile serves every section."""

    def __init__(
        self, plan: Plan, threads: int | None = None, progress: Callable[[str], None] = lambda text: None
    ) -> None:
        self.plan, self.progress = plan, progress
        self.threads = threads or _core.default_threads()
        self.weights: Weights = random_weights(plan.config)
        self.oracle = Oracle(self.weights)
        self.ours = engines(self.weights, "auto", self.threads)
        found, self.missing = peers(self.weights, self.threads)
        self.peers = [p for p in found if plan.compiled or not p.name.startswith("torch.compile")]

    def compare(
        self, contestants: list[Contestant], part: Part, *, frames: int, batch: int = 1, **timing: Any
    ) -> list[Row]:
        names = ", ".join(contestant.name for contestant in contestants)
        self.progress(f"{part}, batch {batch}, {frames} frames: {names}")
        return compare(contestants, self.oracle, part, frames=frames, batch=batch, **(self.timing | timing))

    @property
    def timing(self) -> dict[str, Any]:
        return {"rounds": self.plan.rounds, "seconds": self.plan.seconds, "least": self.plan.least}

    @property
    def short_timing(self) -> dict[str, Any]:
        """Of parts that take milliseconds: ten rounds of them would all lie in one mood of the machine."""
        return {"rounds": MOST_ROUNDS, "seconds": self.plan.short_seconds, "least": self.plan.rounds}

    @cached_property
    def stages(self) -> dict[str, list[Row]]:
        """Trunk and recurrent part of everybody; measured once, by the section of that name or whoever asks first."""
        padded = -(-self.plan.frames // 8) * 8
        return {
            "trunk": self.compare([*self.ours, *self.peers], "trunk", frames=self.plan.frames),
            "recurrent": self.compare(
                [*self.ours, *self._recurrent_peers()], "recurrent", frames=padded, **self.short_timing
            ),
        }

    def chain(self) -> Contestant | None:
        """The fastest peer's trunk with the fastest peer's recurrent part; None where they are one contestant's."""
        best = [fastest(self.stages[part], among=lambda row: not is_ours(row)) for part in ("trunk", "recurrent")]
        by_name = {peer.name: peer for peer in self.peers}
        trunk, recurrent = (by_name[row.name] if row else None for row in best)
        return Chain(trunk, recurrent) if trunk and recurrent and trunk is not recurrent else None

    def quick_peers(self) -> list[Contestant]:
        """Peers for other shapes: torch.compile is left out, because it compiles for a minute for each."""
        return [peer for peer in self.peers if not peer.name.startswith("torch.compile")]

    def _recurrent_peers(self) -> list[Contestant]:
        """PyTorch runs its recurrent part in one way only, in float32 and not compiled."""
        return [peer for peer in self.peers if peer.name == "torch fp32" or not peer.name.startswith("torch")]


def with_thresholds(weights: Weights, levels: list[float]) -> Weights:
    classes = (dataclasses.replace(c, threshold=level) for c, level in zip(weights.config.classes, levels, strict=True))
    return Weights(dataclasses.replace(weights.config, classes=tuple(classes)), weights.tensors)
