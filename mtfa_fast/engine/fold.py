"""The network's tensors as the engines want them: batch norm folded, GRU biases joined. Torch-free."""

from __future__ import annotations

import numpy as np

from ..weights import Weights


def fold(weights: Weights) -> dict[str, np.ndarray]:
    """Inference tensors by name, float32, contiguous.

    Every convolution followed by a norm becomes one ``<conv>.weight`` and ``<conv>.bias``, computed in float64. A GRU
    direction's biases become ``gru.bias_input_*`` = b_ih + (b_hr, b_hz, 0) and ``gru.bias_new_*`` = b_hn. The core
    does it (csrc/core/fold.h), for the C API folds the same file.
    """
    from .. import _core

    return _core.fold(weights.tensors)
