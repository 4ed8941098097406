"""The weight file: same names and shapes as the torch module, refused by name when anything is wrong."""

from __future__ import annotations

import dataclasses
import json
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from mtfa_fast.config import ClassConfig, Config, FeatureConfig, NetworkConfig
from mtfa_fast.weights import Weights, expected_shapes, find

SMALL = Config(
    FeatureConfig(sample_rate=8_000, window_length=320, hop=160, fft_length=512, mel_bands=16),
    NetworkConfig(channels=3, hidden=5),
    (ClassConfig("door", 0.25, 3), ClassConfig("bird song")),
)


def random_tensors(config: Config) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    return {name: rng.random(shape, np.float32) + 0.1 for name, shape in expected_shapes(config).items()}


@pytest.fixture
def weights() -> Weights:
    return Weights(SMALL, random_tensors(SMALL), {"licence": "MIT", "card": "line one\nline two"})


@pytest.mark.parametrize("variant", ["mtfa", "resatt", "res"])
@pytest.mark.parametrize("projection", [True, False])
def test_expected_shapes_are_those_of_the_module(variant: str, projection: bool) -> None:
    from mtfa_fast.nn import SEDNet

    network = NetworkConfig(variant=variant, channels=6, hidden=10, frequency_pooling=4, mask_projection=projection)  # type: ignore[arg-type]
    config = dataclasses.replace(SMALL, network=network)
    state = SEDNet(config).state_dict()
    module = {name: tuple(t.shape) for name, t in state.items() if not name.endswith("num_batches_tracked")}
    module |= {"features.window": (320,), "features.mel": (16, 257)}
    assert expected_shapes(config) == module


def test_round_trip(weights: Weights, tmp_path: Path) -> None:
    transposed = {n: np.asfortranarray(a) for n, a in weights.tensors.items()}
    path = tmp_path / "a.safetensors"
    Weights(SMALL, transposed, weights.metadata).save(path)
    for source in (path, tmp_path):
        loaded = Weights.load(source)
        assert loaded.config == SMALL
        assert loaded.metadata == weights.metadata
        for name, array in weights.tensors.items():
            np.testing.assert_array_equal(loaded.tensors[name], array)
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_equal_weights_give_equal_files(weights: Weights, tmp_path: Path) -> None:
    facts = {f"fact {i}": f"é {i}" for i in range(12)}  # by chance in the same order once in 12! writings
    files = []
    for order in (1, -1):
        path = tmp_path / f"{order}.safetensors"
        ordered = dict(list(weights.tensors.items())[::order]), dict(list(facts.items())[::order])
        Weights(SMALL, *ordered).save(path)
        files.append(path.read_bytes())
    assert files[0] == files[1]
    size = struct.unpack("<Q", files[0][:8])[0]
    assert size % 8 == 0 and safetensors.numpy.load(files[0]).keys() == weights.tensors.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"std": None}, "missing std"),
        ({"stem.conv.bias": np.zeros(3, np.float32)}, "unknown stem.conv.bias"),
        ({"mean": np.zeros(15, np.float32)}, r"tensor mean: got F32 \(15,\), allowed: F32 \(16,\)"),
        ({"head.output.bias": np.zeros(2, np.float64)}, "tensor head.output.bias: got F64"),
        ({"gru.bias_ih_l1": np.full(15, np.nan, np.float32)}, "tensor gru.bias_ih_l1: got 15 values that are NaN"),
        ({"mean": np.full(16, -np.inf, np.float32)}, "tensor mean: got 16 values"),
        ({"std": np.zeros(16, np.float32)}, "tensor std: got a value of 0.0"),
        ({"stem.norm.running_var": np.full(3, -1, np.float32)}, "running_var: got a value of -1"),
    ],
)
def test_wrong_tensors_are_refused_by_name(
    weights: Weights, tmp_path: Path, change: dict[str, np.ndarray | None], message: str
) -> None:
    path = tmp_path / "bad.safetensors"
    weights.save(path)
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
    tensors = {n: a for n, a in (weights.tensors | change).items() if a is not None}
    path.write_bytes(safetensors.numpy.save(tensors, metadata))
    with pytest.raises(ValueError, match=message) as caught:
        Weights.load(path)
    assert str(path) in str(caught.value)
    with pytest.raises(ValueError, match=message.replace("F32", "float32").replace("F64", "float64")):
        Weights(SMALL, tensors)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": None}, "format: got None"),
        ({"format_version": "2"}, "version '2', allowed: 'mtfa-fast' version '1'"),
        ({"config": None}, "config: not JSON"),
        ({"config": "[1]"}, "config: got list"),
        ({"config": json.dumps(SMALL.to_dict() | {"colour": 1})}, "colour"),
        ({"config": json.dumps(SMALL.to_dict() | {"network": {"channels": 3, "hiden": 5}})}, "hiden"),
        ({"config": json.dumps(SMALL.to_dict() | {"network": {"channels": -3}})}, "channels: got -3"),
    ],
)
def test_wrong_header_fields_are_refused(
    weights: Weights, tmp_path: Path, change: dict[str, str | None], message: str
) -> None:
    path = tmp_path / "bad.safetensors"
    header = {"format": "mtfa-fast", "format_version": "1", "config": json.dumps(SMALL.to_dict())}
    metadata = {k: v for k, v in (header | change).items() if v is not None}
    path.write_bytes(safetensors.numpy.save(weights.tensors, metadata))
    with pytest.raises(ValueError, match=message) as caught:
        Weights.load(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:7],
        lambda data: data[:100],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: b"RIFF" + data,
        lambda data: struct.pack("<Q", 2**62) + data[8:],
        lambda data: data[:20] + b"\xff\xfe" + data[22:],
    ],
)
def test_damaged_files_are_refused(weights: Weights, tmp_path: Path, damage: object) -> None:
    path = tmp_path / "a.safetensors"
    weights.save(path)
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"a\.safetensors: "):
        Weights.load(path)


def test_sources_that_do_not_exist(weights: Weights, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="'rare-evnets'"):
        Weights.load("rare-evnets")
    with pytest.raises(ValueError, match="got 0 weight files"):
        find(tmp_path)
    for name in "ab":
        weights.save(tmp_path / f"{name}.safetensors")
    with pytest.raises(ValueError, match=r"got 2 weight files \(a.safetensors, b.safetensors\)"):
        find(tmp_path)


def test_save_refuses_before_writing(weights: Weights, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="path"):
        weights.save(tmp_path / "a.pt")
    with pytest.raises(ValueError, match="metadata"):
        Weights(SMALL, weights.tensors, {"config": "x"})
    assert list(tmp_path.iterdir()) == []


def test_loads_without_torch(weights: Weights, tmp_path: Path) -> None:
    weights.save(tmp_path / "a.safetensors")
    code = f"""
import sys
from mtfa_fast.weights import Weights
Weights.load({str(tmp_path)!r})
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
