"""Settings of the paper's table 1, and the networks that it compares. Frozen, checked, without torch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from ..arguments import require, require_int
from ..config import (
    VARIANTS,
    Config,
    FeatureConfig,
    NetworkConfig,
    Variant,
    classes_called,
)
from ..data.batches import MARGIN
from ..data.mixing import CLASSES
from ..data.recipes import MIXTURE_SECONDS, MixtureParameters
from ..training import TrainConfig

DROPOUT = {"gunshot": 0.4}  # section 3.2; every other class, and one network for all, has 0.3
FREE = ("sources", "output", "evaluation", "variants", "seeds", "device", "threads")


@dataclass(frozen=True)
class Network:
    """One network of the table: a variant, a seed, and the class or classes that it finds."""

    variant: Variant
    seed: int
    classes: tuple[str, ...]
    name: str  # of its folder


@dataclass(frozen=True)
class Table1Config:
    """The experiment. The defaults are the paper's protocol (section 3.2).

    ``sources``: folder of events and backgrounds with a train and a test split (see ``data.sources``); ``output``:
    the experiment's folder; ``evaluation``: folder of finished mixtures (see ``data.layout``) that are scored, too,
    such as the official evaluation set.
    """

    sources: str
    output: str
    evaluation: str = ""
    classes: tuple[str, ...] = CLASSES
    variants: tuple[Variant, ...] = VARIANTS
    seeds: tuple[int, ...] = (0, 1, 2)
    one_network: bool = False  # for all classes, in place of one for each
    mixtures: int = 5_000  # for training, a class; 0 = chunks are mixed when they are needed and never written
    presence: float = 0.5  # training mixtures (chunks, where there are no mixtures) that hold an event
    test_mixtures: int = 500  # a class
    data_seed: int = 42  # of all mixtures, and of the recordings held out of them for validation
    replicate_quirk: bool = False  # draw the test mixtures as the official synthesizer does
    validation_fraction: float = 0.15  # of the train split's recordings
    validation_chunks: int = 0  # 0 = all of the validation mixtures, 256 where there are none
    channels: int = 64
    hidden: int = 64
    frequency_pooling: int = 8
    dropout: float | None = None  # None: 0.3, for gunshot 0.4
    chunk_frames: int = 256
    chunk_shift: int = 128
    batch_size: int = 16
    steps_per_epoch: int = 0  # 0 = each training chunk once
    epochs: int = 40
    patience: int = 10
    learning_rate: float = 1e-3
    precision: Literal["fp32", "bf16"] = "fp32"  # of training
    device: str = "cpu"  # of training
    threads: int = 0  # 0 = torch's and the engine's choice

    def __post_init__(self) -> None:
        for name in ("classes", "variants", "seeds"):
            given = getattr(self, name)
            require(len(given) > 0 and len(set(given)) == len(given), name, given, "at least one, all different")
        for variant in self.variants:
            require(variant in VARIANTS, "variants", variant, ", ".join(VARIANTS))
        for label in self.classes:
            require("/" not in label and "\\" not in label, "classes", label, "names of folders below events/")
        for seed in self.seeds:
            require_int("seeds", seed, 0)
        for name in ("validation_chunks", "steps_per_epoch"):
            require_int(name, getattr(self, name), 0)
        # Half of them hold an event, and a class without events has no error rate.
        require_int("test_mixtures", self.test_mixtures, 2)
        require_int("mixtures", self.mixtures, 0)
        require(self.mixtures != 1, "mixtures", self.mixtures, "0, or an integer >= 2")
        if not self.mixtures:
            require(self.steps_per_epoch > 0, "steps_per_epoch", self.steps_per_epoch, ">= 1 where mixtures is 0")
        longest = self.mixture_frames
        require(self.chunk_frames <= longest, "chunk_frames", self.chunk_frames, f"at most {longest}, a mixture")
        require(0 < self.validation_fraction < 1, "validation_fraction", self.validation_fraction, "0 < fraction < 1")
        # What else is wrong, the parts say.
        self.test_parameters, self.training_parameters(2)
        for network in self.networks():
            self.training(network, "", "", 1, 1)

    @property
    def test_parameters(self) -> MixtureParameters:
        """Of the test set; half of its mixtures hold an event, as in the official sets."""
        return MixtureParameters(self.test_mixtures, seed=self.data_seed)

    def training_parameters(self, mixtures: int) -> MixtureParameters:
        """Of ``mixtures`` a class to train or to validate on."""
        return MixtureParameters(mixtures, self.presence, seed=self.data_seed)

    @property
    def validation_mixtures(self) -> int:
        """A class."""
        return max(2, round(self.mixtures * self.validation_fraction))

    @property
    def mixture_frames(self) -> int:
        """Of one mixture, 30 s long."""
        return FeatureConfig().frame_count(round(MIXTURE_SECONDS * FeatureConfig().sample_rate))

    @property
    def background_seconds(self) -> float:
        """The shortest background that training can use."""
        f = FeatureConfig()
        chunk = (self.chunk_frames + 2 * MARGIN - 1) * f.hop / f.sample_rate
        return MIXTURE_SECONDS if self.mixtures else chunk

    def identity(self) -> dict[str, Any]:
        """The settings that every network of an experiment shares; others may be added to it later."""
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in FREE}

    def networks(self) -> list[Network]:
        """Seed after seed, so that an unfinished experiment compares what it has."""
        parts = [self.classes] if self.one_network else [(label,) for label in self.classes]
        return [
            Network(variant, seed, part, f"{variant}-{'all' if self.one_network else part[0]}-seed{seed}")
            for seed in self.seeds
            for variant in self.variants
            for part in parts
        ]

    def training(self, network: Network, sources: str, validation: str, steps: int, chunks: int) -> TrainConfig:
        """The run of one network: ``steps`` an epoch, ``chunks`` for its validation."""
        label = network.classes[0] if len(network.classes) == 1 else ""
        dropout = DROPOUT.get(label, 0.3) if self.dropout is None else self.dropout
        return TrainConfig(
            sources,
            f"{self.output}/networks/{network.name}",
            Config(
                network=NetworkConfig(
                    network.variant, self.channels, self.hidden, self.frequency_pooling, dropout=dropout
                ),
                classes=classes_called(network.classes),
            ),
            recorded=self.mixtures > 0,
            validation=validation,
            seed=network.seed,
            batch_size=self.batch_size,
            chunk_frames=self.chunk_frames,
            chunk_shift=self.chunk_shift,
            steps_per_epoch=steps,
            epochs=self.epochs,
            patience=self.patience,
            learning_rate=self.learning_rate,
            precision=self.precision,
            presence=self.presence,
            validation_fraction=self.validation_fraction,
            validation_chunks=chunks,
            device=self.device,
            threads=self.threads,
        )
