"""The fast layers in other hands: compiled, exported, packaged, spread over processes, and in the examples."""

from __future__ import annotations

import copy
import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from mtfa_fast.nn import modules
from mtfa_fast.nn.fast import MTFA, BiGRU

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class Layers(nn.Module):
    """Both layers as others would use them: maps in, states out."""

    def __init__(self, depth: int = 3) -> None:
        super().__init__()
        self.attention = MTFA(16, depth=depth)
        self.gru = BiGRU(16 * 8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.gru(self.attention(x).permute(0, 2, 3, 1).flatten(2))[0]  # type: ignore[no-any-return]


def test_compiles_whole_with_any_batch_and_length() -> None:
    model = Layers(depth=1)
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for training in (False, True):
        model.train(training)
        for batch, frames in ((2, 13), (3, 24)):
            x = torch.randn(batch, 16, frames, 8)
            with torch.set_grad_enabled(training):
                got, wanted = compiled(x), model(x)
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
            if training:
                got.sum().backward()


def exported(model: nn.Module, x: Tensor) -> torch.export.ExportedProgram:
    # Sizes of 0 and 1 are special to torch.export at every scale: T / 8 starts at 2.
    batch, time = torch.export.Dim("batch"), torch.export.Dim("time", min=9)
    return torch.export.export(model, (x,), dynamic_shapes=({0: batch, 2: time},))


@pytest.mark.parametrize("gradients", [False, True])
def test_exports_with_dynamic_batch_and_time(gradients: bool) -> None:
    model = Layers().eval()
    with torch.set_grad_enabled(gradients):
        program = exported(model, torch.randn(2, 16, 13, 8))
    targets = {str(node.target).partition(".")[2] for node in program.graph.nodes if "mtfa_fast" in str(node.target)}
    recurrent = "bigru_train" if gradients else "bigru"
    expected = {"upsample_add", "upsample_add_gate", recurrent} | (set() if gradients else {"residual_block"})
    assert {target.removesuffix(".default") for target in targets} == expected
    for shape in ((1, 16, 9, 8), (3, 16, 24, 8)):
        x = torch.randn(shape)
        torch.testing.assert_close(program.module()(x), model(x), rtol=1e-5, atol=1e-5)


def test_bigru_exports_where_torch_gru_is_refused() -> None:
    stock = nn.GRU(5, 4, batch_first=True, bidirectional=True)
    fast = BiGRU(5, 4)
    fast.load_state_dict(stock.state_dict())
    time = torch.export.Dim("time", min=2)

    def export(layer: nn.Module) -> torch.export.ExportedProgram:
        return torch.export.export(layer.eval(), (torch.randn(2, 7, 5),), dynamic_shapes=({1: time},))

    with pytest.raises(torch._dynamo.exc.UserError, match="specialized it to be a constant"):
        export(stock)
    x = torch.randn(2, 11, 5)
    torch.testing.assert_close(export(fast).module()(x), stock(x))


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="Inductor needs g++ (apt install g++)")
def test_packages_for_aot_inductor(tmp_path: Path, compiler_cache: None) -> None:
    model = Layers(depth=1).eval()
    with torch.no_grad():
        program = exported(model, torch.randn(2, 16, 13, 8))
        path = torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "layers.pt2"))
        x = torch.randn(3, 16, 10, 8)
        torch.testing.assert_close(torch._inductor.aoti_load_package(path)(x), model(x), rtol=1e-5, atol=1e-5)


def test_distributed_data_parallel(tmp_path: Path) -> None:
    model = Layers()
    reference = copy.deepcopy(model)
    store = torch.distributed.FileStore(str(tmp_path / "store"), 1)
    torch.distributed.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        parallel = nn.parallel.DistributedDataParallel(model)
        x = torch.randn(2, 16, 9, 8)
        parallel(x).square().mean().backward()
    finally:
        torch.distributed.destroy_process_group()
    reference(x).square().mean().backward()
    for a, b in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_example_trains_a_crnn_with_the_layer() -> None:
    crnn = example("crnn_with_mtfa")
    losses = crnn.train(3, batch=2, frames=64)
    assert all(0 < loss < 5 for loss in losses)
    strong, weak = crnn.CRNN(classes=3)(torch.randn(2, 1, 64, 128))
    assert strong.shape == (2, 16, 3) and weak.shape == (2, 3)


def test_example_accelerates_a_finished_model() -> None:
    difference, plain, fast = example("accelerate_model").main(channels=16, bands=32, frames=40)
    assert difference < 1e-5
    assert type(plain.attention) is modules.MTFA and type(fast.attention) is MTFA and type(fast.gru) is BiGRU
