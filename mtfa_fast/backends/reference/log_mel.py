"""Log-mel spectrogram in plain torch."""

import torch
from torch import Tensor


def log_mel(wave: Tensor, window: Tensor, mel: Tensor, hop: int, fft_length: int, log_floor: float) -> Tensor:
    """ln(mel @ |STFT|^2 + log_floor), (..., n) -> (..., 1 + n // hop, D), in the wave's float dtype.

    Frame i is centred on sample i * hop, zeros beyond the ends; ``window`` (at most ``fft_length``
    samples) stands in the middle of the FFT's input; ``mel`` is (D, fft_length // 2 + 1).
    """
    if wave.numel() == 0:  # torch.stft refuses an empty batch
        return wave.new_zeros((*wave.shape[:-1], 1 + wave.shape[-1] // hop, mel.shape[0]))
    exact = torch.promote_types(wave.dtype, torch.float32)  # halves have neither an FFT nor room for the floor
    spectrum = torch.stft(
        wave.to(exact).reshape(-1, wave.shape[-1]),
        fft_length,
        hop_length=hop,
        win_length=window.shape[0],
        window=window.to(exact),
        center=True,
        pad_mode="constant",
        return_complex=True,
    )
    power = spectrum.real.square() + spectrum.imag.square()
    bands = torch.log(mel.to(exact) @ power + log_floor)
    return bands.transpose(-1, -2).reshape(*wave.shape[:-1], -1, mel.shape[0]).to(wave.dtype)
