"""What every test gets: Triton's interpreter where there is no GPU, one thread, a random state of its own."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator

import numpy as np
import pytest

from tests.source_folder import devtest_sources  # noqa: F401 - a fixture, made once for all files

try:
    import torch  # which does not import triton
except ImportError:  # the torch-free part is tested without it
    torch = None  # type: ignore[assignment]

HAS_GPU = torch is not None and torch.cuda.is_available()
# Triton decides when it is imported; set later, its own helpers would be half compiled, half interpreted.
if not HAS_GPU:
    assert "triton" not in sys.modules, "triton was imported before tests/conftest.py could choose its interpreter"
    os.environ.setdefault("TRITON_INTERPRET", "1")
if torch is not None:
    # The tensors are small: on a busy machine two threads would wait for each other most of the time.
    torch.set_num_threads(1)
    try:
        import triton
    except ImportError:
        pass
    else:
        if triton.knobs.runtime.interpret:
            from tests.backends import interpreter_patch

            interpreter_patch.apply()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("gpu") and not HAS_GPU:  # keywords hold names of folders too
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))


@pytest.fixture
def device() -> str:
    """Where ops are tested: the GPU, or the CPU with interpreted kernels."""
    return "cuda" if HAS_GPU else "cpu"


@pytest.fixture(scope="session")
def compiler_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Inductor's files go to a folder of this run: what a killed run left half written in the common one fails."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
        yield


@pytest.fixture(autouse=True)
def _own_random_state() -> Iterator[None]:
    """Seeds every test alike and leaves no trace in the next one."""
    states = random.getstate(), np.random.get_state()  # noqa: NPY002 - the state that libraries draw from
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    if torch is None:
        yield
    else:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            yield
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """New tensors are full of NaN, so that an element that a kernel forgets to write is seen."""
    filled = torch.utils.deterministic.fill_uninitialized_memory
    deterministic = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.utils.deterministic.fill_uninitialized_memory = filled
    torch.use_deterministic_algorithms(deterministic[0], warn_only=deterministic[1])
