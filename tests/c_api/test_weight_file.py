"""The C reader of weight files takes and refuses what Python's does, in words; arbitrary bytes never crash it."""

from __future__ import annotations

import ctypes
import dataclasses
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mtfa_fast.weights import Weights
from mtfa_fast.weights.quantized import quantized_shapes
from tests.c_api.library import ROOT, Library
from tests.c_api.tiny_weights import random_weights, tiny_config

Header = dict[str, Any]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    random_weights(tiny_config()).save(path)
    return path.read_bytes()


class Options(ctypes.Structure):
    _fields_ = (
        ("struct_size", ctypes.c_size_t),
        ("threads", ctypes.c_int32),
        ("isa", ctypes.c_char_p),
        ("precision", ctypes.c_char_p),
    )


def opened(library: Library, data: bytes, precision: str = "") -> str:
    """What the C library says against a file of these bytes; '' where it opens it."""
    options = Options(ctypes.sizeof(Options), 1, None, precision.encode())
    dll = ctypes.CDLL(str(library.file))
    dll.mtfa_last_error.restype = ctypes.c_char_p
    handle = ctypes.c_void_p()
    status = dll.mtfa_open_memory(data, ctypes.c_size_t(len(data)), ctypes.byref(options), ctypes.byref(handle))
    said: str = dll.mtfa_last_error().decode()
    assert status in ((0, 1, 4) if precision else (0, 4)) and (status == 0) == (said == "") == (
        handle.value is not None
    )
    assert status or dll.mtfa_close(handle) == 0
    return said


def edited(data: bytes, edit: Callable[[Header], None]) -> bytes:
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    edit(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def config(**changes: Any) -> Callable[[Header], None]:
    """Sets fields of the config's parts: ``features__hop=0``, ``classes__0__name=""``, ``other=1``."""

    def edit(header: Header) -> None:
        at = json.loads(header["__metadata__"]["config"])
        whole = at
        for path, value in changes.items():
            *folders, leaf = path.split("__")
            for folder in folders:
                at = at[int(folder) if folder.isdigit() else folder]
            at[leaf] = value
        header["__metadata__"]["config"] = json.dumps(whole)

    return edit


def metadata(**changes: str) -> Callable[[Header], None]:
    return lambda header: header["__metadata__"].update(changes)


def tensor(name: str, **changes: Any) -> Callable[[Header], None]:
    return lambda header: header[name].update(changes)


REFUSED: dict[str, tuple[Callable[[Header], Any], str]] = {
    "foreign": (lambda header: header.pop("__metadata__"), "format: got"),
    "other format": (metadata(format="other"), "format: got 'other'"),
    "newer": (metadata(format_version="2"), "version '2'"),
    "config is no JSON": (metadata(config="{"), "JSON"),
    "config is a list": (metadata(config="[]"), "config: got a list"),
    "unknown field": (config(other=1), "other"),
    "unknown feature": (config(features__volume=1), "volume"),
    "hop 0": (config(features__hop=0), "features.hop: got 0"),
    "hop is text": (config(features__hop="882"), "features.hop: got a string"),
    "hop with a fraction": (config(features__hop=8.5), "features.hop: got 8.5"),
    "rate 0": (config(features__sample_rate=0), "features.sample_rate: got 0"),
    "FFT no power of two": (config(features__fft_length=48), "fft_length: got 48"),
    "window longer than FFT": (config(features__window_length=64), "window_length"),
    "bands": (config(features__mel_bands=12), "mel_bands: got 12"),
    "floor": (config(features__log_floor=0), "log_floor"),
    "variant": (config(network__variant="large"), "variant: got large"),
    "channels": (config(network__channels=0), "network.channels: got 0"),
    "channels beyond memory": (config(network__channels=2**20), "tensor"),
    "channels of 2^63": (config(network__channels=2**63), "network.channels"),
    "pooling": (config(network__frequency_pooling=3), "mel_bands"),
    "projection": (config(network__mask_projection=1), "mask_projection: got a number"),
    "dropout": (config(network__dropout=1), "dropout"),
    "no classes": (config(classes=[]), "classes: got 0"),
    "class without name": (config(classes__0__name=""), "class name"),
    "class of two lines": (config(classes__0__name="a\nb"), "class name"),
    "twice": (config(classes__0__name="two"), "two twice"),
    "threshold": (config(classes__0__threshold=1.5), "threshold of Säge: got 1.5"),
    "even filter": (config(classes__0__filter_frames=2), "filter_frames of Säge: got 2"),
    "score": (config(classes__0__minimum_score=-1), "minimum_score of Säge: got -1"),
    "calibration": (config(classes__0__calibration={"slope": -1, "offset": 0}), "calibration slope: got -1"),
    "half a calibration": (config(classes__0__calibration={"slope": 1}), "calibration: got no field offset"),
    "other calibration": (config(classes__0__calibration={"slope": 1, "offset": 0, "knots": 3}), "knots"),
    "missing": (lambda header: header.pop("mean"), "tensor mean: missing"),
    "extra": (lambda header: header.update(more=header["mean"]), "tensor more: unknown"),
    "float16": (tensor("mean", dtype="F16"), "tensor mean: got F16"),
    "shape": (tensor("mean", shape=[4, 2]), "tensor mean: got F32 (4, 2)"),
    "beyond the end": (tensor("mean", data_offsets=[2**40, 2**40 + 32]), "bytes are there"),
    "backwards": (tensor("mean", data_offsets=[32, 0]), "bytes are there"),
    "of 2^63": (tensor("mean", data_offsets=[0, 2**63]), "integers"),
    "negative": (tensor("mean", data_offsets=[-32, 0]), "integers"),
    "no offsets": (lambda header: header["mean"].pop("data_offsets"), "data_offsets"),
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """With steps of 8-bit arithmetic."""
    weights, path = random_weights(tiny_config()), tmp_path_factory.mktemp("steps") / "tiny.safetensors"
    steps = {name: np.ones(shape, np.float32) for name, shape in quantized_shapes(weights.config).items()}
    dataclasses.replace(weights, steps=steps).save(path)
    return path.read_bytes()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dtype": "I64"}, "int8.step.stem: got I64"),
        ({"shape": [3]}, "bytes are there"),
        ({"shape": [2**40, 2**40]}, "damaged shape"),
        ({"shape": [0, 2]}, "damaged shape"),
        ({"data_offsets": [2**40, 2**40 + 8]}, "bytes are there"),
    ],
)
def test_damaged_steps_are_refused(library: Library, prepared: bytes, changes: Header, words: str) -> None:
    assert opened(library, prepared) == "" == opened(library, prepared, "int8")
    assert words in opened(library, edited(prepared, tensor("int8.step.stem", **changes)))


def test_8_bits_need_all_steps_and_ask_for_them_by_name(library: Library, good: bytes, prepared: bytes) -> None:
    assert "quantize" in opened(library, good, "int8") and opened(library, good, "auto") == ""

    def without(header: Header) -> None:
        header["int8.step.other"] = header.pop("int8.step.stem")

    incomplete = edited(prepared, without)
    assert "int8.step.stem" in opened(library, incomplete, "int8")


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_both(library: Library, good: bytes, tmp_path: Path, name: str) -> None:
    edit, words = REFUSED[name]
    data = edited(good, edit)
    assert words in opened(library, data)
    path = tmp_path / "bad.safetensors"
    path.write_bytes(data)
    with pytest.raises(ValueError):
        Weights.load(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_refused(library: Library, good: bytes, value: float) -> None:
    size = int.from_bytes(good[:8], "little")
    begin = 8 + size + json.loads(good[8 : 8 + size])["mean"]["data_offsets"][0]
    data = good[:begin] + np.float32(value).tobytes() + good[begin + 4 :]
    assert "tensor mean: got NaN or infinity" in opened(library, data)


@pytest.mark.parametrize("name,value,words", [("std", 0.0, "> 0"), ("stem.norm.running_var", -1.0, ">= 0")])
def test_values_that_cannot_be_are_refused(library: Library, good: bytes, name: str, value: float, words: str) -> None:
    size = int.from_bytes(good[:8], "little")
    begin = 8 + size + json.loads(good[8 : 8 + size])[name]["data_offsets"][0]
    data = good[:begin] + np.float32(value).tobytes() + good[begin + 4 :]
    assert f"tensor {name}: got" in (said := opened(library, data)) and words in said


def test_bytes_that_are_no_weight_file(library: Library, good: bytes) -> None:
    assert opened(library, good) == ""
    assert opened(library, edited(good, lambda header: None)) == ""  # another order and spelling of the header
    flac = (ROOT / "examples" / "rare_events.flac").read_bytes()
    lengths = (b"\xff" * 8 + good[8:], b"\0" * 8 + b"{}")
    for data in (b"\0", b"{}", flac, b"PK\3\4" + good, good + b"\0", good[:-1], *lengths):
        assert opened(library, data) != ""
    longer = (int.from_bytes(good[:8], "little") + 9).to_bytes(8, "little")
    assert "for the second time" in opened(library, longer + b'{"mean":1,' + good[9:])


@pytest.mark.parametrize("variant", ["mtfa", "resatt", "res"])
def test_defaults_and_variants_are_opened(library: Library, tmp_path: Path, variant: str) -> None:
    small = dataclasses.replace(tiny_config().network, variant=variant)  # type: ignore[arg-type]
    path = tmp_path / "weights.safetensors"
    random_weights(dataclasses.replace(tiny_config(), network=small)).save(path)

    def drop(header: Header) -> None:
        config = json.loads(header["__metadata__"]["config"])
        del config["network"]["dropout"], config["classes"][0]["threshold"], config["features"]["log_floor"]
        header["__metadata__"]["config"] = json.dumps(config)

    assert opened(library, path.read_bytes()) == opened(library, edited(path.read_bytes(), drop)) == ""


SEEDS = sorted((Path(__file__).parent / "fuzz" / "corpus").glob("*"))


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to build the reader with (apt install g++)")
def test_the_fuzzers_corpus_under_sanitizers(good: bytes, tmp_path: Path) -> None:
    """The seeds, what the fuzzer found worth keeping, and the good file cut and bent in a thousand places."""
    program = tmp_path / "fuzz"
    sources = ["csrc/c_api/json.cpp", "csrc/c_api/config.cpp", "csrc/c_api/weight_file.cpp", "csrc/core/weights.cpp"]
    sources += ["csrc/core/fold.cpp", "tests/c_api/fuzz/weight_file_fuzz.cpp"]
    flags = ["-std=c++17", "-O1", "-g", "-Icsrc", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    subprocess.run(["g++", *flags, "-DMTFA_FUZZ_MAIN", *sources, "-o", program], cwd=ROOT, check=True)
    rng = np.random.default_rng(11)
    bent = []
    size = int.from_bytes(good[:8], "little")
    for number in range(1000):
        data = bytearray(good)
        for at in rng.integers(0, 8 + size if number % 4 else len(good), size=1 + number % 3):
            data[at] = rng.integers(0, 256)
        path = tmp_path / f"{number}"
        path.write_bytes(data[: rng.integers(0, len(data))] if number % 5 == 0 else data)
        bent.append(path)
    done = subprocess.run([program, *SEEDS, *bent], capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(SEEDS) > 10 and done.stdout.strip() == f"{len(SEEDS) + 1000} files"
