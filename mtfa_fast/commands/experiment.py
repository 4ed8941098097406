"""``mtfa-fast experiment``: the paper's experiments, from a folder of recordings to a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Annotated, Any, Literal

from cyclopts import App, Group, Parameter

from ..extras import needs
from .common import say, usage_errors
from .options import (
    BatchSizeOption,
    ChannelsOption,
    ChunkFramesOption,
    ChunkShiftOption,
    EpochsOption,
    HiddenOption,
    LearningRateOption,
    PatienceOption,
    PoolingOption,
    SourcesOption,
    TrainedClassesOption,
    TrainingPrecisionOption,
    TrainingThreadsOption,
)
from .outputs import OverwriteOption

WHAT = Group("What is compared", sort_key=1)
DATA = Group("Data (defaults: the paper's)", sort_key=2)
TRAINING = Group("Training, each variant alike (defaults: the paper's)", sort_key=3)
MACHINE = Group("Machine", sort_key=4)

experiment = App(name="experiment", help="Experiments of the paper, from a folder of recordings to a table.")


@experiment.command
def table1(
    sources: SourcesOption,
    /,
    *,
    output: Annotated[str, Parameter(alias="-o", help="Folder of the experiment; an unfinished one goes on.")],
    evaluation: Annotated[
        str | None, Parameter(help="Folder of finished mixtures to score, too, such as the official evaluation set.")
    ] = None,
    classes: Annotated[TrainedClassesOption, Parameter(group=WHAT)] = None,
    variants: Annotated[
        list[Literal["mtfa", "resatt", "res"]] | None,
        Parameter(alias="--variant", group=WHAT, help="Network; repeat for several. Default: all three."),
    ] = None,
    seeds: Annotated[
        list[int] | None,
        Parameter(alias="--seed", group=WHAT, help="Of a training; repeat for several. Default: 0, 1, 2."),
    ] = None,
    one_network: Annotated[
        bool, Parameter(group=WHAT, help="One network for all classes: a third of the work of one for each.")
    ] = False,
    mixtures: Annotated[
        int,
        Parameter(group=DATA, help="To train on, a class, 4 MB each; 0: chunks are mixed when they are needed."),
    ] = 5000,
    presence: Annotated[
        float, Parameter(group=DATA, help="Share of these mixtures (or chunks) that hold an event.")
    ] = 0.5,
    test_mixtures: Annotated[int, Parameter(group=DATA, help="To test on, a class.")] = 500,
    data_seed: Annotated[int, Parameter(group=DATA, help="Of all mixtures.")] = 42,
    replicate_quirk: Annotated[
        bool, Parameter(group=DATA, help="Draw the test set as the official synthesizer does, its known slip included.")
    ] = False,
    validation_fraction: Annotated[float, Parameter(group=DATA, help="Of the train recordings, held out.")] = 0.15,
    validation_chunks: Annotated[
        int, Parameter(group=DATA, help="Chunks of the validation loss; 0: all of them, or 256 without mixtures.")
    ] = 0,
    channels: Annotated[ChannelsOption, Parameter(group=TRAINING)] = 64,
    hidden: Annotated[HiddenOption, Parameter(group=TRAINING)] = 64,
    frequency_pooling: Annotated[PoolingOption, Parameter(group=TRAINING)] = 8,
    dropout: Annotated[float | None, Parameter(group=TRAINING, help="Default: 0.3; 0.4 for gunshot alone.")] = None,
    chunk_frames: Annotated[ChunkFramesOption, Parameter(group=TRAINING)] = 256,
    chunk_shift: Annotated[ChunkShiftOption, Parameter(group=TRAINING)] = 128,
    batch_size: Annotated[BatchSizeOption, Parameter(group=TRAINING)] = 16,
    steps_per_epoch: Annotated[
        int, Parameter(group=TRAINING, help="From validation to validation; 0: every chunk once.")
    ] = 0,
    epochs: Annotated[EpochsOption, Parameter(group=TRAINING)] = 40,
    patience: Annotated[PatienceOption, Parameter(group=TRAINING)] = 10,
    learning_rate: Annotated[LearningRateOption, Parameter(group=TRAINING)] = 1e-3,
    precision: Annotated[TrainingPrecisionOption, Parameter(group=MACHINE)] = "fp32",
    device: Annotated[str, Parameter(group=MACHINE, help="Of training: cpu or cuda.")] = "cpu",
    threads: Annotated[TrainingThreadsOption, Parameter(group=MACHINE)] = 0,
    overwrite: OverwriteOption = False,
) -> int:
    """Train MTFA, ResAttRNN and ResRNN alike, score them on one test set, write the paper's table 1 with these rows.

    Prints the path of the table (Markdown; JSON beside it). Whatever stops it, the same command goes on; seeds and
    variants may be added.
    """
    given: dict[str, Any] = {name: value for name, value in locals().items() if value is not None}
    del given["overwrite"]
    with usage_errors(), needs("torch", "experiment needs"):
        from ..experiments.config import Table1Config
        from ..experiments.table1 import table1 as run

        given |= {name: tuple(given[name]) for name in ("classes", "variants", "seeds") if name in given}
        config = Table1Config(**given)
        with shown() as report:
            try:
                table = run(config, report, overwrite=overwrite)
            except FloatingPointError as error:
                say(f"mtfa-fast: {error}; finished networks are kept")
                return 1
            except (KeyboardInterrupt, OSError):
                say(f"stopped; nothing that was finished is lost, the same command goes on in {output}")
                raise
    print(table)
    return 0


@contextmanager
def shown() -> Iterator[Callable[[dict[str, Any]], None]]:
    """A ``report`` for the experiment: a line for what begins and for every epoch, a bar in a terminal."""
    from ..training.progress import shown as training_shown
    from .progress import bar

    with ExitStack() as stack:
        show: Any = stack.enter_context(bar())

        def report(facts: dict[str, Any]) -> None:
            nonlocal show
            if "stage" in facts:
                stack.close()
                where = f"[{facts['number']}/{facts['total']}] {facts['network']}: " if "network" in facts else ""
                say(f"{where}{facts['stage']}")
                show = stack.enter_context(training_shown() if facts["stage"] == "training" else bar())
            elif "done" in facts:
                show(facts["done"], facts["of"])
            else:
                show(facts)

        yield report
