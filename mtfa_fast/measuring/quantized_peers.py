"""The same network and weights in 8 bits: OpenVINO quantised by NNCF, ONNX Runtime by its own tool.

Both after training, with steps from the same sounds as ours (``calibration.sounds``), and each in its fastest known
settings (``benchmarks/search.py``). Their recurrent layers stay in float32, as ours do.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import tempfile
from collections.abc import Iterator, Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np

from .. import _core
from ..weights import Weights
from .calibration import batches
from .checks import Part
from .onnx_peers import OnnxRuntime, OpenVino

FULL_SUMS = "vpdpbusd", "tdpbusd", "sdot", "usdot"
_TELEMETRY = "openvino_telemetry"
# What lies between two convolutions: left in float32, every convolution would begin and end with a conversion.
BETWEEN = ("Conv", "Add", "Relu", "MaxPool", "Resize")


def multiplies_bytes() -> bool:
    """Whether this CPU adds 8-bit products in 32 bits; where x86 does not, two of full 8-bit numbers overflow 16."""
    return any(_core.int8_products(isa) in FULL_SUMS for isa in _core.available_isas())


def multiplies_bf16() -> bool:
    return bool({"avx512bf16", "amx"} & set(_core.available_isas()))


class _Quantized:
    """Made anew for each part and shape, in a folder of this contestant's own."""

    def _begin(self, sounds: Sequence[np.ndarray]) -> None:
        self.precision = self.yardstick = "int8"
        self._sounds = sounds
        self._folder = tempfile.TemporaryDirectory(prefix="mtfa-fast-int8-")

    def _file(self, part: Part, batch: int, frames: int) -> Path:
        if part == "recurrent":
            raise ValueError("part: got 'recurrent', allowed: network, trunk (recurrent layers stay in float32)")
        path = Path(self._folder.name) / f"{part}-{batch}-{frames}.{self._suffix}"
        if not path.exists():
            with _quiet():
                self._quantize(super()._file(part, batch, frames), path, batches(self._sounds, batch, frames))  # type: ignore[misc]
        return path

    _suffix = "onnx"

    def _quantize(self, source: Path, path: Path, data: np.ndarray) -> None:
        raise NotImplementedError


class OpenVinoInt8(_Quantized, OpenVino):
    """``preset``: of NNCF, MIXED (maps with a zero point, weights without) or PERFORMANCE (both without).

    ``rest``: the precision of what is not 8-bit, default bf16 where the CPU multiplies it. NNCF narrows weights to 7
    bits on a CPU whose products could overflow, and only there.
    """

    _suffix = "xml"

    def __init__(
        self,
        weights: Weights,
        threads: int,
        sounds: Sequence[np.ndarray],
        *,
        preset: str = "MIXED",
        rest: str | None = None,
    ) -> None:
        rest = rest or ("bf16" if multiplies_bf16() else "fp32")
        super().__init__(weights, rest, threads)
        self._nncf = _nncf()
        self._begin(sounds)
        self._preset = preset
        self.name = "OpenVINO int8"
        self.version += f", nncf {metadata.version('nncf')}"
        self.settings = f"{self.settings}, preset {preset}, rest in {rest}"

    def _quantize(self, source: Path, path: Path, data: np.ndarray) -> None:
        openvino, nncf = import_module(self.library), self._nncf
        overflow = nncf.OverflowFix.DISABLE if multiplies_bytes() else nncf.OverflowFix.ENABLE
        model = nncf.quantize(
            openvino.Core().read_model(str(source)),
            nncf.Dataset(list(data)),
            preset=nncf.QuantizationPreset[self._preset],
            subset_size=len(data),
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=overflow),
        )
        openvino.save_model(model, str(path), compress_to_fp16=False)


class OnnxRuntimeInt8(_Quantized, OnnxRuntime):
    """Static, QDQ, per channel. ``operators``: the types to quantise; ``signed``: maps as signed bytes.

    ``reduce_range``: weights of 7 bits, default where the CPU's products could overflow.
    """

    def __init__(
        self,
        weights: Weights,
        threads: int,
        sounds: Sequence[np.ndarray],
        *,
        operators: Sequence[str] | None = BETWEEN,
        signed: bool = False,
        reduce_range: bool | None = None,
    ) -> None:
        super().__init__(weights, "fp32", threads)
        self._begin(sounds)
        self._operators, self._signed = list(operators) if operators else None, signed
        self._reduce = not multiplies_bytes() if reduce_range is None else reduce_range
        self.name = "ONNX Runtime int8"
        bits = f"{'s8' if signed else 'u8'} maps, {'7' if self._reduce else '8'}-bit weights"
        what = ", ".join(self._operators) if self._operators else "all operators"
        self.settings = f"{self.settings}, static QDQ, per channel, {bits}, {what}"

    def _quantize(self, source: Path, path: Path, data: np.ndarray) -> None:
        tools: Any = import_module("onnxruntime.quantization")
        prepare: Any = import_module("onnxruntime.quantization.shape_inference").quant_pre_process
        ready = path.with_suffix(".prepared.onnx")
        prepare(str(source), str(ready), skip_symbolic_shape=True)  # all shapes are known
        tools.quantize_static(
            str(ready),
            str(path),
            _Reader(data, _input_name(ready)),
            quant_format=tools.QuantFormat.QDQ,
            per_channel=True,
            reduce_range=self._reduce,
            activation_type=tools.QuantType.QInt8 if self._signed else tools.QuantType.QUInt8,
            weight_type=tools.QuantType.QInt8,
            op_types_to_quantize=self._operators,
        )


class _Reader:
    """ONNX Runtime's CalibrationDataReader, by its methods."""

    def __init__(self, data: np.ndarray, name: str) -> None:
        self._data, self._name = iter(data), name

    def get_next(self) -> dict[str, np.ndarray] | None:
        array = next(self._data, None)
        return None if array is None else {self._name: array}


def _input_name(path: Path) -> str:
    name: str = import_module("onnx").load(str(path)).graph.input[0].name
    return name


def _nncf() -> Any:
    """NNCF without the package by which it reports its use: nobody's benchmark calls home."""
    if "nncf" in sys.modules:
        return import_module("nncf")
    absent = {_TELEMETRY: None}
    before = {name: sys.modules[name] for name in absent if name in sys.modules}
    sys.modules.update(absent)  # type: ignore[arg-type]  # importing it now raises ImportError, which NNCF expects
    try:
        return import_module("nncf")
    finally:
        for name in absent:
            del sys.modules[name]
        sys.modules.update(before)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Both tools draw progress bars on standard output and log what they do, which belongs in nobody's results."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(level)
