"""Equality is measured, not hoped: an engine against the float64 reference, stage by stage.

The yardstick of a stage is stock PyTorch's own error in the same precision on the same input: an engine may
err twice as much, no more. ``docs/numerics.md`` has the bounds and why they are these.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch

from ..audio import features
from ..config import Config
from ..events.result import Result
from ..weights import Weights
from .comparison import (
    INT8_PROBABILITY_BOUND,
    PROBABILITY_BOUND,
    PROBABILITY_PERCENTILE,
    RECURRENT_FLOOR,
    Check,
    compare,
    drift,
)
from .int8 import check_convolutions
from .reference import Reference

# The part of an error that all values share. Rounding gave up to 0.001 in bf16 over all networks tried, float32
# 1e-7; a kernel that is 1 % wrong can hide in bf16's noise, but not from this.
DRIFT_BOUND = 0.003
# By how much one packed tensor may seem too large, judged by what that does to the output of its stage. Sound bf16
# engines gave up to 0.003; a fault of 1 % gives 0.01 with the same noise on top.
SCALE_BOUND = 0.005
SCALE_FAULT = 0.01
# Not judged: tensors whose scale cannot be told so precisely, or whose fault changes the stage by so small a share of
# its output, because rounding has a systematic part, too, of up to 0.0003 of the output.
SCALE_NOISE = 0.05 * SCALE_FAULT
SCALE_EFFECT = 0.0006
SCALE_FRAMES = 48
STAGE_FRAMES = 512  # of a recording, for the stage-by-stage comparison: its maps are held in float64


class Engine(Protocol):
    """What is verified: ``engine.cpu.CpuEngine``, or an engine of the same shape. ``tap`` is optional."""

    config: Config
    precision: str

    def probabilities(self, log_mel: np.ndarray) -> np.ndarray: ...
    def stream(self) -> Any: ...
    def explain(self) -> dict[str, Any]: ...


def verify(weights: Weights, engine: Engine, recordings: Mapping[str, np.ndarray]) -> Iterator[Check]:
    """Every comparison of ``engine``, which runs ``weights``, for each recording in turn.

    ``recordings``: mono float32 samples (n,) at the config's rate by name. ValueError for another shape or type.
    """
    for source, wave in recordings.items():
        if wave.ndim != 1 or wave.dtype != np.float32 or len(wave) == 0:
            raise ValueError(f"{source}: got {wave.dtype} {wave.shape}, allowed: float32 (n >= 1,)")
    exact = Reference(weights)
    stock = Reference(weights, "fp32" if engine.precision == "int8" else yardstick(engine))
    for source, wave in recordings.items():
        log_mel = _log_mel(engine, weights, wave)
        yield compare("features", source, log_mel, exact.log_mel(wave), stock.log_mel(wave))
        if engine.precision == "int8":
            yield check_convolutions(engine, weights, source, log_mel[:SCALE_FRAMES])
            yield from check_parts(exact, engine, source, log_mel[:SCALE_FRAMES])
            got, truth = engine.probabilities(log_mel), exact.probabilities(log_mel)
            yield from _check_decisions(truth, got, engine.config, source, len(wave), INT8_PROBABILITY_BOUND)
            yield from check_seams(engine, source, wave, log_mel)
            continue
        # From here on everybody gets the same input, so that each stage's error is its own and its forerunners'.
        yield from check_stages(exact, stock, engine, source, log_mel[:STAGE_FRAMES])
        yield from check_parts(exact, engine, source, log_mel[:SCALE_FRAMES])
        yield from check_probabilities(exact, stock, engine, source, log_mel, len(wave))
        yield from check_seams(engine, source, wave, log_mel)


def yardstick(engine: Any) -> str:
    """Which of ``reference.PRECISIONS`` an engine may err twice as much as, or ``"int8"``."""
    precision: str = engine.precision
    return "mixed" if precision == "bf16" and hasattr(engine, "tap") else precision


def checks_per_recording(engine: Any) -> int:
    """How many checks :func:`verify` yields for each recording."""
    if engine.precision == "int8":
        return 8
    of_parts = 2 + (engine.precision == "bf16")
    return (len(engine.stage_names()) + 1 + of_parts if hasattr(engine, "tap") else 0) + 7


def check_stages(exact: Reference, stock: Reference, engine: Any, source: str, log_mel: np.ndarray) -> Iterator[Check]:
    """Each stage that the engine can show, and the largest drift of them all.

    The recurrent layers are compared on the engine's own vectors, as in :func:`check_network`.
    """
    if not hasattr(engine, "tap"):
        return
    names, drifts = engine.stage_names(), {}
    vectors = _vectors(engine, log_mel)
    want, usual = (
        reference.stages(log_mel, [name for name in names if name != "gru"]) | {"gru": reference.hidden(vectors)}
        for reference in (exact, stock)
    )
    for name in names:
        got, truth = engine.tap(name, log_mel), want.pop(name)
        yield compare(name, source, got, truth, usual.pop(name))
        drifts[name] = drift(got, truth)
    worst = max(drifts, key=lambda name: math.inf if math.isnan(drifts[name]) else drifts[name])
    yield Check("drift", source, drifts[worst], DRIFT_BOUND, f"largest: {worst}")


def check_parts(exact: Reference, engine: Any, source: str, log_mel: np.ndarray) -> Iterator[Check]:
    """What bf16's noise would hide in a whole network: the scale of every tensor, and the recurrent part by itself.

    Each part gets what the engine itself made of the parts before it, so that only its own error is left.
    """
    if not hasattr(engine, "tap"):
        return
    if engine.precision == "bf16":
        yield _check_scales(exact, engine, source, log_mel)
    vectors = exact.vectors(log_mel).astype(np.float32)
    weights = exact.weights
    if engine.precision == "bf16":  # with both factors of its products rounded as the engine does, the rest is float32
        rounded = {n: bfloat16(t) for n, t in weights.tensors.items() if n.startswith("gru.weight_ih_l0")}
        vectors, weights = bfloat16(vectors), Weights(weights.config, weights.tensors | rounded)
    truth, usual = (Reference(weights, precision).recurrent(vectors) for precision in ("fp64", "fp32"))
    yield compare("recurrent part", source, engine.recurrent(vectors), truth, usual, RECURRENT_FLOOR)


def _check_scales(exact: Reference, engine: Any, source: str, log_mel: np.ndarray) -> Check:
    taps = {name: engine.tap(name, log_mel) for name in engine.stage_names()}
    found = {}
    for stage, sound, changes in exact.effects(log_mel, taps, SCALE_FAULT):
        off, output = taps[stage] - sound, float(np.vdot(sound, sound))
        for tensor, change in changes:
            power = float(np.vdot(change, change))
            if not power > SCALE_EFFECT**2 * output:
                continue
            noise = SCALE_FAULT * math.sqrt(np.vdot(off, off) / off.size / power)
            if not noise > SCALE_NOISE:  # NaN is judged, and fails
                found[tensor] = abs(SCALE_FAULT * float(np.vdot(off, change)) / power)
    if not found:
        return Check("scales", source, 0.0, SCALE_BOUND, "too few frames to judge any tensor")
    worst = max(found, key=lambda name: math.inf if math.isnan(found[name]) else found[name])
    return Check("scales", source, found[worst], SCALE_BOUND, f"largest of {len(found)}: {worst}")


def check_network(
    exact: Reference, stock: Reference, engine: Any, source: str, log_mel: np.ndarray, got: np.ndarray
) -> Generator[Check, None, np.ndarray]:
    """All frames: the trunk, and the probabilities ``got`` that the recurrent part made of this very trunk's vectors.

    Each half may err twice as much as stock's. Together they may err more, because a recurrent network can enlarge the
    last place of its input a hundredfold in a few frames, and whose last place that was is chance: on recordings of
    backgrounds the whole was 0.04 to 9 times as far off as stock's where both halves were sound. An engine that shows
    no parts is compared as a whole. Returns the exact probabilities.
    """
    if not hasattr(engine, "tap"):
        truth = exact.probabilities(log_mel)
        yield compare("probabilities", source, got, truth, stock.probabilities(log_mel))
        return truth
    vectors, sound = _vectors(engine, log_mel), exact.vectors(log_mel)
    yield compare("trunk", source, vectors, sound, stock.vectors(log_mel))
    want, usual = (reference.recurrent(vectors)[: len(log_mel)] for reference in (exact, stock))
    yield compare("probabilities", source, got, want, usual, RECURRENT_FLOOR)
    return exact.recurrent(sound)[: len(log_mel)]


def _vectors(engine: Any, log_mel: np.ndarray) -> np.ndarray:
    """What the engine's recurrent part gets, (T padded to a multiple of 8, I)."""
    gate: np.ndarray = engine.tap("gate", log_mel)
    return gate.reshape(len(gate), -1)


def bfloat16(array: np.ndarray) -> np.ndarray:
    """float32 rounded to bfloat16's nearest."""
    rounded: np.ndarray = torch.from_numpy(array).bfloat16().float().numpy()
    return rounded


def check_probabilities(
    exact: Reference, stock: Reference, engine: Engine, source: str, log_mel: np.ndarray, samples: int
) -> Iterator[Check]:
    """Frame probabilities, and the events that follow from them."""
    got = engine.probabilities(log_mel)
    truth = yield from check_network(exact, stock, engine, source, log_mel, got)
    yield from _check_decisions(truth, got, engine.config, source, samples, PROBABILITY_BOUND)


def _check_decisions(
    truth: np.ndarray, got: np.ndarray, config: Config, source: str, samples: int, bound: float
) -> Iterator[Check]:
    off = np.abs(got - truth)
    largest = float(np.percentile(off, PROBABILITY_PERCENTILE))
    yield Check(f"probabilities ({PROBABILITY_PERCENTILE} %)", source, largest, bound)
    limits = np.array([c.threshold for c in config.classes])
    # Filter and runs are the same on both sides, so events can only differ where a frame was decided differently.
    decided = (got > limits.astype(got.dtype)) != (truth > limits)
    clear = np.abs(truth - limits) > bound
    want, have = (_events(p, config, samples) for p in (truth, got))
    note = f"{len(want & have)} of {len(want)} identical, {len(have - want)} new"
    yield Check("events", source, float(np.count_nonzero(decided & clear)), 0.0, note)


def check_seams(engine: Engine, source: str, wave: np.ndarray, log_mel: np.ndarray) -> Iterator[Check]:
    """The same recording in other blocks, and in a batch: the C++ engine bit for bit, every engine event for event."""
    from ..engine.cpu import CpuEngine

    whole = engine.probabilities(log_mel)
    shifted = np.concatenate([log_mel[1:], log_mel[:1]])
    others = {"batch": engine.probabilities(np.stack([shifted, log_mel]))[1]}
    for size in (997, 44_101):
        stream = engine.stream()
        for first in range(0, len(wave), size):
            stream.push(wave[first : first + size])
        others[f"blocks of {size}"] = stream.finish()
    exactly = isinstance(engine, CpuEngine)
    events = _events(whole, engine.config, len(wave))
    for name, other in others.items():
        changed = events ^ _events(other, engine.config, len(wave))
        off = float(np.max(np.abs(other - whole))) if exactly else float(len(changed))
        note = "largest difference" if exactly else "events that changed"
        yield Check(f"seams ({name})", source, off if not changed else math.inf, 0.0, note)


def probe(config: Config, seconds: float = 8.0) -> np.ndarray:
    """A sound for want of a recording: noise with loud and silent spans, float32 (n,), always the same."""
    rng = np.random.default_rng(0)
    n = round(seconds * config.features.sample_rate)
    time = np.arange(n) / config.features.sample_rate
    loud = np.exp(-4 * (time % 1.3)) * (np.sin(2 * np.pi * 40 * time**1.5) + 0.3 * rng.standard_normal(n))
    wave = 0.2 * loud + 0.003 * rng.standard_normal(n)
    wave[n // 2 : n // 2 + n // 20] = 0  # digital silence: every band at the logarithm's floor
    return wave.astype(np.float32)


def _log_mel(engine: Any, weights: Weights, wave: np.ndarray) -> np.ndarray:
    if hasattr(engine, "log_mel"):
        found: np.ndarray = engine.log_mel(wave).float().cpu().numpy()
        return found
    tensors = weights.tensors
    return features.log_mel(
        wave, weights.config.features, window=tensors["features.window"], mel=tensors["features.mel"]
    )


def _events(probabilities: np.ndarray, config: Config, samples: int) -> set[tuple[str, float, float]]:
    result = Result(probabilities, config, "", samples / config.features.sample_rate)
    return {(event.label, event.onset, event.offset) for event in result}
