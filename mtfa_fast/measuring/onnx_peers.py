"""The same network and weights in libraries that run an ONNX file: ONNX Runtime and OpenVINO."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Iterable, Mapping
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..checking.comparison import Check
from ..engine.tiles import padded
from ..weights import Weights
from .checks import Oracle, Part
from .contestants import Call, with_padding
from .torch_peers import Plain

HINTS = {"fp32": "f32", "bf16": "bf16"}  # what OpenVINO calls them


class _Exported:
    """Shared by those that run an ONNX file."""

    library = "onnx"

    def __init__(self, weights: Weights, precision: str, threads: int) -> None:
        import_module(self.library)
        import_module("onnx")
        self._weights, self._threads = weights, threads
        self.precision = self.yardstick = precision

    def prepare(self, part: Part, batch: int, frames: int) -> Call:
        return with_padding(self._session(self._file(part, batch, padded(frames))), part, frames)

    def examine(self, oracle: Oracle) -> Iterable[Check]:
        return ()

    def _file(self, part: Part, batch: int, frames: int) -> Path:
        return graph(self._weights, part, batch, frames)

    def _session(self, path: Path) -> Call:
        raise NotImplementedError


class OnnxRuntime(_Exported):
    """ONNX Runtime's CPU provider with all graph optimisations (its default).

    ``options``: attributes of SessionOptions, enumerations by number; ``entries``: of its configuration.
    """

    library = "onnxruntime"

    def __init__(
        self, weights: Weights, precision: str, threads: int, entries: Mapping[str, str] | None = None, **options: Any
    ) -> None:
        if precision != "fp32":
            raise ValueError(f"precision: got {precision!r}, allowed: fp32, the CPU provider has no bf16 kernels")
        super().__init__(weights, precision, threads)
        self._options, self._entries = options, dict(entries or {})
        self.name = f"ONNX Runtime {precision}"
        self.version = f"onnxruntime {metadata.version('onnxruntime')}"
        what = "".join(f", {key}={value}" for key, value in (self._options | self._entries).items())
        self.settings = f"CPU provider, {threads} threads{what}"

    def _session(self, path: Path) -> Call:
        ort = import_module(self.library)
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = self._threads, 3
        for key, value in self._options.items():
            setattr(options, key, type(getattr(options, key))(value))
        for key, value in self._entries.items():
            options.add_session_config_entry(key, value)
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name

        def call(array: np.ndarray) -> np.ndarray:
            answer: np.ndarray = session.run(None, {name: array})[0]
            return answer

        return call


class OpenVino(_Exported):
    """OpenVINO's CPU plugin with a precision hint, tuned for latency."""

    library = "openvino"

    def __init__(self, weights: Weights, precision: str, threads: int, **options: Any) -> None:
        super().__init__(weights, precision, threads)
        self._hint, self._options = precision, {"PERFORMANCE_HINT": "LATENCY"} | options
        self.name = f"OpenVINO {precision}"
        self.version = f"openvino {metadata.version('openvino')}"
        self.settings = f"{', '.join(f'{key}={value}' for key, value in self._options.items())}, {threads} threads"

    def _session(self, path: Path) -> Call:
        settings = {
            "INFERENCE_PRECISION_HINT": HINTS[self._hint],
            "INFERENCE_NUM_THREADS": self._threads,
        } | self._options
        core = import_module(self.library).Core()
        request = core.compile_model(str(path), "CPU", settings).create_infer_request()

        def call(array: np.ndarray) -> np.ndarray:
            answer: np.ndarray = request.infer({0: array})[0]
            return answer

        return call


_GRAPHS: dict[int, tuple[Weights, tempfile.TemporaryDirectory[str]]] = {}  # with the weights, so that ids stay theirs


def graph(weights: Weights, part: Part, batch: int, frames: int) -> Path:
    """One file for each part and shape, made once for everybody."""
    if id(weights) not in _GRAPHS:
        _GRAPHS[id(weights)] = weights, tempfile.TemporaryDirectory(prefix="mtfa-fast-")
    path = Path(_GRAPHS[id(weights)][1].name) / f"{part}-{batch}-{frames}.onnx"
    if not path.exists():
        export(weights, part, batch, frames, path)
    return path


def export(weights: Weights, part: Part, batch: int, frames: int, path: Path) -> None:
    """The plain network, or a part of it, as an ONNX file for one shape."""
    config = weights.config
    example = torch.zeros(batch, frames, config.gru_inputs if part == "recurrent" else config.features.mel_bands)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the older exporter is deprecated; the newer one unrolls recurrent layers
        torch.onnx.export(
            copy.deepcopy(Plain(weights, part)).eval(), (example,), str(path), dynamo=False, opset_version=17
        )
