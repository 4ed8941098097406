"""Exports: verified files of every format, loaded where a user would, and nothing left behind of a wrong one."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mtfa_fast.audio.features import analysis_window, mel_matrix
from mtfa_fast.checking.comparison import relative_error
from mtfa_fast.commands.cli import main
from mtfa_fast.commands.outputs import written_by_us
from mtfa_fast.config import ClassConfig, Config, FeatureConfig
from mtfa_fast.export import export, formats, onnx_translations, write
from mtfa_fast.nn.convert import to_weights
from mtfa_fast.nn.fast import MTFA, BiGRU
from mtfa_fast.weights import Weights
from tests.networks import random_network

LENGTHS = (1, 7, 8, 21)


@pytest.fixture(scope="module")
def weights() -> Weights:
    """Small, and at another rate than the paper's."""
    made = to_weights(random_network(channels=16, bands=16, hidden=5, classes=2))
    features = FeatureConfig(sample_rate=8_000, window_length=300, hop=160, fft_length=512, mel_bands=16)
    classes = (ClassConfig("siren", threshold=0.35, filter_frames=9), ClassConfig("knock"))
    tensors = made.tensors | {"features.window": analysis_window(features), "features.mel": mel_matrix(features)}
    return Weights(dataclasses.replace(made.config, features=features, classes=classes), tensors)


@pytest.mark.parametrize("source", ["log-mel", "samples"])
def test_onnx_runs_in_stock_runtimes_with_what_a_detector_decides_by(
    weights: Weights, tmp_path: Path, source: str
) -> None:
    path = tmp_path / "net.onnx"
    checks = export(weights, path, "onnx", source=source, lengths=LENGTHS)  # type: ignore[arg-type]
    assert len(checks) == 2 * len(LENGTHS) and all(check.passed for check in checks)
    assert [p.name for p in tmp_path.iterdir()] == ["net.onnx"]  # one file, no data beside it
    assert written_by_us(path)

    onnx = pytest.importorskip("onnx")
    model = onnx.load(path)
    assert {opset.domain for opset in model.opset_import} == {""} and not model.functions
    grus = [node for node in model.graph.node if node.op_type == "GRU"]
    assert len(grus) == 2
    assert all({a.name: a.i for a in node.attribute}["linear_before_reset"] == 1 for node in grus)
    facts = {p.key: p.value for p in model.metadata_props}
    assert Config.from_dict(json.loads(facts["mtfa_fast.config"])) == weights.config
    assert json.loads(facts["mtfa_fast.classes"])[0]["threshold"] == 0.35

    openvino = pytest.importorskip("openvino")
    compiled = openvino.Core().compile_model(str(path), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    request = compiled.create_infer_request()
    found = list(write.compare(lambda x: request.infer({0: x})[0], weights, source, LENGTHS))  # type: ignore[arg-type]
    assert all(check.passed for check in found), found


@pytest.mark.parametrize("source", ["log-mel", "samples"])
def test_pt2_needs_torch_alone(weights: Weights, tmp_path: Path, source: str) -> None:
    path = tmp_path / "net.pt2"
    export(weights, path, "pt2", source=source, lengths=LENGTHS)  # type: ignore[arg-type]
    assert written_by_us(path)
    x = write._inputs(weights, source, 2, 9)  # type: ignore[arg-type]
    np.save(tmp_path / "x.npy", x)
    code = f"""
import sys
sys.modules["mtfa_fast"] = None  # importing it raises
import numpy, torch
answer = torch.export.load({str(path)!r}).module()(torch.from_numpy(numpy.load({str(tmp_path / "x.npy")!r})))
numpy.save({str(tmp_path / "y.npy")!r}, answer.detach().numpy())
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    assert relative_error(np.load(tmp_path / "y.npy"), formats.pt2(path)(x)) < 1e-6


def test_aoti_runs_in_a_process_of_its_own(weights: Weights, tmp_path: Path, compiler_cache: None) -> None:
    path = tmp_path / "net.pt2"
    export(weights, path, "aoti", lengths=(1, 9))
    assert written_by_us(path)
    x = write._inputs(weights, "log-mel", 2, 9)
    np.save(tmp_path / "x.npy", x)
    code = f"""
import numpy, torch, mtfa_fast.ops
answer = torch._inductor.aoti_load_package({str(path)!r})(torch.from_numpy(numpy.load({str(tmp_path / "x.npy")!r})))
numpy.save({str(tmp_path / "y.npy")!r}, answer.numpy())
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    assert relative_error(np.load(tmp_path / "y.npy"), formats.aoti(path)(x)) < 1e-6


class Somebodys(nn.Module):
    """A network with our layers in it, of an odd number of frames."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.attention, self.gru = nn.Conv2d(1, 4, 3, padding=1), MTFA(4), BiGRU(4 * 8, 3, num_layers=2)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.attention(self.stem(x.unsqueeze(1)))
        return self.gru(maps.permute(0, 2, 1, 3).flatten(2))[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("gradients", [False, True])
def test_a_network_of_ones_own_exports_with_one_argument(tmp_path: Path, gradients: bool) -> None:
    model, x = Somebodys().eval(), torch.randn(2, 13, 8)
    free = ({0: torch.export.Dim("batch"), 1: torch.export.Dim("time", min=9)},)
    with torch.set_grad_enabled(gradients):
        program = torch.onnx.export(
            model, (x,), dynamo=True, dynamic_shapes=free, custom_translation_table=onnx_translations(), verbose=False
        )
    assert program is not None
    program.save(str(tmp_path / "own.onnx"))
    run = formats.onnx_runtime(tmp_path / "own.onnx")
    for shape in ((1, 9, 8), (3, 24, 8)):
        x = torch.randn(shape)
        assert relative_error(run(x.numpy()), model(x).detach().numpy()) < 2e-6


def test_a_file_that_misses_the_bound_is_not_left_behind(
    weights: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A gate order that nobody noticed, as onnxscript's linear_before_reset once was."""
    path = tmp_path / "weights.safetensors"
    weights.save(path)
    write_onnx = formats.write_onnx

    def wrong(given: Weights, source: formats.Source, path: Path) -> None:
        tensors = dict(given.tensors)
        tensors["gru.bias_hh_l1"] = tensors["gru.bias_hh_l1"] + np.float32(1e-4)
        write_onnx(Weights(given.config, tensors), source, path)

    monkeypatch.setitem(write._KINDS, "onnx", write._Kind(wrong, formats.onnx_runtime))
    out = tmp_path / "net.onnx"
    assert main(["export", str(path), "-o", str(out), "--length", "9"]) == 1
    assert "is not written" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["weights.safetensors"]


def test_what_cannot_be_written_is_refused_by_name(
    weights: Weights, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, said in (
        ((tmp_path / "no" / "net.onnx", "onnx"), "folder that exists"),
        ((tmp_path / "net.pt2", "onnx"), "ends in .onnx"),
        ((tmp_path / "net.onnx", "tflite"), "allowed: onnx, pt2, aoti"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=said):
            export(weights, *arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="allowed: log-mel, samples"):
        export(weights, tmp_path / "net.onnx", source="mfcc")  # type: ignore[arg-type]
    assert main(["export", "rare-events", "-o", str(tmp_path / "no" / "net.onnx")]) == 2
    assert "folder that exists" in capsys.readouterr().err and not list(tmp_path.iterdir())
