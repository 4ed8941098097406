"""Every choice that defines a detector: features, network, decision. Frozen, validated, JSON both ways.

Choices that the paper (arXiv 1904.00063) leaves open are marked ``*``; docs/network.md lists them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from .arguments import require, require_int

Variant = Literal["mtfa", "resatt", "res"]
VARIANTS: tuple[Variant, ...] = ("mtfa", "resatt", "res")
HOURGLASS_DEPTH = 3  # poolings of the mask branch: scales T, T/2, T/4, T/8


@dataclass(frozen=True)
class FeatureConfig:
    """Log-mel spectrogram (section 3.1 of the paper): 128 bands, 40 ms window, 20 ms hop.

    Frame ``i`` is centred on sample ``i * hop``; the edges are padded with zeros*, so a wave of
    ``n`` samples gives ``1 + n // hop`` frames. The window is a periodic Hamming window*, the mel
    scale Slaney's with area normalisation*, the logarithm natural, of ``power + log_floor``*.
    """

    sample_rate: int = 44_100
    window_length: int = 1_764  # samples*
    hop: int = 882  # samples
    fft_length: int = 2_048  # samples*
    mel_bands: int = 128
    log_floor: float = 1e-10

    def __post_init__(self) -> None:
        for name in ("sample_rate", "window_length", "hop"):
            require_int(name, getattr(self, name), 1)
        require_int("mel_bands", self.mel_bands, 8)
        require(self.mel_bands % 8 == 0, "mel_bands", self.mel_bands, "a multiple of 8")
        require_int("fft_length", self.fft_length, 2)
        require(
            self.fft_length & (self.fft_length - 1) == 0 and self.fft_length >= self.window_length,
            "fft_length",
            self.fft_length,
            f"a power of two >= window_length ({self.window_length})",
        )
        require(math.isfinite(self.log_floor) and self.log_floor > 0, "log_floor", self.log_floor, "a number > 0")

    @property
    def frame_seconds(self) -> float:
        """Seconds from one frame to the next."""
        return self.hop / self.sample_rate

    def frame_count(self, samples: int) -> int:
        """Frames of a wave of ``samples`` samples; 1501 for 30 s at the default rate."""
        return 1 + samples // self.hop


@dataclass(frozen=True)
class NetworkConfig:
    """The network of section 2 and its ablations of section 3.3 of the paper.

    ``variant``: ``"mtfa"`` has the hourglass mask branch, ``"resatt"`` two residual blocks at full
    resolution in its place, ``"res"`` no mask branch.
    """

    variant: Variant = "mtfa"
    channels: int = 64
    hidden: int = 64  # GRU units a direction
    frequency_pooling: int = 8  # mel bands per maximum*, any divisor of mel_bands, 1 = none
    mask_projection: bool = True  # 1x1 convolution before the mask's sigmoid*
    dropout: float = 0.3  # before, between and after the GRU layers*

    def __post_init__(self) -> None:
        require(self.variant in VARIANTS, "variant", self.variant, ", ".join(VARIANTS))
        for name in ("channels", "hidden", "frequency_pooling"):
            require_int(name, getattr(self, name), 1)
        require(isinstance(self.mask_projection, bool), "mask_projection", self.mask_projection, "true, false")
        require(isinstance(self.dropout, (int, float)) and 0 <= self.dropout < 1, "dropout", self.dropout, "0 <= p < 1")


@dataclass(frozen=True)
class Calibration:
    """What an event's score means: sigmoid(``slope`` x logit(highest probability) + ``offset``).

    Fitted so that it is the share of such events that are right (:mod:`.scoring.calibration`). ``slope`` >= 0: of two
    events the one with the higher probability never has the lower score.
    """

    slope: float
    offset: float

    def __post_init__(self) -> None:
        good = _is_number(self.slope) and self.slope >= 0
        require(good, "calibration slope", self.slope, "a number >= 0")
        require(_is_number(self.offset), "calibration offset", self.offset, "a number")


@dataclass(frozen=True)
class ClassConfig:
    """One event class: probability > ``threshold``, then a median over ``filter_frames`` frames.

    Of the events that remain those count whose highest probability is at least ``minimum_score``. The paper has no
    such rule, and 0 is none: with two thresholds, the lower one says where an event begins, the higher one whether.
    ``calibration`` turns that probability into the event's score, and decides nothing; None: they are the same.
    """

    name: str
    threshold: float = 0.5
    filter_frames: int = 27  # 540 ms
    minimum_score: float = 0.0
    calibration: Calibration | None = None

    def __post_init__(self) -> None:
        require(
            isinstance(self.name, str)
            and self.name.strip() == self.name
            and self.name != ""
            and self.name.isprintable(),
            "class name",
            self.name,
            "printable text without spaces at its ends",
        )
        for name in ("threshold", "minimum_score"):
            value = getattr(self, name)
            require(
                isinstance(value, (int, float)) and 0 <= value <= 1,
                f"{name} of {self.name}",
                value,
                f"0 <= {name} <= 1",
            )
        require_int(f"filter_frames of {self.name}", self.filter_frames, 1)
        require(self.filter_frames % 2 == 1, f"filter_frames of {self.name}", self.filter_frames, "an odd number")
        given = self.calibration
        good = given is None or isinstance(given, Calibration)
        require(good, f"calibration of {self.name}", given, "a Calibration, None")

    def to_dict(self) -> dict[str, Any]:
        """JSON values; without a calibration no field of it, as in files that older readers know."""
        data = dataclasses.asdict(self)
        if self.calibration is None:
            del data["calibration"]
        return data

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ClassConfig:
        """Inverse of :meth:`to_dict`. Errors as of :meth:`Config.from_dict`."""
        given = _mapping(data, "classes").get("calibration")
        if given is not None:
            data = {**data, "calibration": _build(Calibration, given, "calibration")}
        one: ClassConfig = _build(cls, data, "classes")
        return one


PAPER_CLASSES = (
    ClassConfig("babycry", 0.4),
    ClassConfig("glassbreak", 0.2),
    ClassConfig("gunshot", 0.4),
)


def classes_called(names: Iterable[str]) -> tuple[ClassConfig, ...]:
    """Classes with the paper's decisions, where it has them."""
    paper = {c.name: c for c in PAPER_CLASSES}
    return tuple(paper.get(name, ClassConfig(name)) for name in names)


@dataclass(frozen=True)
class Config:
    """A whole detector. ``Config()`` is the paper's network for its three events."""

    features: FeatureConfig = field(default_factory=FeatureConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    classes: tuple[ClassConfig, ...] = PAPER_CLASSES

    def __post_init__(self) -> None:
        require(len(self.classes) > 0, "classes", self.classes, "at least one class")
        names = self.class_names
        require(len(set(names)) == len(names), "classes", names, "different names")
        pooling, bands = self.network.frequency_pooling, self.features.mel_bands
        require(bands % pooling == 0, "frequency_pooling", pooling, f"a divisor of mel_bands ({bands})")

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the network's outputs."""
        return tuple(c.name for c in self.classes)

    @property
    def gru_inputs(self) -> int:
        """Length of one frame's vector after pooling and flattening: (D / pooling) * C."""
        return self.features.mel_bands // self.network.frequency_pooling * self.network.channels

    def to_dict(self) -> dict[str, Any]:
        """JSON values; inverse of :meth:`from_dict`."""
        return {**dataclasses.asdict(self), "classes": tuple(c.to_dict() for c in self.classes)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Config:
        """Inverse of :meth:`to_dict`. Raises ValueError naming an unknown, missing or bad field."""
        data = dict(_mapping(data, "config"))
        classes = data.pop("classes", None)
        require(isinstance(classes, (list, tuple)), "classes", classes, "a list of classes")
        assert classes is not None
        parts = {
            "features": _build(FeatureConfig, data.pop("features", None), "features"),
            "network": _build(NetworkConfig, data.pop("network", None), "network"),
        }
        require(not data, "config", sorted(data), "the fields features, network, classes")
        return cls(**parts, classes=tuple(map(ClassConfig.from_dict, classes)))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _mapping(data: object, where: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ValueError(f"{where}: got {type(data).__name__}, allowed: a mapping of fields")
    return data


def _build(cls: type, data: object, where: str) -> Any:
    data = _mapping(data, where)
    known = {f.name for f in dataclasses.fields(cls)}
    require(set(data) <= known, where, sorted(set(data) - known), "the fields " + ", ".join(sorted(known)))
    try:
        return cls(**data)
    except TypeError as error:
        raise ValueError(f"{where}: {error}") from None
