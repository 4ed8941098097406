"""The fuzzer's seeds and a few hundred of their mutations, the same each time: read, or refused by name."""

from __future__ import annotations

import numpy as np
import pytest

from tests.fuzz.run import NAMES
from tests.fuzz.targets import TARGETS, accepted, seeds


def mutated(rng: np.random.Generator, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        place = int(rng.integers(max(1, min(len(changed), 200 if rng.random() < 0.7 else len(changed)))))
        how = rng.integers(4)
        if how == 0 and changed:
            changed[place % len(changed)] = rng.integers(256)
        elif how == 1:
            changed[place : place + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"data"])
        elif how == 2:
            del changed[place : place + int(rng.integers(1, 50))]
        else:
            changed[place:place] = changed[: int(rng.integers(1, 50))]
    return bytes(changed)


@pytest.mark.parametrize("target", NAMES)
def test_damaged_bytes_are_read_or_refused_by_name(target: str) -> None:
    rng = np.random.default_rng(0)
    corpus = list(seeds(target))
    assert any(accepted(target, seed) for seed in corpus)
    answers = [accepted(target, mutated(rng, corpus[i % len(corpus)])) for i in range(300)]
    assert not all(answers)


def test_every_target_is_run() -> None:
    assert set(NAMES) == set(TARGETS)
