"""The network and its input as training uses them: mixed precision, batches of waves to normalised log-mel."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..audio.features import analysis_window, mel_matrix
from ..backends.reference.log_mel import log_mel
from ..config import HOURGLASS_DEPTH, Config
from ..data.sampler import MARGIN, Batch, Chunks
from ..nn.convert import from_weights
from ..nn.fast import accelerate
from ..nn.modules import pad_time
from ..nn.sednet import SEDNet
from ..weights import Weights, expected_shapes

STATISTICS_STREAM = 1_000_003  # stands in for a rank: the normalisation's chunks are no training step's


class TrainingNet(nn.Module):
    """SEDNet as it is trained: convolutions in bf16 where asked, channels-last; GRU and head in float32.

    The recurrence stays in float32 because its bf16 backward is slow on CPUs and gains nothing elsewhere.
    """

    def __init__(self, net: SEDNet, precision: str) -> None:
        super().__init__()
        self.net, self.bf16 = net, precision == "bf16"

    def forward(self, x: Tensor) -> Tensor:
        """Normalised log-mel (B, T, D) -> logits (B, T, K), float32."""
        net = self.net
        maps = pad_time(x.unsqueeze(1), 2**HOURGLASS_DEPTH).contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.bf16):
            vectors = net.flatten(net.attention(net.stem(maps)))
        states = net.gru(net.input_dropout(vectors.float()))[0]
        return net.head(net.gru_dropout(states))[:, : x.shape[1]]


class Features:
    """Batches to normalised log-mel on the training device."""

    def __init__(self, config: Config, device: torch.device) -> None:
        self.features, self.device = config.features, device
        self.window = torch.from_numpy(analysis_window(config.features)).to(device)
        self.mel = torch.from_numpy(mel_matrix(config.features)).to(device)

    def log_mel(self, batch: Batch) -> Tensor:
        """(B, frames, D): the chunk's frames, its ``log_gain`` applied to the mel power."""
        f = self.features
        wave = torch.from_numpy(batch.waves).to(self.device)
        bands = log_mel(wave, self.window, self.mel, f.hop, f.fft_length, f.log_floor)[:, MARGIN:-MARGIN]
        if batch.log_gain.any():
            gain = torch.from_numpy(batch.log_gain).to(self.device)[:, None]
            power = (bands.exp() - f.log_floor).clamp_min(0.0)
            bands = torch.log(power * gain.exp() + f.log_floor)
        return bands

    def inputs(self, batch: Batch, net: SEDNet) -> tuple[Tensor, Tensor]:
        """(normalised log-mel with SpecAugment's holes at the mean, targets)."""
        x = net.normalize(self.log_mel(batch))
        hidden = torch.from_numpy(batch.hidden).to(self.device)
        return x.masked_fill(hidden, 0.0), torch.from_numpy(batch.targets).to(self.device)

    def fit(self, net: SEDNet, chunks: Chunks, count: int) -> None:
        """Set the network's mean and deviation from ``count`` batches."""
        total = torch.zeros(self.features.mel_bands, dtype=torch.float64, device=self.device)
        squares, frames = total.clone(), 0
        for step in range(count):
            bands = self.log_mel(chunks.batch(step, STATISTICS_STREAM)).double().flatten(0, 1)
            total += bands.sum(0)
            squares += bands.square().sum(0)
            frames += len(bands)
        mean = total / frames
        deviation = (squares / frames - mean.square()).clamp_min(1e-6).sqrt()
        net.mean.copy_(mean)
        net.std.copy_(deviation)


def start_from(net: SEDNet, path: str) -> None:
    """Copy the tensors of a weight file of the same features, network sizes and number of classes."""
    weights = Weights.load(path)
    given, wanted = expected_shapes(weights.config), expected_shapes(net.config)
    if given != wanted or weights.config.features != net.config.features:
        raise ValueError(f"initial: {path} holds another network than config's; allowed: the same sizes and features")
    state = from_weights(weights).state_dict()
    net.load_state_dict({name: state[name] for name in net.state_dict()})


def placed(config: Config, device: torch.device) -> SEDNet:
    """A new network on ``device``, on a CPU of the fast layers; convolutions' weights channels-last as their maps."""
    net = SEDNet(config).to(device)
    if device.type == "cpu":
        accelerate(net)
    for parameter in net.parameters():
        if parameter.ndim == 4:
            # contiguous() would leave a 1x1 kernel's strides, which are right for both layouts, and DDP warn of its
            # gradient's.
            parameter.data = torch.empty_like(parameter, memory_format=torch.channels_last).copy_(parameter.detach())
    return net
