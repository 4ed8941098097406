"""The kernels of the GPU engine's network that are no ops: stem, pooling, states of the recurrence."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mtfa_fast.ops._dispatch import Table

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 8, 5), (1, 1, 1), (1, 3, 70)])
def test_stem_kernel(shape: tuple[int, int, int], dtype: torch.dtype, device: str, poisoned_memory: None) -> None:
    x = torch.randn(shape, device=device) * 3
    mean, std = torch.randn(shape[2], device=device), torch.rand(shape[2], device=device) + 0.5
    weight, bias = torch.randn(12, 1, 3, 3, device=device), torch.randn(12, device=device)
    args = (x, mean, std, weight, bias)
    got = Table("stem").choose("triton", *args, dtype)(*args, dtype)
    exact = Table("stem").choose("reference", *args, dtype)(*(a.double() for a in args), torch.float64)
    assert got.dtype == dtype and got.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got.double(), exact, atol=1e-5, rtol=2 * torch.finfo(dtype).eps)


@pytest.mark.parametrize(("down", "across"), [(2, 2), (1, 8), (1, 1)])
def test_pooling_kernel(down: int, across: int, device: str, poisoned_memory: None) -> None:
    x = torch.randn(2, 3, 6, 16, device=device).to(memory_format=torch.channels_last)
    x[1, 2, 3, 9] = torch.nan
    x[0, 0, 0, 0] = -torch.inf
    for dtype in (torch.float32, torch.bfloat16):
        args = (x.to(dtype), down, across)
        got, wanted = (Table("max_pool").choose(b, *args)(*args) for b in ("triton", "reference"))
        torch.testing.assert_close(got, wanted, atol=0, rtol=0, equal_nan=True)
        assert got.is_contiguous(memory_format=torch.channels_last)
    with pytest.raises(ValueError, match="channels-last"):
        Table("max_pool").choose("triton", x.contiguous(), down, across)


@pytest.mark.parametrize("backend", ["triton", "reference"])
def test_states_are_the_recurrence(backend: str, device: str) -> None:
    gi, w_hh, b_hn = (torch.randn(*shape, device=device) for shape in ((2, 9, 2, 24), (2, 24, 8), (2, 8)))
    args = (gi, w_hh, b_hn)
    exact = Table("bigru_recurrence", "bigru").choose("reference", *args)(*(a.double() for a in args))[0]
    got = Table("bigru_states").choose(backend, *args)(*args)
    torch.testing.assert_close(got.double(), exact, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("shape", "pooling"), [((2, 16, 6, 24), 8), ((1, 32, 2, 2), 1), ((1, 16, 8, 34), 2)])
@pytest.mark.parametrize("projected", [True, False])
def test_gated_pool_kernel(
    shape: tuple[int, ...], pooling: int, projected: bool, dtype: torch.dtype, device: str, poisoned_memory: None
) -> None:
    batch, channels, rows, columns = shape
    last = torch.channels_last
    maps = [torch.randn(shape, device=device).to(dtype, memory_format=last) for _ in range(2)]
    low = torch.randn(batch, channels, rows // 2, columns // 2, device=device).to(dtype, memory_format=last)
    weight = (torch.randn(channels, channels, device=device) * channels**-0.5).to(dtype) if projected else None
    bias = torch.randn(channels, device=device).to(dtype) if projected else None
    args = (low, *maps, weight, bias, pooling)
    if projected and dtype == torch.float32:
        with pytest.raises(ValueError, match="exact float32 products"):
            Table("gated_pool").choose("triton", *args)
        return
    got = Table("gated_pool").choose("triton", *args)(*args)
    wide = [x.double() if isinstance(x, Tensor) else x for x in args]
    exact = Table("gated_pool").choose("reference", *wide)(*wide)
    assert got.dtype == dtype and got.shape == exact.shape and got.is_contiguous(memory_format=last)
    torch.testing.assert_close(got.double(), exact, atol=1e-5, rtol=2 * torch.finfo(dtype).eps)
    with pytest.raises(ValueError, match="not 6 x 7 by 1"):
        odd = torch.zeros(1, 16, 6, 7, device=device).to(memory_format=last)
        Table("gated_pool").choose("triton", odd, odd, odd, weight, bias, 1)
