"""The network's two halves on a device: the trunk, from spectrogram to the GRU's projected input, and what follows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ... import ops
from ...backends.reference.bigru_states import bigru_states_from
from ...backends.support import Support
from ...config import HOURGLASS_DEPTH
from ...ops._dispatch import Table, ladder
from ...weights import Weights
from ..fold import fold
from .blocks import Block, Choice

STEM, POOL, STATES = Table("stem"), Table("max_pool"), Table("bigru_states")
GATED_POOL = Table("gated_pool")
LAST = torch.channels_last
# As the update gate's input it makes the gate exactly 1, so the state stays what it was: zero, before a clip's end
# is reached from behind. float16 can hold it.
HOLD = 10_000.0


class Network:
    """The folded tensors of ``weights`` in ``dtype``, and the halves as functions of tensors on their device.

    The stem reads float32, the recurrence holds its state in float32, the head computes in float32. ``backend``: of
    every op, ``"auto"`` or a name; ``choice``: of the residual blocks.
    """

    def __init__(
        self, weights: Weights, device: torch.device, dtype: torch.dtype, *, backend: str = "auto", choice: Choice
    ) -> None:
        self.config, self.dtype, self.backend, self.choice = weights.config, dtype, backend, choice
        wide = torch.promote_types(dtype, torch.float32)
        host = {name: torch.from_numpy(array) for name, array in fold(weights).items()}

        def held(name: str, dtype: torch.dtype = dtype) -> Tensor:
            return host[name].to(device, dtype)

        self._stem = tuple(held(name, wide) for name in ("mean", "std", "stem.conv.weight", "stem.conv.bias"))
        self._blocks: dict[str, Block] = {}
        for name in host:
            if name.endswith(".conv1.weight"):
                block = name.removesuffix(".conv1.weight")
                w1, w2 = (held(f"{block}.conv{i}.weight").contiguous(memory_format=LAST) for i in (1, 2))
                b1, b2 = (held(f"{block}.conv{i}.bias") for i in (1, 2))
                self._blocks[block.removeprefix("attention.")] = Block((w1, b1, w2, b2))
        self._projection: tuple[Tensor, Tensor] | None = None
        if "attention.projection.weight" in host:
            self._projection = held("attention.projection.weight").flatten(1), held("attention.projection.bias")
        both, layers = ("", "_reverse"), (0, 1)
        # The last dimension of a map is d * C + c once channels-last memory is read as vectors.
        self._inputs = [torch.cat([held(f"gru.weight_ih_l{i}{d}") for d in both]).t().contiguous() for i in layers]
        self._biases = [torch.cat([held(f"gru.bias_input_l{i}{d}") for d in both]) for i in layers]
        self._recurrent = [torch.stack([held(f"gru.weight_hh_l{i}{d}", wide) for d in both]) for i in layers]
        self._new = [torch.stack([held(f"gru.bias_new_l{i}{d}", wide) for d in both]) for i in layers]
        self._head = [held(f"head.{name}", wide) for name in ("hidden.weight", "hidden.bias")]
        self._output = [held(f"head.{name}", wide) for name in ("output.weight", "output.bias")]

    def trunk(self, log_mel: Tensor) -> Tensor:
        """Raw log-mel (B, T, D), T a multiple of 8 -> the first layer's input projection (B, T, 2, 3U)."""
        args = (log_mel.to(self._stem[0].dtype), *self._stem, self.dtype)
        maps = self._attention(STEM.choose(self.backend, *args)(*args))
        return self._project(maps.permute(0, 2, 3, 1).flatten(2), 0)

    def recurrent(self, gi: Tensor, lengths: Tensor | None = None) -> Tensor:
        """What :meth:`trunk` returned -> probabilities (B, T, K) in float32.

        ``lengths`` (B,): frames of each clip, for a batch of unequal ones. What stands behind must be finite; the
        backward direction then begins at each clip's own last frame, exactly as for the clip alone.
        """
        behind = None
        if lengths is not None:
            behind = (torch.arange(gi.shape[1], device=gi.device) >= lengths[:, None])[:, :, None, None]
        x = self._states(gi, 0, behind)
        x = self._states(self._project(x, 1), 1, behind)
        return self._probabilities(x)

    def live(self, gi: Tensor, carried: list[Tensor], count: int) -> tuple[Tensor, list[Tensor]]:
        """Of a chunk of ``count`` frames and what it looks ahead, (B, T, 2, 3U), and the forward directions' states
        (B, U) before it, one a layer -> probabilities (B, count, K) and the states after it.

        As of ``backends.reference.bigru_live``, by torch's GRU: the kernels of the other backends begin from zeros.
        """
        hidden, after = self.config.network.hidden, []
        x = gi
        for layer, before in enumerate(carried):
            states = bigru_states_from(x, self._recurrent[layer], self._new[layer], before)
            after.append(states[:, count - 1, :hidden].clone())
            x = states.to(gi.dtype) if layer else self._project(states.to(gi.dtype), 1)
        return self._probabilities(x[:, :count]), after

    def rest(self) -> list[Tensor]:
        """The states (U,) before the first frame, one a layer."""
        return [weight.new_zeros(self.config.network.hidden) for weight in self._recurrent]

    def _probabilities(self, x: Tensor) -> Tensor:
        hidden_layer = torch.relu_(F.linear(x.to(self._head[0].dtype), *self._head))
        probabilities = torch.sigmoid_(F.linear(hidden_layer, *self._output))
        return probabilities if self.dtype == torch.float64 else probabilities.float()

    def _states(self, gi: Tensor, layer: int, behind: Tensor | None) -> Tensor:
        """One layer's states (B, T, 2U); they stay zero where ``behind`` (B, T, 1, 1) holds."""
        if behind is not None:
            hidden = self.config.network.hidden
            gi[..., hidden : 2 * hidden].masked_fill_(behind, HOLD)
        args = (gi, self._recurrent[layer], self._new[layer])
        out: Tensor = STATES.choose(self.backend, *args)(*args)
        return out

    def whole(self, log_mel: Tensor) -> Tensor:
        """Raw log-mel (B, T, D) of equally long clips, T a multiple of 8 -> probabilities (B, T, K)."""
        return self.recurrent(self.trunk(log_mel))

    def explain(self, device: torch.device) -> dict[str, str]:
        """For each part the backend that runs it, and why not one that the ladder asks earlier."""
        channels, bands = self.config.network.channels, self.config.features.mel_bands
        maps = torch.zeros(1, channels, 8, bands, dtype=self.dtype, device=device).contiguous(memory_format=LAST)
        low = maps[:, :, ::2, ::2].contiguous(memory_format=LAST)
        gi = torch.zeros(1, 8, *self._recurrent[0].shape[:2], dtype=self.dtype, device=device)
        mel = torch.zeros(1, 8, bands, dtype=self._stem[0].dtype, device=device)
        return {
            "stem": self._runs(STEM, mel, *self._stem, self.dtype),
            "pooling": self._runs(POOL, maps, 2, 2),
            "upsampling": self._runs(Table("upsample_add"), low, maps),
            "gate": self._gate(low, maps),
            "recurrence": self._runs(STATES, gi, self._recurrent[0], self._new[0]),
            "residual_block": "; ".join(f"scale 1/{2**s}: {why}" for s, why in sorted(self.choice.reasons.items()))
            or self.choice.candidates(maps, next(iter(self._blocks.values()))),
        }

    def _gate(self, low: Tensor, maps: Tensor) -> str:
        pooling = self.config.network.frequency_pooling
        if (answer := self._in_one(low, maps, maps, *(self._projection or (None, None)), pooling)).ok:
            return "triton, with projection and pooling in one kernel"
        return f"{self._runs(Table('upsample_add_gate'), low, maps, maps)}; not in one kernel: {answer.reason}"

    def _runs(self, table: Table, *args: Any) -> str:
        if self.backend != "auto":
            return f"{self.backend}: asked for"
        refused: list[str] = []
        for name in ladder(args):
            if (answer := table.support(name, *args)).ok:
                return name + (f" ({'; '.join(refused)})" if refused else "")
            refused.append(f"{name}: {answer.reason}")
        return f"none ({'; '.join(refused)})"

    def _attention(self, x: Tensor) -> Tensor:
        """The MTFA layer and the maximum over groups of bands: (B, C, T, D) -> (B, C, T, D / pooling)."""
        features = self._sequence("features", x)
        variant, pooling = self.config.network.variant, self.config.network.frequency_pooling
        if variant == "mtfa":
            skip, low = self._scales("mask", x, 0)
            # The projection commutes with upsampling: a quarter of the work for the low part, its bias once.
            low = self._mix(low, bias=False)
            args = (low, skip, features, *(self._projection or (None, None)), pooling)
            if self._in_one(*args).ok:
                out: Tensor = GATED_POOL.choose("triton", *args)(*args)
                return out
            features = ops.upsample_add_gate(low, self._mix(skip, bias=True), features, backend=self.backend)
        elif variant == "resatt":
            logits = self._mix(self._sequence("mask", x), bias=True)
            features = ops.attention_gate(logits, features, backend=self.backend)
        return self._pool(features, 1, pooling) if pooling > 1 else features

    def _in_one(self, *args: Any) -> Support:
        """Whether one kernel may do all from the projection to the pooling."""
        if self.backend == "triton" or (self.backend == "auto" and "triton" in ladder(args)):
            return GATED_POOL.support("triton", *args)
        return Support.no("not asked for" if self.backend != "auto" else f"{args[0].device} has no Triton")

    def _sequence(self, name: str, x: Tensor) -> Tensor:
        for i in range(2):
            x = self.choice(0, self._blocks[f"{name}.{i}"], x)
        return x

    def _scales(self, name: str, x: Tensor, scale: int) -> tuple[Tensor, Tensor]:
        """The two terms of an hourglass: skip at ``scale``, and what comes up from below at half its size."""
        below = scale + 1
        low = self.choice(below, self._blocks[f"{name}.low_in"], self._pool(x, 2, 2))
        if below < HOURGLASS_DEPTH:
            skip, inner = self._scales(f"{name}.inner", low, below)
            low = ops.upsample_add(inner, skip, backend=self.backend)
        else:
            low = self.choice(below, self._blocks[f"{name}.inner"], low)
        low = self.choice(below, self._blocks[f"{name}.low_out"], low)
        return self.choice(scale, self._blocks[f"{name}.skip"], x), low

    def _pool(self, x: Tensor, down: int, across: int) -> Tensor:
        out: Tensor = POOL.choose(self.backend, x, down, across)(x, down, across)
        return out

    def _mix(self, x: Tensor, *, bias: bool) -> Tensor:
        """The 1x1 convolution as one matrix product over pixels, where there is one."""
        if self._projection is None:
            return x
        weight, offset = self._projection
        rows = x.permute(0, 2, 3, 1)
        flat = rows.reshape(-1, rows.shape[3])
        mixed = torch.addmm(offset, flat, weight.t()) if bias else torch.mm(flat, weight.t())
        return mixed.view(rows.shape).permute(0, 3, 1, 2)

    def _project(self, x: Tensor, layer: int) -> Tensor:
        """(B, T, I) -> (B, T, 2, 3U): the input products of all steps and both directions at once."""
        batch, steps, _ = x.shape
        gi = torch.addmm(self._biases[layer], x.reshape(batch * steps, -1), self._inputs[layer])
        return gi.view(batch, steps, 2, -1)
