"""Each format: how a file of it is written, and how it is opened again in its own runtime."""

from __future__ import annotations

import contextlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from ..extras import needs
from ..weights import Weights
from .graph import Exported, Source
from .onnx_ops import onnx_translations

Run = Callable[[np.ndarray], np.ndarray]  # float32 (B, T, D) or (B, n) -> probabilities (B, T, K)
OPSET = 18
INPUTS = {"log-mel": "log_mel", "samples": "samples"}


def write_onnx(weights: Weights, source: Source, path: Path) -> None:
    """One file of plain operators, native GRU nodes included; what a detector needs to decide is its metadata."""
    with needs("onnxscript", "ONNX export needs"):
        import onnxscript  # noqa: F401 - said before torch's exporter says it at length
    module = Exported(weights, source, fast=True)
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            module,
            (module.example(),),
            dynamo=True,
            custom_translation_table=onnx_translations(),
            dynamic_shapes=({0: torch.export.Dim("batch"), 1: torch.export.Dim("time", min=9)},),
            input_names=[INPUTS[source]],
            output_names=["probabilities"],
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    program.model.metadata_props.update(facts(weights, source))
    program.save(str(path), external_data=False)


def write_pt2(weights: Weights, source: Source, path: Path) -> None:
    """A program of torch's own operators: ``torch.export.load`` needs nothing of this package."""
    module = Exported(weights, source, fast=False)
    torch.export.save(_program(module), path, extra_files={"mtfa_fast.json": json.dumps(facts(weights, source))})


def write_aoti(weights: Weights, source: Source, path: Path) -> None:
    """A compiled library around this package's ops, for processes that have imported ``mtfa_fast.ops``."""
    module = Exported(weights, source, fast=True)
    torch._inductor.aoti_compile_and_package(
        _program(module), package_path=str(path), inductor_configs={"aot_inductor.metadata": facts(weights, source)}
    )


def facts(weights: Weights, source: Source) -> dict[str, str]:
    """Config and decisions as text: what stands between the file's probabilities and events."""
    config = weights.config
    return {
        "mtfa_fast.input": source,
        "mtfa_fast.config": json.dumps(config.to_dict()),
        "mtfa_fast.classes": json.dumps([c.to_dict() for c in config.classes]),
        "mtfa_fast.frame_seconds": repr(config.features.frame_seconds),
    }


def _program(module: Exported) -> torch.export.ExportedProgram:
    """Batch and length free from 1 on.

    torch.export takes it for proved, on the way, that sizes differ from 1, and asserts it in the program. None of this
    arithmetic needs that, so the assertions go; every file is run at batch 1 and length 1 before it is kept.
    """
    config: Any = import_module("torch.fx.experimental._config")

    free = ({0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("time", min=1)},)
    with _quiet(), torch.no_grad(), config.patch(backed_size_oblivious=True):
        program = torch.export.export(
            module, (module.example(),), dynamic_shapes=free, prefer_deferred_runtime_asserts_over_guards=True
        )
    for part in program.graph_module.modules():
        if isinstance(part, fx.GraphModule):
            for node in list(part.graph.nodes):
                if node.target is torch.ops.aten._assert_scalar.default:
                    part.graph.erase_node(node)
            part.graph.eliminate_dead_code()
            part.recompile()
    return program


def onnx_runtime(path: Path) -> Run:
    with needs("onnxruntime", "verifying an ONNX file needs"):
        import onnxruntime
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda x: np.asarray(session.run(None, {name: x})[0])


def pt2(path: Path) -> Run:
    module: Any = torch.export.load(path).module()
    return _through_torch(module)


def aoti(path: Path) -> Run:
    return _through_torch(torch._inductor.aoti_load_package(str(path)))


def _through_torch(call: Callable[[Tensor], Tensor]) -> Run:
    def run(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            answer: np.ndarray = call(torch.from_numpy(x)).numpy()
        return answer

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporters say a page about what is as it should be."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
