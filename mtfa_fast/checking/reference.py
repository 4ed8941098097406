"""Plain PyTorch as the measure of everything fast: the truth in float64, and what stock PyTorch errs below it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..backends.reference.bigru_live import bigru_live
from ..backends.reference.log_mel import log_mel as reference_log_mel
from ..engine.tiles import HALO_FRAMES, STEP
from ..nn import ResidualBlock, Stem
from ..nn.convert import from_weights
from ..nn.modules import pad_time
from ..weights import Weights

PRECISIONS = ("fp64", "fp32", "mixed", "bf16", "fp16")
TILE_FRAMES = 512  # of the trunk
Packed = tuple[str, Tensor, Tensor]  # name, the tensor to change, and the change that makes it twice as large


class Reference:
    """The plain network of ``weights`` on the CPU; ``precision``: one of PRECISIONS, bf16 and fp16 by autocast.

    Mixed is what the C++ engine calls bf16: autocast up to the recurrent part, whose first product has both factors
    in bf16, and float32 from there on. It errs less than autocast to the end.

    Every method takes and returns NumPy arrays of one clip and answers in float64.
    """

    def __init__(self, weights: Weights, precision: str = "fp64") -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision: got {precision!r}, allowed: {', '.join(PRECISIONS)}")
        self.weights, self.precision = weights, precision
        self._net = from_weights(weights).requires_grad_(False)
        if precision == "fp64":
            self._net.double()
        if precision == "mixed":
            for weight in (self._net.gru.weight_ih_l0, self._net.gru.weight_ih_l0_reverse):
                weight.data = weight.data.bfloat16().float()

    def log_mel(self, wave: np.ndarray) -> np.ndarray:
        """Mono samples (n,) -> raw log-mel (1 + n // hop, D); float32 where the network is not float64."""
        f, tensors, dtype = self.weights.config.features, self.weights.tensors, self._net.mean.dtype
        window, mel = (torch.from_numpy(tensors[f"features.{name}"]).to(dtype) for name in ("window", "mel"))
        frames = reference_log_mel(torch.from_numpy(wave).to(dtype), window, mel, f.hop, f.fft_length, f.log_floor)
        return _array(frames.unsqueeze(0))

    def probabilities(self, log_mel: np.ndarray) -> np.ndarray:
        """Raw log-mel (T, D) -> frame probabilities (T, K)."""
        return _array(self._recurrent(self._vectors(log_mel)))[: len(log_mel)]

    def live_probabilities(self, log_mel: np.ndarray, chunk: int, look_ahead: int) -> np.ndarray:
        """What a live stream answers in the end, (T, D) -> (T, K); see ``backends.reference.bigru_live``."""
        hidden = self._hidden(self._vectors(log_mel), lambda x: bigru_live(x, self._gru_weights(), chunk, look_ahead))
        return _array(self._head(hidden))[: len(log_mel)]

    def vectors(self, log_mel: np.ndarray) -> np.ndarray:
        """Raw log-mel (T, D) -> what the recurrent part gets, (T padded to a multiple of 8, I)."""
        return _array(self._vectors(log_mel))

    def recurrent(self, vectors: np.ndarray) -> np.ndarray:
        """The recurrent part alone, (T, I) -> frame probabilities (T, K)."""
        return _array(self._recurrent(self._input(vectors)))

    def hidden(self, vectors: np.ndarray) -> np.ndarray:
        """The recurrent layers alone, (T, I) -> both directions of the last one, (T, 2, U)."""
        return _array(self._hidden(self._input(vectors)).unflatten(-1, (2, -1)))

    def stages(self, log_mel: np.ndarray, names: Sequence[str]) -> dict[str, np.ndarray]:
        """What the stages ``names`` make of (T, D), in the shapes of ``engine.cpu.CpuEngine.tap``."""
        net, found = self._net, dict[str, Tensor]()
        # The engine's gate and pooling end where the dropout before the recurrent layers begins.
        modules = {"gate" if name == "input_dropout" else name: module for name, module in net.named_modules()}
        if net.attention.mask is not None:  # M is the sigmoid of what the last module of the mask branch makes
            modules["masks"] = net.attention.mask if net.attention.projection is None else net.attention.projection

        def keep(name: str, output: Tensor | tuple[Tensor, ...]) -> None:
            whole = (output[0] if isinstance(output, tuple) else output)[0]
            found[name] = torch.sigmoid(whole) if name == "masks" else whole

        handles = [modules[n].register_forward_hook(lambda _m, _i, out, n=n: keep(n, out)) for n in names]
        try:
            self._recurrent(self._vectors(log_mel, tile=len(log_mel) + STEP))  # one tile, one output of each
        finally:
            for handle in handles:
                handle.remove()
        return {name: self._as_tap(name, found[name]).double().numpy() for name in names}

    def effects(
        self, log_mel: np.ndarray, taps: Mapping[str, np.ndarray], share: float
    ) -> Iterator[tuple[str, np.ndarray, Iterator[tuple[str, np.ndarray]]]]:
        """What each stage of the trunk makes of the outputs ``taps`` of the stages before it, by an engine.

        Yields stage, output, and for each tensor that an engine packs for it (weights and biases with norms folded in,
        statistics) its name and the change of the output where that tensor is too large by ``share``.
        """
        for stage, run, tensors in self._makers(log_mel, taps):
            sound = run()
            changes = (
                (name, self._as_tap(stage, (_changed(run, tensor, share * step) - sound)[0]).double().numpy())
                for name, tensor, step in tensors
            )
            yield stage, self._as_tap(stage, sound[0]).double().numpy(), changes

    def _makers(
        self, log_mel: np.ndarray, taps: Mapping[str, np.ndarray]
    ) -> Iterator[tuple[str, Callable[[], Tensor], list[Packed]]]:
        """Of each stage that holds tensors: how it is made of what reaches it, and its tensors."""
        net, given = self._net, dict[nn.Module, Tensor]()
        frames, projection = self._input(log_mel), net.attention.projection

        def note(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            given[module] = inputs[0]

        def replace(name: str) -> Tensor:
            return torch.from_numpy(taps[name]).to(frames.dtype).permute(2, 0, 1).unsqueeze(0)

        handles = [module.register_forward_pre_hook(note) for module in net.modules()]
        handles += [
            module.register_forward_hook(lambda _m, _i, _o, name=name: replace(name))
            for name, module in net.named_modules()
            if name in taps and name != "gru"
        ]
        try:
            self._vectors(log_mel, tile=len(log_mel) + STEP)
        finally:
            for handle in handles:
                handle.remove()

        def stem() -> Tensor:
            return net.stem(pad_time(net.normalize(frames).unsqueeze(1), STEP))

        yield "stem", stem, [*_packed("stem", net.stem), *_whole(("mean", net.mean), ("std", net.std))]
        for name, module in net.named_modules():
            if isinstance(module, ResidualBlock):
                yield name, partial(module, given[module]), _packed(name, module)
        if projection is not None:
            summed = given[projection]

            def masks() -> Tensor:
                return torch.sigmoid(projection(summed))

            yield "masks", masks, _whole(*projection.named_parameters("attention.projection"))

    def _as_tap(self, name: str, output: Tensor) -> Tensor:
        if output.ndim == 3:
            return output.permute(1, 2, 0)
        return output.unflatten(1, (2, -1) if name == "gru" else (-1, self.weights.config.network.channels))

    def _vectors(self, log_mel: np.ndarray, tile: int = 0) -> Tensor:
        # The trunk in tiles with their neighbourhood, so that memory does not grow with the recording.
        net = self._net
        maps = pad_time(net.normalize(self._input(log_mel)).unsqueeze(1), STEP)
        parts = []
        with _autocast(self.precision):
            for first in range(0, maps.shape[2], tile or TILE_FRAMES):
                low, last = max(first - HALO_FRAMES, 0), min(first + (tile or TILE_FRAMES), maps.shape[2])
                gated = net.attention(net.stem(maps[:, :, low : last + HALO_FRAMES]))
                parts.append(net.flatten(gated)[:, first - low : last - low])
        return torch.cat(parts, 1)

    def _recurrent(self, vectors: Tensor) -> Tensor:
        return self._head(self._hidden(vectors))

    def _head(self, hidden: Tensor) -> Tensor:
        with _autocast("fp32" if self.precision == "mixed" else self.precision):
            return torch.sigmoid(self._net.head(hidden))

    def _hidden(self, vectors: Tensor, layers: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """By ``layers``, else by the network's own."""
        if self.precision == "mixed":
            vectors = vectors.bfloat16().float()
        with _autocast("fp32" if self.precision == "mixed" else self.precision):
            frames = self._net.input_dropout(vectors)
            found: Tensor = layers(frames) if layers else self._net.gru(frames)[0]
        return found

    def _gru_weights(self) -> list[Tensor]:
        return list(self._net.gru.parameters())

    def _input(self, frames: np.ndarray) -> Tensor:
        return torch.from_numpy(frames).to(self._net.mean.dtype).unsqueeze(0)


def _changed(run: Callable[[], Tensor], tensor: Tensor, step: Tensor) -> Tensor:
    kept = tensor.clone()
    tensor += step
    try:
        return run()
    finally:
        tensor.copy_(kept)


def _packed(stage: str, module: Any) -> list[Packed]:
    """Weight and bias of each convolution with the norm behind it folded in, as views of the module's tensors."""
    found = []
    for n in ("",) if isinstance(module, Stem) else ("1", "2"):
        conv, norm = getattr(module, f"conv{n}"), getattr(module, f"norm{n}")
        bias = norm.bias - norm.running_mean * norm.weight / torch.sqrt(norm.running_var + norm.eps)
        found.append((f"{stage}.conv{n}.weight", conv.weight.data, conv.weight.data.clone()))
        found.append((f"{stage}.conv{n}.bias", norm.bias.data, bias))
    return found


def _whole(*tensors: tuple[str, Tensor]) -> list[Packed]:
    return [(name, tensor.data, tensor.data.clone()) for name, tensor in tensors]


def _autocast(precision: str) -> torch.autocast:
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast("cpu", dtype, enabled=precision in ("mixed", "bf16", "fp16"))


def _array(answer: Tensor) -> np.ndarray:
    found: np.ndarray = answer[0].double().numpy()
    return found
