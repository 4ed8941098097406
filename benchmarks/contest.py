"""What all sections share: the network, who takes part, and sizes that fit a few minutes or a test."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mtfa_fast import _core
from mtfa_fast.audio import files
from mtfa_fast.audio.features import log_mel
from mtfa_fast.config import Config, FeatureConfig, NetworkConfig
from mtfa_fast.engine.quantization import calibrate
from mtfa_fast.measuring import calibration
from mtfa_fast.measuring.checks import Oracle, Part
from mtfa_fast.measuring.contestants import Chain, Contestant
from mtfa_fast.measuring.networks import random_weights
from mtfa_fast.measuring.peers import peers
from mtfa_fast.measuring.rows import Row, compare, fastest
from mtfa_fast.measuring.run import MOST_ROUNDS, engines
from mtfa_fast.measuring.text import is_ours
from mtfa_fast.weights import Weights

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "rare_events.flac"
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
    shipped: str = "rare-events"  # weights; empty: random ones of ``channels`` channels
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
            shipped="",
            chunk=(2, 16),
            chunks=(3, 16),
            repeats=1,
            compiled=False,
            hour=6.0,
        )


class Contest:
    """Contestants are made once, so that what they compile serves every section."""

    def __init__(
        self,
        plan: Plan,
        threads: int | None = None,
        progress: Callable[[str], None] = lambda text: None,
        weights: Weights | None = None,
    ) -> None:
        self.plan, self.progress = plan, progress
        self.threads = threads or _core.default_threads()
        given = weights or random_weights(plan.config)
        # A network that was trained hears a recording, too; to one of random weights it would be one more noise.
        self.sounds = calibration.sounds(given, [example(given)] if weights else [])
        self.weights: Weights = calibrate(given, self.sounds, threads=self.threads)
        self.oracle = Oracle(self.weights)
        self.ours = engines(self.weights, "auto", self.threads)
        found, self.missing = peers(self.weights, self.threads, sounds=self.sounds)
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

    def chains(self) -> list[Contestant]:
        """The fastest peer's trunk with the fastest peer's recurrent part, and the same with a trunk in 8 bits.

        None where both parts are one contestant's.
        """
        recurrent = fastest(self.stages["recurrent"], among=lambda row: not is_ours(row))
        by_name, found = {peer.name: peer for peer in self.peers}, list[Contestant]()
        for int8 in (False, True):
            alike = [row for row in self.stages["trunk"] if (row.precision == "int8") is int8]
            trunk = fastest(alike, among=lambda row: not is_ours(row))
            if trunk and recurrent and not _runs_both(trunk.name, recurrent.name):
                found.append(Chain(by_name[trunk.name], by_name[recurrent.name]))
        return found

    @cached_property
    def shipped(self) -> Contest:
        """The same with the shipped weights, or with random ones of its channels."""
        plan = self.plan
        if plan.shipped:
            weights = Weights.load(plan.shipped)
            plan = dataclasses.replace(plan, config=weights.config)
            return Contest(plan, self.threads, self.progress, weights)
        network = dataclasses.replace(plan.config.network, channels=plan.channels)
        plan = dataclasses.replace(plan, config=dataclasses.replace(plan.config, network=network))
        return Contest(plan, self.threads, self.progress)

    def quick_peers(self) -> list[Contestant]:
        """Peers for other shapes: torch.compile is left out, because it compiles for a minute for each."""
        return [peer for peer in self.peers if not peer.name.startswith("torch.compile")]

    def _recurrent_peers(self) -> list[Contestant]:
        """PyTorch runs its recurrent part in one way only, in float32 and not compiled; nobody runs it in 8 bits."""
        floats = [peer for peer in self.peers if peer.precision != "int8"]
        return [peer for peer in floats if peer.name == "torch fp32" or not peer.name.startswith("torch")]


def _runs_both(trunk: str, recurrent: str) -> bool:
    """Whether one peer is that combination already: its recurrent part is float32 where its trunk is in 8 bits."""
    library, _, precision = trunk.rpartition(" ")
    return recurrent == (f"{library} fp32" if precision == "int8" else trunk)


def example(weights: Weights) -> np.ndarray:
    """Raw log-mel (T, D) of the repository's recording."""
    config = weights.config.features
    wave = files.read(EXAMPLE, config.sample_rate)
    return log_mel(wave, config, window=weights.tensors["features.window"], mel=weights.tensors["features.mel"])


def with_thresholds(weights: Weights, levels: list[float]) -> Weights:
    classes = (dataclasses.replace(c, threshold=level) for c, level in zip(weights.config.classes, levels, strict=True))
    return dataclasses.replace(weights, config=dataclasses.replace(weights.config, classes=tuple(classes)))
