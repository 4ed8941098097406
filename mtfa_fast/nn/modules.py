"""The network's parts as torch modules. They hold weights and choose nothing.

All maps are (B, C, T, D): batch, channels, time frames, mel bands.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..config import HOURGLASS_DEPTH, VARIANTS, Variant


class ResidualBlock(nn.Module):
    """relu(norm2(conv2(relu(norm1(conv1(x))))) + x), 3x3 convolutions, C -> C, same size."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + x)


class Hourglass(nn.Module):
    """Newell et al.'s hourglass: ``skip(x) + upsample(outer(inner(outer(pool(x)))))``.

    ``inner`` is an hourglass of one depth less, at depth 1 a residual block. T and D must be
    multiples of ``2 ** depth``.
    """

    def __init__(self, channels: int, depth: int = HOURGLASS_DEPTH) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"depth: got {depth}, allowed: >= 1")
        self.skip = ResidualBlock(channels)
        self.low_in = ResidualBlock(channels)
        self.inner: nn.Module = Hourglass(channels, depth - 1) if depth > 1 else ResidualBlock(channels)
        self.low_out = ResidualBlock(channels)

    def scales(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The two terms of the output: skip at (T, D) and the path below it at (T/2, D/2)."""
        low = self.low_out(self.inner(self.low_in(F.max_pool2d(x, 2))))
        return self.skip(x), low

    def forward(self, x: Tensor) -> Tensor:
        skip, low = self.scales(x)
        return skip + F.interpolate(low, scale_factor=2, mode="nearest")


class MTFA(nn.Module):
    """The paper's attention layer: A = (1 + M) * F (section 2, equation 1), (B, C, T, D) -> the same.

    F is two residual blocks. M = sigmoid(projection(mask branch)); the mask branch is an hourglass
    (``variant="mtfa"``), two residual blocks (``"resatt"``) or absent (``"res"``: A = F). Any T >= 1:
    time is padded with its last frame to a multiple of ``2 ** depth`` and the result cropped. D must be
    a multiple of ``2 ** depth``.
    """

    def __init__(
        self,
        channels: int,
        *,
        depth: int = HOURGLASS_DEPTH,
        variant: Variant = "mtfa",
        mask_projection: bool = True,
    ) -> None:
        super().__init__()
        if variant not in VARIANTS:
            raise ValueError(f"variant: got {variant!r}, allowed: {', '.join(VARIANTS)}")
        self.channels, self.depth, self.variant = channels, depth, variant
        self.features = nn.Sequential(ResidualBlock(channels), ResidualBlock(channels))
        self.mask: nn.Module | None = None
        if variant == "mtfa":
            self.mask = Hourglass(channels, depth)
        elif variant == "resatt":
            self.mask = nn.Sequential(ResidualBlock(channels), ResidualBlock(channels))
        self.projection = nn.Conv2d(channels, channels, 1) if mask_projection and self.mask is not None else None

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, T, D), any float dtype -> A, same shape. ValueError on a wrong C or D."""
        padded = self._pad(x)
        features = self.features(padded)
        if self.mask is not None:
            features = (1 + torch.sigmoid(self._logits(padded))) * features
        return crop_time(features, x.shape[2])

    def masks(self, x: Tensor) -> list[Tensor]:
        """M at each scale, finest first: (B, C, T, D), (B, C, T/2, D/2) ... (figure 4 of the paper).

        The coarser masks are sigmoid(projection(.)) of what each inner hourglass hands upward.
        Without an hourglass the list has the one mask, or none for ``variant="res"``.
        """
        padded = self._pad(x)
        if self.mask is None:
            return []
        if not isinstance(self.mask, Hourglass):
            return [torch.sigmoid(self._logits(padded))[:, :, : x.shape[2]]]
        outputs: list[Tensor] = []
        handles = []
        level: nn.Module = self.mask
        while isinstance(level, Hourglass):
            handles.append(level.register_forward_hook(lambda _m, _i, out: outputs.append(out)))
            level = level.inner
        handles.append(level.register_forward_hook(lambda _m, _i, out: outputs.append(out)))
        try:
            self.mask(padded)
        finally:
            for handle in handles:
                handle.remove()
        outputs.reverse()  # hooks fire innermost first
        return [
            torch.sigmoid(self._project(out))[:, :, : -(-x.shape[2] // 2**scale)] for scale, out in enumerate(outputs)
        ]

    def _logits(self, x: Tensor) -> Tensor:
        assert self.mask is not None
        return self._project(self.mask(x))

    def _project(self, x: Tensor) -> Tensor:
        return x if self.projection is None else self.projection(x)

    def _pad(self, x: Tensor) -> Tensor:
        step = 2**self.depth
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ValueError(f"x: got shape {tuple(x.shape)}, allowed: (B, {self.channels}, T, D)")
        if x.shape[2] < 1 or x.shape[3] < step or x.shape[3] % step:
            raise ValueError(f"x: got T = {x.shape[2]}, D = {x.shape[3]}, allowed: T >= 1, D a multiple of {step}")
        return pad_time(x, step)


def pad_time(x: Tensor, multiple: int) -> Tensor:
    """(B, C, T, D) with T padded to a multiple by repeating the last frame."""
    frames = x.shape[2]
    if torch.compiler.is_compiling():  # a branch would fix the remainder of a dynamic length
        padded = (frames + multiple - 1) // multiple * multiple
        return x.index_select(2, torch.arange(padded, device=x.device).clamp(max=frames - 1))
    missing = -frames % multiple
    if missing == 0:
        return x
    return torch.cat([x, x[:, :, -1:].expand(-1, -1, missing, -1)], dim=2)


def crop_time(x: Tensor, frames: int, dim: int = 2) -> Tensor:
    """The first ``frames`` of ``x`` along time: what :func:`pad_time` added is taken away."""
    if torch.compiler.is_compiling():  # a slice would ask whether a dynamic length is at most its padded one
        return x.index_select(dim, torch.arange(frames, device=x.device))
    return x.narrow(dim, 0, frames)
