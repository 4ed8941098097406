"""Every op on the maps of one 30 s clip: the backend that runs by itself beside stock PyTorch, and memory's limit.

    python -m pytest benchmarks/test_kernels.py -o addopts= --benchmark-only

A case is timed only after its result has met the bound of the op tests, on the same input in the same process.
``extra_info`` has the bytes that a call must move at least, and how long a copy of as many takes.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from mtfa_fast import _core
from mtfa_fast.checking.cases import FULL_CASES, OpCase, deviations
from mtfa_fast.measuring.machine import copy_bandwidth

BACKENDS = {"mtfa-fast": "auto", "stock": "reference"}
DTYPES = (torch.float32, torch.bfloat16)


@cache
def bandwidth() -> float:
    """Bytes read and written a second by PyTorch's number of threads."""
    return copy_bandwidth(torch.get_num_threads())


@pytest.fixture(autouse=True, scope="module")
def threads() -> None:
    torch.set_num_threads(_core.default_threads())


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("case", FULL_CASES, ids=str)
def test_full_clip(benchmark: Any, case: OpCase, dtype: torch.dtype, backend: str) -> None:
    case = dataclasses.replace(case, differentiable=False)  # the forward pass
    try:
        wrong = [str(d) for d in deviations(case, BACKENDS[backend], dtype, torch.channels_last) if not d.ok]
    except (ValueError, RuntimeError, NotImplementedError) as error:
        pytest.skip(f"{backend} cannot run this: {str(error).splitlines()[0]}")
    assert not wrong, "no time for a wrong result: " + "; ".join(wrong)
    arguments = case.arguments(dtype, torch.channels_last)
    with torch.inference_mode():
        moved = bytes_of(arguments) + bytes_of(list(case.call(arguments, BACKENDS[backend])))
        benchmark.group = f"{case} {dtype}"
        benchmark.extra_info |= {"bytes": moved, "copy_seconds": moved / bandwidth()}
        benchmark(case.call, arguments, BACKENDS[backend])


def bytes_of(values: list[Any]) -> int:
    return sum(
        v.numel() * v.element_size() if isinstance(v, Tensor) else bytes_of(v) if isinstance(v, list) else 0
        for v in values
    )
