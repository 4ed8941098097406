"""log_mel(wave, window, mel, ...): wave to log-mel spectrogram as one node for compilers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ._contract import FLOATS, refusal
from ._dispatch import Table
from ._library import autocast, define, differentiable, refuse_forward_mode

SCHEMA = (
    "log_mel(Tensor wave, Tensor window, Tensor mel, int hop, int fft_length, float log_floor, "
    'str backend="auto") -> Tensor'
)


def _check(wave: Tensor, window: Tensor, mel: Tensor, hop: int, fft_length: int, log_floor: float) -> None:
    if wave.ndim < 1 or wave.shape[-1] < 1:
        raise refusal("wave", wave.shape, "(..., n >= 1)")
    if wave.dtype not in FLOATS:
        raise refusal("wave", wave.dtype, "float32, float16, bfloat16, float64")
    if fft_length < 2 or fft_length % 2:
        raise refusal("fft_length", fft_length, "an even number >= 2")
    if hop < 1:
        raise refusal("hop", hop, ">= 1")
    if log_floor <= 0:
        raise refusal("log_floor", log_floor, "> 0")
    if window.ndim != 1 or not 1 <= window.shape[0] <= fft_length:
        raise refusal("window", window.shape, f"(1 to fft_length = {fft_length},)")
    if mel.ndim != 2 or mel.shape[1] != fft_length // 2 + 1:
        raise refusal("mel", mel.shape, f"(D, fft_length / 2 + 1 = {fft_length // 2 + 1})")
    for name, x in (("window", window), ("mel", mel)):
        if x.device != wave.device:
            raise refusal(name, f"a tensor on {x.device}", f"{wave.device}, the device of wave")


def _fake(
    wave: Tensor,
    window: Tensor,
    mel: Tensor,
    hop: int,
    fft_length: int,
    log_floor: float,
    backend: str = "auto",
) -> Tensor:
    _check(wave, window, mel, hop, fft_length, log_floor)
    return wave.new_empty((*wave.shape[:-1], 1 + wave.shape[-1] // hop, mel.shape[0]))


_forward = Table("log_mel")


def _run(
    wave: Tensor,
    window: Tensor,
    mel: Tensor,
    hop: int,
    fft_length: int,
    log_floor: float,
    backend: str = "auto",
) -> Tensor:
    args = (wave, window, mel, hop, fft_length, log_floor)
    _check(*args)
    out: Tensor = _forward.choose(backend, *args)(*args)
    return out.contiguous()


_op = define(SCHEMA, _run, _fake)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.numbers = inputs[3:6]


def _gradient(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    """Through the reference, whichever backend ran forward."""
    inputs = [x.detach().requires_grad_() for x in ctx.saved_tensors]
    if grad.numel() == 0:
        return *map(torch.zeros_like, inputs), None, None, None, None
    args = (*inputs, *ctx.numbers)
    with torch.enable_grad():
        out = _forward.choose("reference", *args)(*args)
    return *torch.autograd.grad(out, inputs, grad), None, None, None, None


differentiable("log_mel", _gradient, _save)
autocast(_op, None)


def log_mel(
    wave: Tensor,
    window: Tensor,
    mel: Tensor,
    *,
    hop: int = 882,
    fft_length: int = 2048,
    log_floor: float = 1e-10,
    backend: str = "auto",
) -> Tensor:
    """ln(mel @ |STFT|^2 + log_floor), the features of section 3.1 of the paper, before normalisation.

    wave: (..., n) samples, a float dtype; window: (1 to fft_length,), in the middle of each FFT; mel: (D,
    fft_length / 2 + 1). Frame i is centred on sample i * hop, zeros beyond the ends. Returns (..., 1 + n //
    hop, D), contiguous, in wave's dtype; float16 and bfloat16 are computed in float32, under autocast too.
    ``mtfa_fast.audio.features`` makes the window and the mel matrix.

    Differentiable once, in wave, window and mel. ValueError for other arguments, and for a ``backend`` that
    cannot run this.
    """
    refuse_forward_mode("log_mel", wave, window, mel)
    out: Tensor = _op(wave, window, mel, hop, fft_length, log_floor, backend)
    return out
