from __future__ import annotations

import pytest

from tests.c_api.library import MISSING, Library, best_isa, build


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Library:
    if MISSING:
        pytest.skip(f"no {MISSING} to build the C library with")
    return build(tmp_path_factory.mktemp("c_api"), f"-DMTFA_FAST_ISAS={best_isa()}")
