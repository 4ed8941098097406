"""The network's tensors as the engines want them: batch norm folded, GRU biases joined. Torch-free."""

from __future__ import annotations

import numpy as np

from ..weights import Weights

NORM_EPSILON = 1e-5  # torch.nn.BatchNorm2d's default, which the network uses


def fold(weights: Weights) -> dict[str, np.ndarray]:
    """Inference tensors by name, float32, contiguous.

    Every convolution followed by a norm becomes one ``<conv>.weight`` and ``<conv>.bias``:
    w * gamma / sqrt(var + eps) and beta - mean * gamma / sqrt(var + eps), computed in float64. A GRU
    direction's biases become ``gru.bias_input_*`` = b_ih + (b_hr, b_hz, 0) and ``gru.bias_new_*`` = b_hn:
    only the new gate's hidden bias stands inside the product with the reset gate.
    """
    tensors = weights.tensors
    out: dict[str, np.ndarray] = {}
    for name, tensor in tensors.items():
        head, _, leaf = name.rpartition(".")
        if leaf in ("running_mean", "running_var") or ".norm" in name:
            continue
        norm = _norm_of(head)
        if leaf == "weight" and norm is not None and f"{norm}.weight" in tensors:
            scale, shift = _norm_affine(tensors, norm)
            out[name] = tensor.astype(np.float64) * scale[:, None, None, None]
            out[f"{head}.bias"] = shift
        elif name.startswith("gru.bias_ih"):
            suffix = name.removeprefix("gru.bias_ih")
            hidden_bias = tensors[f"gru.bias_hh{suffix}"]
            hidden = hidden_bias.size // 3
            joined = tensor.astype(np.float64)
            joined[: 2 * hidden] += hidden_bias[: 2 * hidden]
            out[f"gru.bias_input{suffix}"] = joined
            out[f"gru.bias_new{suffix}"] = hidden_bias[2 * hidden :]
        elif not name.startswith("gru.bias_hh"):
            out[name] = tensor
    return {name: np.ascontiguousarray(tensor, dtype=np.float32) for name, tensor in out.items()}


def _norm_of(conv: str) -> str | None:
    """The batch norm behind a convolution: conv -> norm, conv1 -> norm1, conv2 -> norm2."""
    head, _, leaf = conv.rpartition(".")
    return f"{head}.{leaf.replace('conv', 'norm')}" if leaf.startswith("conv") else None


def _norm_affine(tensors: dict[str, np.ndarray], norm: str) -> tuple[np.ndarray, np.ndarray]:
    variance = tensors[f"{norm}.running_var"].astype(np.float64)
    scale = tensors[f"{norm}.weight"] / np.sqrt(variance + NORM_EPSILON)
    return scale, tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * scale
