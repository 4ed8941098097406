"""Log-mel spectrogram in plain torch."""

import torch
from torch import Tensor


def log_mel(wave: Tensor, window: Tensor, mel: Tensor, hop: int, fft_length: int, log_floor: float) -> Tensor:
    """ln(mel @ |STFT|^2 + log_floor), (..., n) -> (..., 1 + n // hop, D), in the wave's float dtype.

    Frame i is centred on sample i * hop, zeros beyond the ends; ``window`` (at most ``fft_length``
    samples) stands in the middle of the FFT's input; ``mel`` is (D, fft_length // 2 + 1).
    """
    spectrum = torch.stft(
        wave.reshape(-1, wave.shape[-1]),
        fft_length,
        hop_length=hop,
        win_length=window.shape[0],
        window=window.to(wave.dtype),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    power = spectrum.real.square() + spectrum.imag.square()
    bands = torch.log(mel.to(wave.dtype) @ power + log_floor)
    return bands.transpose(-1, -2).reshape(*wave.shape[:-1], -1, mel.shape[0])
