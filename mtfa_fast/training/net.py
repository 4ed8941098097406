"""The network and its input as training uses them: mixed precision, batches of waves to normalised log-mel."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..audio.features import analysis_window, mel_matrix
from ..backends.reference.log_mel import log_mel
from ..config import HOURGLASS_DEPTH, Config
from ..data.batches import MARGIN, Batch, Chunks
from ..nn.convert import from_weights
from ..nn.fast import accelerate
from ..nn.modules import pad_time
from ..nn.sednet import SEDNet
from ..weights import Weights, expected_shapes

ONSET_FRAMES = 5  # 100 ms: before, what leads to an onset; after, what it is told by
_CLASSES = "head.output"  # the layer that has a row a class
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


def losses_of(logits: Tensor, targets: Tensor, onset_weight: float = 1.0) -> Tensor:
    """Binary cross-entropy of each chunk, (B, T, K) twice -> (B,).

    Frames within ONSET_FRAMES of an onset count ``onset_weight`` times in the mean over the batch's frames.
    """
    losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    if onset_weight != 1.0:
        rise = F.pad(targets, (0, 0, 1, 0))
        begins = (rise[:, 1:] - rise[:, :-1]).clamp_min(0.0).transpose(1, 2)
        near = F.max_pool1d(begins, 2 * ONSET_FRAMES + 1, 1, ONSET_FRAMES).transpose(1, 2)
        weights = 1.0 + (onset_weight - 1.0) * near
        losses = losses * (weights / weights.mean())
    return losses.mean((1, 2))


class Features:
    """Batches to normalised log-mel on the training device."""

    def __init__(self, config: Config, device: torch.device) -> None:
        self.features, self.device = config.features, device
        self.window = torch.from_numpy(analysis_window(config.features)).to(device)
        self.mel = torch.from_numpy(mel_matrix(config.features)).to(device)

    def log_mel(self, batch: Batch) -> Tensor:
        """(B, frames, D): the chunk's frames, its ``log_gain`` applied to the mel power."""
        f = self.features
        wave = torch.as_tensor(batch.waves, device=self.device)
        # On a CPU a few chunks at a time: what lies between frames and bands then stays in the cache.
        parts = wave.split(4) if wave.device.type == "cpu" else (wave,)
        bands = torch.cat([log_mel(w, self.window, self.mel, f.hop, f.fft_length, f.log_floor) for w in parts])
        bands = bands[:, MARGIN:-MARGIN]
        if batch.log_gain is None:
            return bands
        gain = torch.as_tensor(batch.log_gain, device=self.device)[:, None]
        power = (bands.exp() - f.log_floor).clamp_min(0.0)
        return torch.log(power * gain.exp() + f.log_floor)

    def inputs(self, batch: Batch, net: SEDNet) -> tuple[Tensor, Tensor]:
        """(normalised log-mel with SpecAugment's holes at the mean, targets)."""
        x = net.normalize(self.log_mel(batch))
        if batch.hidden is not None:
            x = x.masked_fill(torch.as_tensor(batch.hidden, device=self.device), 0.0)
        return x, torch.as_tensor(batch.targets, device=self.device)

    def fit(self, net: SEDNet, chunks: Chunks, count: int) -> None:
        """Set the network's mean and deviation from ``count`` batches."""
        total = torch.zeros(self.features.mel_bands, dtype=torch.float64, device=self.device)
        squares, frames = total.clone(), 0
        for step in range(count):
            bands = self.log_mel(chunks.batch(chunks.draw(step, STATISTICS_STREAM))).double().flatten(0, 1)
            total += bands.sum(0)
            squares += bands.square().sum(0)
            frames += len(bands)
        mean = total / frames
        deviation = (squares / frames - mean.square()).clamp_min(1e-6).sqrt()
        net.mean.copy_(mean)
        net.std.copy_(deviation)


def start_from(net: SEDNet, path: str) -> None:
    """Copy the tensors of a weight file of the same features and network sizes.

    Of its last layer, the rows of the classes that ``net`` has, too; other classes start as they are.
    """
    weights = Weights.load(path)
    given, classes = weights.config, net.config.class_names
    sizes = expected_shapes(given), expected_shapes(dataclasses.replace(net.config, classes=given.classes))
    if sizes[0] != sizes[1] or given.features != net.config.features:
        raise ValueError(f"initial: {path} holds another network than config's; allowed: the same sizes and features")
    known = [name for name in classes if name in given.class_names]
    state, own = from_weights(weights).state_dict(), net.state_dict()
    for name in (f"{_CLASSES}.weight", f"{_CLASSES}.bias"):
        rows = own[name].clone()
        rows[[classes.index(c) for c in known]] = state[name][[given.class_names.index(c) for c in known]].to(rows)
        state[name] = rows
    net.load_state_dict({name: state[name] for name in own})


def parameter_groups(net: SEDNet, trunk_rate: float) -> list[dict[str, Any]]:
    """For an optimizer: the head, and all else, whose ``scale`` of the learning rate is ``trunk_rate``."""
    head = {id(p) for p in net.head.parameters()}
    return [
        {"params": [p for p in net.parameters() if (id(p) in head) is of_head], "scale": scale}
        for of_head, scale in ((True, 1.0), (False, trunk_rate))
    ]


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
