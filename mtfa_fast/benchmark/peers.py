"""The peers: the same network and weights in stock PyTorch, torch.compile, ONNX Runtime and OpenVINO.

Each gets what is best for it: norms folded into the convolutions, no padding inside the graph, channels-last,
its recurrent part in float32 where bf16 is slower, the settings that were fastest in a search
(``benchmarks/search.py``, with its results in ``benchmarks/README.md``). A library that is not installed raises
ImportError where it is made.
"""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ..engine.tiles import STEP, padded
from ..nn import ResidualBlock, Stem
from ..nn.convert import from_weights
from ..verification import Check
from ..weights import Weights
from .checks import Oracle, Part
from .contestants import Call, Contestant


class Plain(nn.Module):
    """The network without what only training and odd lengths need: norms folded, T a multiple of 8, one part of it."""

    def __init__(self, weights: Weights, part: Part, trunk_dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.part: Part = part
        self.dtype = trunk_dtype
        self.net = net = from_weights(weights)
        for module in net.modules():
            if isinstance(module, (Stem, ResidualBlock)):
                for n in ("",) if isinstance(module, Stem) else ("1", "2"):
                    conv, norm = getattr(module, f"conv{n}"), getattr(module, f"norm{n}")
                    setattr(module, f"conv{n}", fuse_conv_bn_eval(conv, norm))
                    setattr(module, f"norm{n}", nn.Identity())
        net.stem.to(trunk_dtype)
        net.attention.to(trunk_dtype)

    def forward(self, x: Tensor) -> Tensor:
        if self.part == "recurrent":
            return self.recurrent(x)
        return self.trunk(x) if self.part == "trunk" else self.recurrent(self.trunk(x))

    def trunk(self, x: Tensor) -> Tensor:
        net, attention = self.net, self.net.attention
        maps = net.stem(net.normalize(x).unsqueeze(1).to(self.dtype))
        gated = attention.features(maps)
        if attention.mask is not None:
            logits = attention.mask(maps)
            if attention.projection is not None:
                logits = attention.projection(logits)
            gated = (1 + torch.sigmoid(logits)) * gated
        return net.flatten(gated).float()

    def recurrent(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.net.head(self.net.gru(x)[0]))


class Eager:
    """Stock PyTorch, convolutions channels-last; contiguous only for the search."""

    library = "torch"

    def __init__(
        self, weights: Weights, precision: str, threads: int, *, device: str = "cpu", channels_last: bool = True
    ) -> None:
        self._weights, self._threads, self._device = weights, threads, device
        self._dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self._channels_last = channels_last
        self.precision = self.yardstick = precision
        self.name = f"torch {precision}"
        self.version = f"torch {torch.__version__}"
        layout = "channels-last" if channels_last else "contiguous"
        self.settings = f"eager, norms folded, {layout}, recurrent part fp32, {threads} threads"

    def prepare(self, part: Part, batch: int, frames: int) -> Call:
        module = Plain(self._weights, part, self._dtype).eval().to(self._device)
        if self._channels_last:
            module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        run = self._ready(module, part, batch, frames)

        @torch.inference_mode()
        def call(array: np.ndarray) -> np.ndarray:
            torch.set_num_threads(self._threads)
            answer: np.ndarray = run(torch.from_numpy(array).to(self._device)).cpu().numpy()
            return answer

        return _with_padding(call, part, frames)

    def examine(self, oracle: Oracle) -> Iterable[Check]:
        return ()

    def _ready(self, module: Plain, part: Part, batch: int, frames: int) -> Callable[[Tensor], Tensor]:
        return module


class Compiled(Eager):
    """torch.compile: on a CPU with frozen weights, on a GPU with max-autotune and CUDA graphs.

    The trunk is compiled and the recurrent part runs eagerly, which compilation does not make faster.
    """

    def __init__(self, weights: Weights, precision: str, threads: int, *, device: str = "cpu", **options: Any) -> None:
        super().__init__(weights, precision, threads, device=device)
        self._options = options or ({"mode": "max-autotune"} if device.startswith("cuda") else {})
        self._compiled: dict[tuple[int, int], Callable[[Tensor], Tensor]] = {}
        self.name = f"torch.compile {precision}"
        what = ", ".join(f"{key}={value}" for key, value in self._options.items()) or "freezing"
        self.settings = f"trunk compiled ({what}), channels-last, recurrent part fp32, {threads} threads"

    def _ready(self, module: Plain, part: Part, batch: int, frames: int) -> Callable[[Tensor], Tensor]:
        if part == "recurrent":
            return module
        shape = batch, padded(frames)
        if shape not in self._compiled:
            self._compiled[shape] = self._compile(module, *shape)
        trunk = self._compiled[shape]
        return trunk if part == "trunk" else lambda x: module.recurrent(trunk(x))

    def _compile(self, module: Plain, batch: int, frames: int) -> Callable[[Tensor], Tensor]:
        torch.set_num_threads(self._threads)
        compiled: Callable[[Tensor], Tensor] = torch.compile(module.trunk, dynamic=False, **self._options)
        example = torch.zeros(batch, frames, self._weights.config.features.mel_bands, device=self._device)
        inductor = import_module("torch._inductor.config")
        frozen = inductor.patch(freezing=True) if self._device == "cpu" else nullcontext()
        with torch.inference_mode(), frozen:
            compiled(example)  # compiles now, and reads the setting now
        return compiled


class _Exported:
    """Shared by those that run an ONNX file."""

    library = "onnx"

    def __init__(self, weights: Weights, precision: str, threads: int) -> None:
        import_module(self.library)
        import_module("onnx")
        self._weights, self._threads = weights, threads
        self.precision = self.yardstick = precision

    def prepare(self, part: Part, batch: int, frames: int) -> Call:
        return _with_padding(self._session(_graph(self._weights, part, batch, padded(frames))), part, frames)

    def examine(self, oracle: Oracle) -> Iterable[Check]:
        return ()

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
        self._options = {"PERFORMANCE_HINT": "LATENCY"} | options
        self.name = f"OpenVINO {precision}"
        self.version = f"openvino {metadata.version('openvino')}"
        self.settings = f"{', '.join(f'{key}={value}' for key, value in self._options.items())}, {threads} threads"

    def _session(self, path: Path) -> Call:
        hint = {"fp32": "f32", "bf16": "bf16"}[self.precision]
        settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": self._threads} | self._options
        core = import_module(self.library).Core()
        request = core.compile_model(str(path), "CPU", settings).create_infer_request()

        def call(array: np.ndarray) -> np.ndarray:
            answer: np.ndarray = request.infer({0: array})[0]
            return answer

        return call


_GRAPHS: dict[int, tuple[Weights, tempfile.TemporaryDirectory[str]]] = {}  # with the weights, so that ids stay theirs


def _graph(weights: Weights, part: Part, batch: int, frames: int) -> Path:
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


def _with_padding(call: Call, part: Part, frames: int) -> Call:
    """The last frame is repeated up to a multiple of 8, and what the network makes of that is cut off, as in ours."""
    missing = -frames % STEP
    if missing == 0:
        return call
    return lambda array: call(np.pad(array, ((0, 0), (0, missing), (0, 0)), mode="edge"))[
        :, : None if part == "trunk" else frames
    ]


def peers(weights: Weights, threads: int, *, device: str = "cpu") -> tuple[list[Contestant], dict[str, str]]:
    """Every peer that can run here in its best configuration, and why the others cannot."""
    makers: list[tuple[str, Callable[[], Contestant]]] = [
        ("torch fp32", lambda: Eager(weights, "fp32", threads, device=device)),
        ("torch bf16", lambda: Eager(weights, "bf16", threads, device=device)),
        ("torch.compile fp32", lambda: Compiled(weights, "fp32", threads, device=device)),
        ("torch.compile bf16", lambda: Compiled(weights, "bf16", threads, device=device)),
    ]
    if device == "cpu":
        makers += [
            ("ONNX Runtime fp32", lambda: OnnxRuntime(weights, "fp32", threads)),
            ("OpenVINO fp32", lambda: OpenVino(weights, "fp32", threads)),
            ("OpenVINO bf16", lambda: OpenVino(weights, "bf16", threads)),
        ]
    found: list[Contestant] = []
    missing = {}
    for name, make in makers:
        try:
            found.append(make())
        except ImportError as error:
            missing[name] = f"not installed ({error.name})"
    return found, missing
