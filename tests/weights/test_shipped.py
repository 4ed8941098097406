"""The shipped weights on the recording that comes with the project, and the fast path on it against the reference."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch

from mtfa_fast import Detector
from mtfa_fast.audio.features import log_mel
from mtfa_fast.audio.files import read
from mtfa_fast.data.annotations import read_annotations
from mtfa_fast.engine.cpu import CpuEngine
from mtfa_fast.nn.convert import from_weights
from mtfa_fast.weights import Weights
from tests.engine.test_cpu import HAS_BF16, reference, relative_error

RECORDING = Path(__file__).resolve().parents[2] / "examples" / "rare_events.flac"


@functools.cache
def clip() -> tuple[Weights, np.ndarray, np.ndarray]:
    """Shipped weights, the recording's raw log-mel (1501, 128) and the float64 reference's probabilities."""
    weights = Weights.load("rare-events")
    features = log_mel(read(RECORDING, weights.config.features.sample_rate), weights.config.features)
    return weights, features, reference(from_weights(weights), torch.from_numpy(features)[None], torch.float64)[0]


def test_every_event_is_found_and_nothing_else() -> None:
    found = sorted((event.onset, event.label) for event in Detector.from_pretrained("rare-events")(RECORDING))
    wanted = sorted(
        (event.onset, event.label) for event in read_annotations(RECORDING.with_suffix(".txt"))["rare_events"]
    )
    assert [label for _, label in found] == [label for _, label in wanted]
    assert np.abs(np.subtract([onset for onset, _ in found], [onset for onset, _ in wanted])).max() <= 0.5


def test_fp32_on_a_whole_clip() -> None:
    weights, features, exact = clip()
    assert exact.shape == (1501, 3)
    stock = relative_error(reference(from_weights(weights), torch.from_numpy(features)[None], torch.float32)[0], exact)
    assert relative_error(CpuEngine(weights, precision="fp32").probabilities(features), exact) <= 2 * stock


@pytest.mark.skipif(not HAS_BF16, reason="no bf16 products on this CPU")
def test_bf16_gives_the_same_events() -> None:
    weights, features, exact = clip()
    fast = CpuEngine(weights, precision="bf16").probabilities(features)
    assert np.quantile(np.abs(fast - exact), 0.999) <= 0.01
    bf16, fp32 = (Detector(weights, precision=p)(RECORDING) for p in ("bf16", "fp32"))
    assert [(e.label, e.onset, e.offset) for e in bf16] == [(e.label, e.onset, e.offset) for e in fp32]
