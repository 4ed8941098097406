"""Steps of 8-bit arithmetic in the weight file: kept, checked by name, and absent from older files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mtfa_fast.config import NetworkConfig
from mtfa_fast.weights import Weights, quantized_shapes
from tests.weights.test_file import SMALL, random_tensors


def steps() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(2)
    return {name: rng.random(shape, np.float32) + 0.1 for name, shape in quantized_shapes(SMALL).items()}


def test_round_trip(tmp_path: Path) -> None:
    plain = Weights(SMALL, random_tensors(SMALL))
    assert plain.steps == {}
    plain.save(tmp_path / "plain.safetensors")
    assert Weights.load(tmp_path / "plain.safetensors").steps == {}
    with_steps = dataclasses.replace(plain, steps=steps())
    with_steps.save(tmp_path / "steps.safetensors")
    loaded = Weights.load(tmp_path / "steps.safetensors")
    assert loaded.tensors.keys() == plain.tensors.keys()
    assert loaded.steps.keys() == quantized_shapes(SMALL).keys()
    for name, array in with_steps.steps.items():
        np.testing.assert_array_equal(loaded.steps[name], array)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"int8.step.stem": None}, "missing int8.step.stem"),
        ({"int8.step.other": np.ones(3, np.float32)}, "unknown int8.step.other"),
        ({"int8.step.stem": np.ones(4, np.float32)}, r"tensor int8.step.stem: got F32 \(4,\), allowed: F32 \(3,\)"),
        ({"int8.step.stem": np.zeros(3, np.float32)}, "tensor int8.step.stem: got a value of 0.0, allowed: > 0"),
        ({"int8.step.stem": np.full(3, np.nan, np.float32)}, "tensor int8.step.stem: got 3 values that are NaN"),
    ],
)
def test_wrong_steps_are_refused_by_name(tmp_path: Path, change: dict[str, np.ndarray | None], message: str) -> None:
    import safetensors.numpy

    path = tmp_path / "w.safetensors"
    Weights(SMALL, random_tensors(SMALL), {}, steps()).save(path)
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    changed = {n: a for n, a in (safetensors.numpy.load_file(path) | change).items() if a is not None}
    safetensors.numpy.save_file(changed, path, metadata=metadata)
    with pytest.raises(ValueError, match=message):
        Weights.load(path)


@pytest.mark.parametrize(("variant", "maps", "convolutions"), [("mtfa", 23, 24), ("resatt", 9, 8), ("res", 5, 4)])
def test_every_convolution_but_the_first_and_the_projection_has_steps(
    variant: str, maps: int, convolutions: int
) -> None:
    config = dataclasses.replace(SMALL, network=NetworkConfig(variant=variant, channels=3, hidden=5))  # type: ignore[arg-type]
    names = list(quantized_shapes(config))
    assert sum(n.startswith("int8.transformed.") for n in names) == convolutions
    assert sum(n.startswith("int8.step.") for n in names) == maps
