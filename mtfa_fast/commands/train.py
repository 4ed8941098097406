"""``mtfa-fast train``: a folder of events and backgrounds in, a weight file out."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter

from ..extras import needs
from .common import say, usage_errors
from .options import (
    BatchSizeOption,
    ChannelsOption,
    ChunkFramesOption,
    ChunkShiftOption,
    EbrOption,
    EpochsOption,
    HiddenOption,
    LearningRateOption,
    PatienceOption,
    PoolingOption,
    TrainedClassesOption,
    TrainingPrecisionOption,
    TrainingThreadsOption,
)
from .outputs import OverwriteOption, require_run_folder

if TYPE_CHECKING:
    from ..training import TrainConfig

RUN_FILES = ("log.jsonl", "checkpoint.pt", "best.safetensors", "last.safetensors")  # of training.state.RunFolder
NETWORK = Group("Network (defaults: those of --initial, or the paper's)", sort_key=1)
DATA = Group("Data", sort_key=2)
OPTIMISATION = Group("Optimisation", sort_key=3)
MACHINE = Group("Machine", sort_key=4)


def train(
    sources: Annotated[
        str,
        Parameter(help="Folder with events/CLASS/ and backgrounds/, a data set's root, a pack, or mixtures."),
    ],
    more_sources: Annotated[list[str] | None, Parameter(help="Further folders, joined.")] = None,
    /,
    *,
    output: Annotated[str, Parameter(alias="-o", help="Folder of the run; one with a checkpoint is continued.")],
    classes: TrainedClassesOption = None,
    initial: Annotated[
        str | None,
        Parameter(help="Weights to start from, by name, file or folder: their network, and what they know of CLASSES."),
    ] = None,
    variant: Annotated[
        Literal["mtfa", "resatt", "res"] | None,
        Parameter(group=NETWORK, help="The paper's network (mtfa), or an ablation."),
    ] = None,
    channels: Annotated[ChannelsOption | None, Parameter(group=NETWORK)] = None,
    hidden: Annotated[HiddenOption | None, Parameter(group=NETWORK)] = None,
    frequency_pooling: Annotated[PoolingOption | None, Parameter(group=NETWORK)] = None,
    mask_projection: Annotated[
        bool | None,
        Parameter(group=NETWORK, negative="--no-mask-projection", help="1x1 convolution before the mask's sigmoid."),
    ] = None,
    dropout: Annotated[
        float | None, Parameter(group=NETWORK, help="Before, between and after the GRU layers; paper: 0.3.")
    ] = None,
    split: Annotated[str, Parameter(group=DATA, help="Source lists to train on: train or test.")] = "train",
    recorded: Annotated[
        bool, Parameter(group=DATA, help="SOURCES holds finished mixtures; none are made on the fly.")
    ] = False,
    validation: Annotated[
        str | None,
        Parameter(group=DATA, help="With --recorded: other mixtures to validate on. Default: a part of SOURCES."),
    ] = None,
    chunk_frames: Annotated[ChunkFramesOption, Parameter(group=DATA)] = 256,
    chunk_shift: Annotated[ChunkShiftOption, Parameter(group=DATA)] = 128,
    presence: Annotated[float, Parameter(group=DATA, help="Share of chunks that hold an event.")] = 0.75,
    ebr: Annotated[EbrOption, Parameter(group=DATA)] = None,
    augment: Annotated[
        list[str] | None,
        Parameter(group=DATA, help="Kind of augmentation, or all; repeat for several. Default: none, as in the paper."),
    ] = None,
    distractors: Annotated[
        str | None,
        Parameter(group=DATA, help="Folder of recordings without the classes, one subfolder a kind: hard negatives."),
    ] = None,
    more_events: Annotated[
        str | None,
        Parameter(group=DATA, help="Folder of further events, <class>/ and one trimmed file each."),
    ] = None,
    validation_fraction: Annotated[
        float,
        Parameter(group=DATA, help="Of the recordings to train on, held out; 0: all are trained on."),
    ] = 0.15,
    folds: Annotated[
        int, Parameter(group=DATA, help="By place, maker and recording, one held out instead of that share; 0: none.")
    ] = 0,
    fold: Annotated[int, Parameter(group=DATA, help="The one to hold out, 1 to FOLDS.")] = 0,
    validation_chunks: Annotated[int, Parameter(group=DATA, help="Chunks of the validation loss.")] = 256,
    hard_share: Annotated[
        float, Parameter(group=DATA, help="Of each batch: chunks that had the greatest loss in the epoch before.")
    ] = 0.0,
    batch_size: Annotated[BatchSizeOption, Parameter(group=OPTIMISATION)] = 16,
    steps_per_epoch: Annotated[int, Parameter(group=OPTIMISATION, help="Steps from validation to validation.")] = 500,
    epochs: Annotated[EpochsOption, Parameter(group=OPTIMISATION)] = 40,
    patience: Annotated[PatienceOption, Parameter(group=OPTIMISATION)] = 10,
    learning_rate: Annotated[LearningRateOption, Parameter(group=OPTIMISATION)] = 1e-3,
    trunk_rate: Annotated[
        float,
        Parameter(group=OPTIMISATION, help="Of the learning rate, for all but the head: 0.1 for own classes."),
    ] = 1.0,
    schedule: Annotated[
        Literal["constant", "cosine"], Parameter(group=OPTIMISATION, help="Of the learning rate.")
    ] = "constant",
    warmup_steps: Annotated[int, Parameter(group=OPTIMISATION, help="Steps of rising learning rate.")] = 0,
    weight_decay: Annotated[float, Parameter(group=OPTIMISATION, help="L2 penalty of Adam.")] = 0.0,
    clip_norm: Annotated[float, Parameter(group=OPTIMISATION, help="Largest norm of the gradient, 0 = any.")] = 0.0,
    average_decay: Annotated[
        float, Parameter(group=OPTIMISATION, help="Of a moving average of the weights, 0 = none.")
    ] = 0.0,
    onset_weight: Annotated[
        float, Parameter(group=OPTIMISATION, help="Of the loss within 100 ms of an onset, 1 = as elsewhere.")
    ] = 1.0,
    seed: Annotated[int, Parameter(group=OPTIMISATION, help="Same seed and sources, same run.")] = 0,
    device: Annotated[str, Parameter(group=MACHINE, help="cpu or cuda; several processes through torchrun.")] = "cpu",
    precision: Annotated[TrainingPrecisionOption, Parameter(group=MACHINE)] = "fp32",
    threads: Annotated[TrainingThreadsOption, Parameter(group=MACHINE)] = 0,
    minutes: Annotated[
        float, Parameter(group=MACHINE, help="To train now; the same command goes on. 0: to the end.")
    ] = 0.0,
    overwrite: OverwriteOption = False,
) -> int:
    """Train a detector by the paper's protocol on mixtures of events and backgrounds.

    Prints the path of the best weights. A run that was stopped goes on from its last checkpoint with the
    same command. Several processes: torchrun --nproc-per-node 2 -m mtfa_fast train ...
    Exit code 1: the loss is no number any more.
    """
    given = {name: value for name, value in locals().items() if value is not None}
    require_run_folder("--output", output, "train.json", RUN_FILES, overwrite=overwrite)
    with usage_errors(), needs("torch", "train needs"):
        from ..training import train as run
        from ..training.progress import shown as progress

        config = train_config(given)
        # Other processes of torchrun are silent.
        with progress() if os.environ.get("RANK", "0") == "0" else nullcontext() as report:
            try:
                best = run(config, report)
            except FloatingPointError as error:
                say(f"mtfa-fast: {error}")
                return 1
            except KeyboardInterrupt:
                say(f"the same command goes on from the last checkpoint in {output}")
                raise
    if best.exists():  # else the minutes ended before the first epoch
        print(best)
    return 0


def train_config(given: dict[str, Any]) -> TrainConfig:
    """The command's options, those that were given, as the library's config."""
    from ..config import PAPER_CLASSES, Config, NetworkConfig, classes_called
    from ..data.augment import AugmentConfig
    from ..training import TrainConfig
    from ..weights import Weights

    options = dict(given)
    options.pop("overwrite", None)  # the command's own
    config = Weights.load(options["initial"]).config if "initial" in options else Config(classes=PAPER_CLASSES)
    network = {f.name: options.pop(f.name) for f in fields(NetworkConfig) if f.name in options}
    classes = classes_called(options.pop("classes")) if "classes" in options else config.classes
    config = replace(config, network=replace(config.network, **network), classes=classes)
    kinds = {f.name for f in fields(AugmentConfig)}
    chosen = set(options.pop("augment", []))
    if not chosen <= {"all", *kinds}:
        raise ValueError(f"augment: got {', '.join(sorted(chosen - kinds))}, allowed: all, {', '.join(sorted(kinds))}")
    augment = AugmentConfig(**{name: "all" in chosen or name in chosen for name in kinds})
    if "ebr" in options:
        options["ebrs"] = tuple(options.pop("ebr"))
    options["more_sources"] = tuple(options.get("more_sources", ()))
    return TrainConfig(config=config, augment=augment, **options)
