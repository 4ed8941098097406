"""The choice between the residual block's kernels: what is right, then what is fastest."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mtfa_fast.backends.support import Support
from mtfa_fast.engine.gpu.blocks import Block, Choice
from tests.engine.lively import CompilationError


def test_the_fastest_right_block_is_chosen_once_for_each_scale_and_class(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = Choice.__init__.__globals__
    weights = (torch.randn(16, 16, 3, 3) / 12, torch.randn(16), torch.randn(16, 16, 3, 3) / 12, torch.randn(16))
    block = Block(weights)
    run, ran = Block.run, []

    def runs(self: Block, name: str, x: Tensor) -> Tensor:
        ran.append(name)
        if name == "cuda":
            return run(self, "reference", x)
        if name == "triton":
            return run(self, "reference", x) * 1.02
        if name == "broken":
            raise CompilationError("no kernel image\nis available")
        return run(self, name, x)

    speeds = iter([3e-3, 1e-3, 5e-3, 4e-3, 2e-3, 4e-3])
    monkeypatch.setattr(Block, "run", runs)
    monkeypatch.setitem(tables, "ladder", lambda args: ("cuda", "triton", "broken", "reference"))
    monkeypatch.setattr(
        Choice,
        "_support",
        staticmethod(lambda name, x, block: Support.yes() if name != "cudnn" else Support.no("needs cuDNN")),
    )
    choice = Choice(timer=lambda call, device: next(speeds))
    x = torch.randn(2, 16, 8, 8)
    choice(0, block, x)
    assert choice.reasons[0, False] == (
        "scale 1/1, fewer than 16384 frames: reference: fastest at 2x16x8x8 by device time: reference 1 ms, cuda 3 ms, "
        "triton not (wrong results: relative error 0.02, allowed 1e-05), "
        "broken not (CompilationError: no kernel image), "
        "cudnn not (needs cuDNN)"
    )
    ran.clear()
    choice(0, block, torch.randn(5, 16, 80, 8))
    assert ran == ["reference"]
    choice(1, block, x)
    assert "1/2, fewer than 16384 frames: reference: fastest" in choice.reasons[1, False] and ran.count("cuda") == 1
    # A large batch has a choice of its own, measured on as many clips as make one.
    ran.clear()
    monkeypatch.setitem(tables, "MANY_FRAMES", 50)
    assert choice(1, block, torch.randn(5, 16, 8, 8)).shape == (5, 16, 8, 8)
    assert "1/2, at least 50 frames: cuda: fastest at 4x16x8x8 by device time: cuda 2 ms" in choice.reasons[1, True]
    assert ran[-1] == "cuda" and set(choice.reasons) == {(0, False), (1, False), (1, True)}


def test_candidates_in_float32_are_compared_with_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the library's float32 convolution errs, as by Winograd, it is refused and not what disagrees with it."""
    tables = Choice.__init__.__globals__
    plain = tables["_plain"]
    monkeypatch.setitem(tables, "_plain", lambda x, *w: plain(x, *w) * (1 if x.dtype == torch.float64 else 1.0001))
    monkeypatch.setitem(tables, "ladder", lambda args: ("reference",))
    support = staticmethod(lambda name, x, block: Support.yes())
    monkeypatch.setattr(Choice, "_support", support)
    monkeypatch.setitem(tables, "_fused_by_cudnn", plain)
    block = Block((torch.randn(16, 16, 3, 3) / 12, torch.randn(16), torch.randn(16, 16, 3, 3) / 12, torch.randn(16)))
    choice = Choice(timer=lambda call, device: 1e-3)
    choice(0, block, torch.randn(2, 16, 8, 8))
    assert "cudnn: fastest" in choice.reasons[0, False] and "reference not (wrong results" in choice.reasons[0, False]
