"""Options that several commands share: one type and one help text each; a command adds its default and its group."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from cyclopts import Parameter

# Of whatever runs the network.
WeightsOption: TypeAlias = Annotated[
    str, Parameter(help="Name of shipped weights, a .safetensors file, or a folder that holds one.")
]
DeviceOption: TypeAlias = Annotated[str, Parameter(help="cpu (C++ engine), or cuda, cuda:1, ... (torch).")]
PrecisionOption: TypeAlias = Annotated[
    Literal["auto", "fp32", "bf16", "fp16", "int8"],
    Parameter(
        help="Arithmetic of the network; auto takes bf16 where it pays; fp16 needs a GPU, int8 a CPU and weights that "
        "quantize has prepared."
    ),
]
ThreadsOption: TypeAlias = Annotated[
    int | None, Parameter(help="Threads of the C++ engine; default: the cores this process may use.")
]
MemoryOption: TypeAlias = Annotated[
    float | None,
    Parameter(
        help="GB of a recording's frames (100 kB a second) that the C++ engine keeps in memory; those of a longer one "
        "go to a temporary file. Default: 1."
    ),
]
ChannelOption: TypeAlias = Annotated[
    int | Literal["mean", "max"],
    Parameter(
        help="Of recordings with several: the mean, one by its number (0 is the first), "
        "or max, of each sample the one of largest magnitude."
    ),
]
ThresholdOption: TypeAlias = Annotated[
    list[str] | None,
    Parameter(
        alias="-t",
        help="Probability that makes an event: 0.3 for all classes, or CLASS=0.3; may be repeated. "
        "Default: the weights'.",
    ),
]
StartOption: TypeAlias = Annotated[
    str | None,
    Parameter(
        help="When the recording began, such as 2026-05-01T06:00:00+02:00; none: no times of day. Default: its bext "
        "chunk, else a file name that says it."
    ),
]

# Of sets of recordings.
SourcesOption: TypeAlias = Annotated[
    str,
    Parameter(help="Folder with events/CLASS/, backgrounds/ and, for tests, cv_setup/, or a data set's root."),
]
SubsetOption: TypeAlias = Annotated[
    str | None, Parameter(help="Of the mixtures: devtrain, devtest, ... where there are several.")
]
ClassesOption: TypeAlias = Annotated[
    list[str] | None, Parameter(alias="--class", help="Event class; repeat for several. Default: all.")
]
CollarOption: TypeAlias = Annotated[float, Parameter(help="Seconds by which onsets may differ.")]
JobsOption: TypeAlias = Annotated[int, Parameter(alias="-j", help="Recordings worked on at a time.")]
EbrOption: TypeAlias = Annotated[
    list[float] | None,
    Parameter(help="Event-to-background ratio in dB; repeat for several. Default: -6, 0, 6."),
]

# Of training.
TrainedClassesOption: TypeAlias = Annotated[
    list[str] | None, Parameter(alias="--class", help="Event class; repeat for several. Default: the paper's three.")
]
ChannelsOption: TypeAlias = Annotated[int, Parameter(help="Of every convolution; multiples of 16 are fast.")]
HiddenOption: TypeAlias = Annotated[int, Parameter(help="GRU units a direction.")]
PoolingOption: TypeAlias = Annotated[int, Parameter(help="Mel bands per maximum, 1 = none.")]
ChunkFramesOption: TypeAlias = Annotated[int, Parameter(help="Frames of 20 ms in a chunk.")]
ChunkShiftOption: TypeAlias = Annotated[int, Parameter(help="Frames between chunks cut from finished mixtures.")]
BatchSizeOption: TypeAlias = Annotated[int, Parameter(help="Chunks a step (and process).")]
EpochsOption: TypeAlias = Annotated[int, Parameter(help="At most.")]
PatienceOption: TypeAlias = Annotated[
    int, Parameter(help="Epochs without a better validation loss, 0 = no early stop.")
]
LearningRateOption: TypeAlias = Annotated[float, Parameter(help="Of Adam.")]
TrainingPrecisionOption: TypeAlias = Annotated[
    Literal["fp32", "bf16"], Parameter(help="Of training; bf16: mixed precision.")
]
TrainingThreadsOption: TypeAlias = Annotated[
    int, Parameter(help="Of torch, and of the engine that scores; 0 = their choice.")
]
