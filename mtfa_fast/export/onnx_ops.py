"""This package's ops in plain ONNX operators: what ``torch.onnx.export`` needs for a network with these layers in it.

    torch.onnx.export(model, (x,), "model.onnx", dynamo=True, custom_translation_table=onnx_translations())

Nothing in the file asks for a custom operator: stock ONNX Runtime and OpenVINO run it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np
import torch

from .. import ops as _registered  # noqa: F401 - defines torch.ops.mtfa_fast
from ..extras import needs

LARGER = 2**24


def onnx_translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """For the argument ``custom_translation_table`` of ``torch.onnx.export(dynamo=True)``: op -> ONNX function.

    Covers what the layers of this package call in evaluation (``model.eval()``), with and without gradients, and
    ``log_mel``. ImportError where onnxscript is not installed.
    """
    with needs("onnxscript", "ONNX export needs"):
        op: Any = import_module("onnxscript").opset18  # typed for numbers, while these are a graph's values
        onnx: Any = import_module("onnx")

    def constant(values: Any) -> Any:
        return op.Constant(value=onnx.numpy_helper.from_array(np.asarray(values)))

    def upsample(low: Any, like: Any) -> Any:
        """Nearest, twice as large, cut to the size of ``like`` where that is odd."""
        large = op.Resize(
            low,
            None,
            constant(np.array([1, 1, 2, 2], np.float32)),
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )
        axes = constant([2, 3])
        return op.Slice(large, constant([0, 0]), op.Shape(like, start=2), axes)

    def upsample_add(low: Any, skip: Any, backend: str = "auto") -> Any:
        return op.Add(upsample(low, skip), skip)

    def attention_gate(logits: Any, features: Any, backend: str = "auto") -> Any:
        return op.Add(op.Mul(op.Sigmoid(logits), features), features)

    def upsample_add_gate(low: Any, skip: Any, features: Any, backend: str = "auto") -> Any:
        return attention_gate(upsample_add(low, skip), features)

    def residual_block(x: Any, w1: Any, b1: Any, w2: Any, b2: Any, backend: str = "auto") -> Any:
        middle = op.Relu(op.Conv(x, w1, b1, pads=[1, 1, 1, 1]))
        return op.Relu(op.Add(op.Conv(middle, w2, b2, pads=[1, 1, 1, 1]), x))

    def gates(tensor: Any) -> Any:
        """torch's order r, z, n in ONNX's, z, r, n; a Gather, which the exporter computes once and for all."""
        hidden = tensor.shape[0] // 3
        order = [*range(hidden, 2 * hidden), *range(hidden), *range(2 * hidden, 3 * hidden)]
        return op.Gather(tensor, constant(order), axis=0)

    def directions(both: Sequence[Any]) -> Any:
        return op.Concat(*(op.Unsqueeze(one, constant([0])) for one in both), axis=0)

    def bigru(x: Any, weights: Sequence[Any], backend: str = "auto") -> tuple[Any, Any]:
        x, states = op.Transpose(x, perm=[1, 0, 2]), []
        for first in range(0, len(weights), 8):
            layer = weights[first : first + 4], weights[first + 4 : first + 8]
            hidden = layer[0][1].shape[1]
            y, h_n = op.GRU(
                x,
                directions([gates(w_ih) for w_ih, _, _, _ in layer]),
                directions([gates(w_hh) for _, w_hh, _, _ in layer]),
                directions([op.Concat(gates(b_ih), gates(b_hh), axis=0) for _, _, b_ih, b_hh in layer]),
                direction="bidirectional",
                hidden_size=int(hidden),
                linear_before_reset=1,  # torch multiplies by r behind the recurrent product, not before it
            )
            states.append(h_n)
            # (T, 2, B, H) -> (T, B, 2H)
            x = op.Reshape(op.Transpose(y, perm=[0, 2, 1, 3]), constant([0, 0, -1]))
        return op.Transpose(x, perm=[1, 0, 2]), op.Concat(*states, axis=0)

    def bigru_train(x: Any, weights: Sequence[Any], backend: str = "auto") -> tuple[Any, Any, Any, Any]:
        """With gradients on, the op that also keeps the gates, which an exported network has no use for."""
        output, h_n = bigru(x, weights)
        return output, h_n, h_n, h_n

    def log_mel(
        wave: Any, window: Any, mel: Any, hop: int, fft_length: int, log_floor: float, backend: str = "auto"
    ) -> Any:
        """A convolution with windowed cosines and sines: OpenVINO's STFT takes no free length.

        The runtime makes the kernels when it loads the file, from one period of the cosine.
        """
        length, bins = window.shape[0], fft_length // 2 + 1
        before = (fft_length - length) // 2  # the window stands in the middle of the FFT's input
        bin_, sample = np.arange(bins)[:, None], np.arange(before, before + length)[None]
        period = np.cos(2 * np.pi * np.arange(fft_length) / fft_length).astype(np.float32)
        phases = op.Mul(constant(bin_), constant(sample))
        quarter = fft_length // 4
        waves = [
            op.Gather(
                constant(period), op.Mod(op.Add(phases, constant(np.int64(turn))), constant(np.int64(fft_length)))
            )
            for turn in (0, quarter)  # the sine is the cosine a quarter later; its sign is lost in the square
        ]
        kernels = op.Unsqueeze(op.Mul(op.Concat(*waves, axis=0), window), constant([1]))
        ends = fft_length // 2 - before, fft_length // 2 - (fft_length - length - before)
        signal = op.Unsqueeze(op.Pad(wave, constant([0, ends[0], 0, ends[1]])), constant([1]))
        cosines, sines = op.Split(op.Conv(signal, kernels, strides=[hop]), num_outputs=2, axis=1)
        power = op.Add(op.Mul(cosines, cosines), op.Mul(sines, sines))  # (B, F, T)
        # A floor of 1e-10 is nothing to the exporter's optimiser, which drops additions of nothing: so all is larger by
        # a power of two, exactly, and the logarithm smaller by as much.
        bands = op.Add(
            op.MatMul(op.Mul(mel, constant(np.float32(LARGER))), power), constant(np.float32(log_floor * LARGER))
        )
        return op.Transpose(op.Sub(op.Log(bands), constant(np.float32(math.log(LARGER)))), perm=[0, 2, 1])

    translated = (upsample_add, attention_gate, upsample_add_gate, residual_block, bigru, bigru_train, log_mel)
    return {getattr(torch.ops.mtfa_fast, function.__name__).default: function for function in translated}
