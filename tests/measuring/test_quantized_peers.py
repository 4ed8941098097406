"""The peers in 8 bits: they compute the same network, with steps from the sounds that they are given, and silently."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from mtfa_fast.checking.comparison import Check, relative_error
from mtfa_fast.config import Config, FeatureConfig, NetworkConfig
from mtfa_fast.measuring import calibration, quantized_peers
from mtfa_fast.measuring.checks import Oracle
from mtfa_fast.measuring.networks import random_weights
from mtfa_fast.measuring.peers import peers
from mtfa_fast.measuring.quantized_peers import OnnxRuntimeInt8, OpenVinoInt8
from mtfa_fast.measuring.rows import Row
from mtfa_fast.measuring.text import table
from mtfa_fast.measuring.timing import Times

SMALL = Config(FeatureConfig(mel_bands=32), NetworkConfig(channels=16, hidden=16))
FRAMES = 37  # odd: everybody pads
CONVOLUTIONS = 26  # 3x3 ones, the stem's among them, and the 1x1 projection


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(random_weights(SMALL))


@pytest.mark.parametrize("kind", [OpenVinoInt8, OnnxRuntimeInt8])
def test_the_same_network_in_8_bits(
    oracle: Oracle, kind: type[OpenVinoInt8 | OnnxRuntimeInt8], capfd: pytest.CaptureFixture[str]
) -> None:
    sounds = calibration.sounds(oracle.weights)
    peer = kind(oracle.weights, 1, sounds)
    for part in ("network", "trunk"):
        given = oracle.input(part, 2, FRAMES)  # type: ignore[arg-type]
        got = peer.prepare(part, 2, FRAMES)(given)  # type: ignore[arg-type]
        check = oracle.check(part, got, FRAMES, peer.yardstick)  # type: ignore[arg-type]
        assert check.passed and check.relative is not None and 1e-5 < check.relative < 0.02
    assert capfd.readouterr().out == "", "results go to standard output, and nothing else"
    text = peer._file("network", 2, 40).read_bytes()
    assert text.count(b"FakeQuantize" if kind is OpenVinoInt8 else b"QuantizeLinear") > CONVOLUTIONS
    with pytest.raises(ValueError, match="part: got 'recurrent', allowed: network, trunk"):
        peer.prepare("recurrent", 1, 40)
    # Steps from sounds a tenth as far from the mean cut off most of what comes.
    quiet = [oracle.weights.tensors["mean"] + (sound - oracle.weights.tensors["mean"]) / 10 for sound in sounds]
    deaf = kind(oracle.weights, 1, quiet).prepare("trunk", 2, FRAMES)(oracle.input("trunk", 2, FRAMES))
    worse = oracle.check("trunk", deaf, FRAMES, "int8")
    assert worse.relative is not None and worse.relative > 5 * check.relative


def test_weights_have_7_bits_where_products_could_overflow(oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    largest = {}
    for vnni in (True, False):
        monkeypatch.setattr(quantized_peers, "multiplies_bytes", lambda vnni=vnni: vnni)
        peer = OnnxRuntimeInt8(oracle.weights, 1, calibration.sounds(oracle.weights))
        assert ("8-bit weights" if vnni else "7-bit weights") in peer.settings
        model = onnx.load(str(peer._file("network", 1, 16)))
        kernels = [array for array in map(numpy_helper.to_array, model.graph.initializer) if array.ndim == 4]
        assert len(kernels) == CONVOLUTIONS and {array.dtype for array in kernels} == {np.dtype(np.int8)}
        largest[vnni] = max(int(np.abs(array.astype(int)).max()) for array in kernels)
    assert largest == {True: 127, False: 64}


def test_calibration_hears_everything_in_any_shape() -> None:
    sounds = [np.arange(10, dtype=np.float32)[:, None], np.arange(10, 17, dtype=np.float32)[:, None]]
    found = calibration.batches(sounds, 2, 3)
    assert found.shape == (3, 2, 3, 1)
    assert found.ravel().tolist() == [*range(17), 0.0]
    assert calibration.batches(sounds, 1, 40).ravel().tolist() == [*range(17), *range(17), *range(6)]


def test_the_sounds_are_not_those_that_answers_are_checked_on(oracle: Oracle) -> None:
    noise, made = calibration.sounds(oracle.weights)
    assert made.shape == (401, 32)
    checked = oracle.input("network", 2, len(noise))
    assert all(relative_error(noise, one) > 0.1 for one in checked)
    spread = [
        np.std((one - oracle.weights.tensors["mean"]) / oracle.weights.tensors["std"]) for one in (noise, checked[0])
    ]
    np.testing.assert_allclose(spread, 1, atol=0.05)


def test_8_bits_stand_beside_8_bits() -> None:
    def row(name: str, seconds: float) -> Row:
        check = Check("network", "", 0.001, 0.15)
        return Row(name, "network", 1, 1501, name.split()[-1], "", "", check, Times((seconds,) * 3, 0.0, 0.5))

    rows = [row("mtfa-fast fp32", 0.2), row("mtfa-fast int8", 0.1), row("peer fp32", 0.5), row("peer int8", 0.3)]
    ratios = {line.strip()[:14].strip(): line.split()[-1] for line in table(rows, Config()) if " ms " in line}
    assert ratios["peer fp32"] == "2.50x" and ratios["peer int8"] == "3.00x"
    alone = [line for line in table([rows[0], rows[3]], Config()) if "peer int8" in line]
    assert alone[0].endswith("1.50x"), "beside what there is of ours"


def test_whoever_is_missing_is_named(oracle: Oracle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    found, missing = peers(oracle.weights, threads=1)
    assert missing == {
        "OpenVINO int8": "not installed (nncf)",
        "ONNX Runtime fp32": "not installed (onnxruntime)",
        "ONNX Runtime int8": "not installed (onnxruntime)",
    }
    assert "OpenVINO fp32" in {peer.name for peer in found}


def test_nobody_reports_the_use() -> None:
    code = """
import sys
from mtfa_fast.measuring.quantized_peers import _nncf
assert _nncf() is _nncf() and "openvino_telemetry" not in sys.modules
from nncf.telemetry import telemetry
print(type(telemetry).__name__)
import openvino_telemetry
"""
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "NNCFTelemetry" not in done.stdout.split()
