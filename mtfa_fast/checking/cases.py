"""Cases and measures that tests and benchmarks share: what an op is called with, and how wrong its result may be.

The definition of an op is the reference backend in float64. A fast backend may be as wrong as twice stock PyTorch
in the same dtype, the reference backend again, both measured against that definition on the same inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .. import ops

LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class OpCase:
    """Arguments of one op; ``make`` draws the tensors in float64, ``numbers`` follow them in the call."""

    op: str
    name: str
    make: Callable[[torch.Generator], list[Any]]
    numbers: tuple[Any, ...] = ()
    differentiable: bool = False
    maps: bool = True  # 4-D tensors that come in two layouts
    keywords: dict[str, Any] = field(default_factory=dict)
    inner: float = 0.0  # size of what the op rounds on its way, where a result can be smaller than that

    def __str__(self) -> str:
        return f"{self.op}-{self.name}"

    def arguments(
        self,
        dtype: torch.dtype,
        layout: torch.memory_format = torch.contiguous_format,
        device: torch.device | str = "cpu",
        seed: int = 0,
    ) -> list[Any]:
        """The tensors, rounded to ``dtype``, without the numbers."""
        made = self.make(torch.Generator().manual_seed(seed))
        return [_convert(value, dtype, layout, torch.device(device)) for value in made]

    def call(self, arguments: list[Any], backend: str = "auto") -> tuple[Tensor, ...]:
        out = getattr(ops, self.op)(*arguments, *self.numbers, **self.keywords, backend=backend)
        return out if isinstance(out, tuple) else (out,)


def _convert(value: Any, dtype: torch.dtype, layout: torch.memory_format, device: torch.device) -> Any:
    if isinstance(value, list):
        return [_convert(v, dtype, layout, device) for v in value]
    value = value if value.dtype == torch.bool else value.to(dtype)
    value = value.to(device)
    return value.contiguous(memory_format=layout) if value.ndim == 4 else value


def _normal(generator: torch.Generator, *shape: int, scale: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64) * scale


def _half(shape: tuple[int, int, int, int]) -> tuple[int, int, int, int]:
    return (*shape[:2], (shape[2] + 1) // 2, (shape[3] + 1) // 2)


def pointwise(shape: tuple[int, int, int, int]) -> list[OpCase]:
    """The three element-wise ops on maps (B, C, T, D)."""
    name = "x".join(map(str, shape))
    half = _half(shape)
    return [
        OpCase("upsample_add", name, lambda g: [_normal(g, *half), _normal(g, *shape)], differentiable=True),
        OpCase("attention_gate", name, lambda g: [_normal(g, *shape), _normal(g, *shape)], differentiable=True),
        OpCase(
            "upsample_add_gate",
            name,
            lambda g: [_normal(g, *half), _normal(g, *shape), _normal(g, *shape)],
            differentiable=True,
        ),
    ]


def block(shape: tuple[int, int, int, int]) -> OpCase:
    """Weights of the size that keeps the maps' size, as after training."""
    channels = shape[1]
    scale = (9 * channels) ** -0.5

    def make(g: torch.Generator) -> list[Any]:
        w1, w2 = (_normal(g, channels, channels, 3, 3, scale=scale) for _ in range(2))
        b1, b2 = (_normal(g, channels, scale=0.1) for _ in range(2))
        return [_normal(g, *shape), w1, b1, w2, b2]

    return OpCase("residual_block", "x".join(map(str, shape)), make)


def gru(batch: int, steps: int, inputs: int, hidden: int, layers: int) -> OpCase:
    """torch.nn.GRU's own range of initial weights."""

    def make(g: torch.Generator) -> list[Any]:
        weights = []
        for layer in range(layers):
            for _ in range(2):
                width = inputs if layer == 0 else 2 * hidden
                for shape in ((3 * hidden, width), (3 * hidden, hidden), (3 * hidden,), (3 * hidden,)):
                    weights.append((torch.rand(shape, generator=g, dtype=torch.float64) * 2 - 1) * hidden**-0.5)
        return [_normal(g, batch, steps, inputs), weights]

    name = f"{batch}x{steps}x{inputs} to {layers}x{hidden}"
    return OpCase("bigru", name, make, differentiable=True, maps=False, inner=1.0)  # the gates


def median(shape: tuple[int, ...], window: int, binary: bool = False) -> OpCase:
    def make(g: torch.Generator) -> list[Any]:
        x = _normal(g, *shape)
        x.flatten()[::5] = 0  # ties, and the value beyond the ends
        return [x > 0 if binary else x]

    kind = " bool" if binary else ""
    return OpCase("median_filter", f"{'x'.join(map(str, shape))} window {window}{kind}", make, (window,), maps=False)


def runs(shape: tuple[int, ...], windows: tuple[int, ...]) -> OpCase:
    """Probabilities that cross their thresholds often; multiples of 1/8, so that every dtype sees the same."""

    def make(g: torch.Generator) -> list[Any]:
        wave = torch.rand(shape, generator=g, dtype=torch.float64).sub(0.5).cumsum(-2).sin().abs()
        return [(wave * 8).round() / 8]

    thresholds = [0.3 + 0.1 * k for k in range(len(windows))]
    name = f"{'x'.join(map(str, shape))} windows {', '.join(map(str, windows))}"
    return OpCase("detect_runs", name, make, (thresholds, list(windows)), maps=False)


def spectrogram(samples: int, bands: int, window: int, hop: int, fft_length: int) -> OpCase:
    def make(g: torch.Generator) -> list[Any]:
        mel = torch.rand((bands, fft_length // 2 + 1), generator=g, dtype=torch.float64)
        return [_normal(g, 2, samples), torch.hamming_window(window, dtype=torch.float64), mel]

    keywords = {"hop": hop, "fft_length": fft_length, "log_floor": 1e-3}
    return OpCase("log_mel", f"2x{samples}", make, differentiable=True, maps=False, keywords=keywords)


# Odd and single sizes, one whole row of 128 bands, the full clip's 1501 frames, an empty batch.
MAIN_CASES = [
    *pointwise((2, 16, 7, 13)),
    block((1, 16, 7, 9)),
    gru(2, 9, 5, 7, 2),
    median((2, 50, 3), 27),
    runs((2, 90, 2), (27, 3)),
]
EDGE_CASES = [
    case for shape in ((1, 3, 8, 1), (1, 64, 1, 128), (1, 1, 1501, 2), (0, 4, 8, 8)) for case in pointwise(shape)
] + [
    block((1, 64, 3, 130)),
    block((1, 16, 1, 1)),
    block((0, 16, 8, 8)),
    gru(1, 1, 3, 64, 1),
    gru(0, 4, 3, 7, 2),
    median((1, 30, 1), 1),
    median((70, 2), 255),
    median((2, 1501, 1), 3, binary=True),
    runs((1501, 1), (27,)),
    runs((1, 1), (9,)),
    runs((0, 5, 2), (3, 1)),
]
# Section 1 of the design: one clip of 30 seconds at 64 channels.
FULL_CASES = [
    *pointwise((1, 64, 1504, 128)),
    block((1, 64, 1504, 128)),
    gru(1, 1504, 1024, 64, 2),
    median((1, 1501, 3), 27),
    runs((1, 1501, 3), (27, 27, 27)),
    spectrogram(30 * 44_100, 128, 1764, 882, 2048),
]


@dataclass(frozen=True)
class Deviation:
    """Largest differences from float64, as fractions of the largest value: ``fast`` may not exceed ``bound``."""

    tensor: str
    fast: float
    stock: float
    bound: float

    @property
    def ok(self) -> bool:
        return self.fast <= self.bound

    def __str__(self) -> str:
        return f"{self.tensor}: {self.fast:.3g} from float64, stock PyTorch {self.stock:.3g}, allowed {self.bound:.3g}"


def deviations(
    case: OpCase,
    backend: str,
    dtype: torch.dtype,
    layout: torch.memory_format = torch.contiguous_format,
    device: torch.device | str = "cpu",
) -> list[Deviation]:
    """Every output and every gradient of ``backend`` and of stock PyTorch against the definition.

    The bound is twice what stock deviates, among the outputs or among the gradients, so that one lucky tensor does
    not set it; at least the last place of the largest value. Numbers that are not floats must be equal. A result
    that has a NaN, or lies in memory otherwise than stock's, deviates infinitely.
    """
    arguments = case.arguments(dtype, layout, device)
    fast = _results(case, arguments, backend)
    stock = _results(case, arguments, "reference")
    exact = _results(case, _convert(arguments, torch.float64, layout, torch.device(device)), "reference")
    found = []
    for kind in ("output", "gradient"):
        names = [name for name in exact if name.startswith(kind) and exact[name].numel()]
        stocks = {name: _deviation(stock[name], exact[name], case.inner) for name in names}
        for name in names:
            deviation = _deviation(fast[name], exact[name], case.inner)
            if deviation != deviation or _layouts(fast[name]) != _layouts(stock[name]):
                deviation = float("inf")
            floats = exact[name].is_floating_point()
            bound = max(2 * max(stocks.values()), torch.finfo(dtype).eps) if floats else 0.0
            found.append(Deviation(name, deviation, stocks[name], bound))
    return found


def _deviation(x: Tensor, exact: Tensor, inner: float) -> float:
    size = max(float(exact.double().abs().max()), inner)
    return float((x.double() - exact.double()).abs().max()) / (size or 1.0)


def _layouts(x: Tensor) -> list[bool]:
    """Which of the layouts ``x`` has; channels-last is a matter of four dimensions."""
    return [x.is_contiguous(memory_format=layout) for layout in list(LAYOUTS.values())[: 2 if x.ndim == 4 else 1]]


def _results(case: OpCase, arguments: list[Any], backend: str) -> dict[str, Tensor]:
    """Outputs, and for a differentiable op the gradients of all arguments for a fixed random cotangent."""
    if not case.differentiable:
        with torch.no_grad():
            return {f"output {i}": out for i, out in enumerate(case.call(arguments, backend))}
    leaves = [t.detach().requires_grad_() for t in _flat(arguments)]
    taken = iter(leaves)
    arguments = [[next(taken) for _ in a] if isinstance(a, list) else next(taken) for a in arguments]
    outputs = case.call(arguments, backend)
    generator = torch.Generator().manual_seed(1)
    cotangents = [torch.randn(o.shape, generator=generator).bfloat16().to(o) for o in outputs]
    gradients = torch.autograd.grad(outputs, leaves, cotangents)
    results = {f"output {i}": out.detach() for i, out in enumerate(outputs)}
    return results | {f"gradient {i}": gradient for i, gradient in enumerate(gradients)}


def _flat(values: list[Any]) -> Iterator[Tensor]:
    for value in values:
        yield from value if isinstance(value, list) else (value,)
