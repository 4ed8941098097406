"""The torch-free C++ core: csrc/bind_*.cpp."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

def available_isas() -> list[str]: ...
def chosen_isa() -> str: ...
def has_avx512_bf16() -> bool: ...
def default_threads() -> int: ...
def peak_flops(isa: str, bf16: bool, threads: int) -> float: ...

# Maps (T, D, C) in steps of each channel; steps of the transformed input (24, C).
def int8_kernels() -> list[str]: ...
def int8_products(isa: str) -> str: ...
def int8_conv3x3(
    kernels: str,
    map: NDArray[np.uint8],
    weight: ArrayLike,
    bias: ArrayLike,
    step: ArrayLike,
    transformed_step: ArrayLike,
    out_step: ArrayLike,
    residual: NDArray[np.uint8] | None = None,
    residual_step: ArrayLike | None = None,
) -> NDArray[np.uint8]: ...

class LogMel:
    def __init__(self, window: ArrayLike, mel: ArrayLike, hop: int, fft_length: int, log_floor: float) -> None: ...
    @property
    def mel_bands(self) -> int: ...
    def frames(self, samples: ArrayLike, threads: int) -> NDArray[np.float32]: ...
    def part(self, samples: ArrayLike, sample_offset: int, first: int, count: int) -> NDArray[np.float32]: ...

def calibrated(peak: float, slope: float, offset: float) -> float: ...
def median_filter(x: NDArray[Any], window: int) -> NDArray[Any]: ...
def detect_runs(
    probabilities: NDArray[np.floating[Any]], thresholds: ArrayLike, windows: Sequence[int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.floating[Any]]]: ...

Runs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]

class LiveRuns:
    def __init__(
        self, thresholds: Sequence[float], windows: Sequence[int], minimum_scores: Sequence[float]
    ) -> None: ...
    @property
    def delay(self) -> int: ...
    def push(self, probabilities: NDArray[np.float32]) -> tuple[Runs, Runs]: ...
    def finish(self) -> tuple[Runs, Runs]: ...

def fold(tensors: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]: ...

class Engine:
    def __init__(
        self,
        *,
        variant: str,
        channels: int,
        hidden: int,
        classes: int,
        pooling: int,
        mask_projection: bool,
        tensors: Mapping[str, NDArray[np.float32]],
        log_mel: LogMel,
        isa: str,
        precision: str,
    ) -> None: ...
    def probabilities(self, log_mel: NDArray[np.float32], threads: int) -> NDArray[np.float32]: ...
    def stage_names(self) -> list[str]: ...
    def map_names(self) -> list[str]: ...
    def tap(self, name: str, log_mel: NDArray[np.float32], threads: int) -> NDArray[np.float32]: ...
    def recurrent(self, vectors: NDArray[np.float32], threads: int) -> NDArray[np.float32]: ...

class Stream:
    def __init__(self, engine: Engine, memory: int, folder: str) -> None: ...
    def push_samples(self, samples: NDArray[np.float32], threads: int) -> None: ...
    def finish(self, classes: int, threads: int) -> NDArray[np.float32]: ...

class LiveStream:
    def __init__(self, engine: Engine, chunk: int, look_ahead: int) -> None: ...
    @property
    def delay(self) -> int: ...
    def push_log_mel(self, rows: NDArray[np.float32], bands: int, threads: int) -> NDArray[np.float32]: ...
    def finish(self, threads: int) -> NDArray[np.float32]: ...

def push_live(
    streams: Sequence[LiveStream], samples: Sequence[NDArray[np.float32]], threads: int
) -> list[NDArray[np.float32]]: ...

# bfloat16 comes as the int16 of its bits; maps are (B, T, D, C) for the three functions, (B, C, T, D) for the blocks.
def upsample_add(low: NDArray[Any], skip: NDArray[Any], out: NDArray[Any], threads: int) -> None: ...
def attention_gate(logits: NDArray[Any], features: NDArray[Any], out: NDArray[Any], threads: int) -> None: ...
def upsample_add_gate(
    low: NDArray[Any], skip: NDArray[Any], features: NDArray[Any], out: NDArray[Any], threads: int
) -> None: ...
def upsample_add_backward(grad: NDArray[Any], d_low: NDArray[Any], threads: int) -> None: ...
def attention_gate_backward(
    grad: NDArray[Any],
    logits: NDArray[Any],
    features: NDArray[Any],
    d_logits: NDArray[Any],
    d_features: NDArray[Any],
    threads: int,
) -> None: ...
def upsample_add_gate_backward(
    grad: NDArray[Any],
    low: NDArray[Any],
    skip: NDArray[Any],
    features: NDArray[Any],
    d_low: NDArray[Any],
    d_skip: NDArray[Any],
    d_features: NDArray[Any],
    threads: int,
) -> None: ...
def conv3x3(x: NDArray[Any], weight: NDArray[Any], out: NDArray[Any], threads: int) -> None: ...
def conv3x3_backward(
    grad: NDArray[Any],
    x: NDArray[Any],
    weight: NDArray[Any],
    d_x: NDArray[Any],
    d_weight: NDArray[Any],
    threads: int,
) -> None: ...
def block_training_forward(
    x: NDArray[Any],
    w1: NDArray[Any],
    w2: NDArray[Any],
    norms: NDArray[Any],
    epsilon: float,
    y1: NDArray[Any],
    y2: NDArray[Any],
    out: NDArray[Any],
    statistics: NDArray[Any],
    threads: int,
) -> None: ...
def block_training_backward(
    grad: NDArray[Any],
    x: NDArray[Any],
    y1: NDArray[Any],
    y2: NDArray[Any],
    out: NDArray[Any],
    statistics: NDArray[Any],
    w1: NDArray[Any],
    w2: NDArray[Any],
    norms: NDArray[Any],
    epsilon: float,
    d_x: NDArray[Any],
    d_w1: NDArray[Any],
    d_w2: NDArray[Any],
    d_norms: NDArray[Any],
    threads: int,
) -> None: ...

class ResidualBlock:
    def __init__(self, w1: ArrayLike, b1: ArrayLike, w2: ArrayLike, b2: ArrayLike) -> None: ...
    def run(self, x: NDArray[Any], out: NDArray[Any], threads: int) -> None: ...

class ResidualBlockBf16:
    def __init__(self, w1: ArrayLike, b1: ArrayLike, w2: ArrayLike, b2: ArrayLike) -> None: ...
    def run(self, x: NDArray[Any], out: NDArray[Any], threads: int) -> None: ...

class BiGru:
    def __init__(self, weights: Sequence[ArrayLike]) -> None: ...
    def run(
        self, x: NDArray[np.float32], out: NDArray[np.float32], last: NDArray[np.float32], threads: int
    ) -> None: ...

def gru_training_forward(
    projected: NDArray[np.float32],
    weights: NDArray[np.float32],
    bias_new: NDArray[np.float32],
    states: NDArray[np.float32],
    gates: NDArray[np.float32],
    threads: int,
) -> None: ...
def gru_training_backward(
    d_states: NDArray[np.float32],
    states: NDArray[np.float32],
    gates: NDArray[np.float32],
    weights: NDArray[np.float32],
    d_projected: NDArray[np.float32],
    d_new: NDArray[np.float32],
    threads: int,
) -> None: ...
def fingerprint(arrays: Sequence[NDArray[Any]]) -> int: ...
