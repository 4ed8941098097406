"""MTFA, the Multi-Scale Time-Frequency Attention network for sound event detection, made fast.

Names are resolved when they are first used: importing the package loads neither torch nor matplotlib.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .extras import needs

if TYPE_CHECKING:
    from .audio.files import AudioError
    from .config import ClassConfig, Config, FeatureConfig, NetworkConfig
    from .detector import Detector
    from .events.result import Event, Result
    from .nn import ResidualBlock, SEDNet
    from .nn.fast import MTFA, BiGRU, Hourglass, accelerate
    from .weights import Weights

__version__ = "0.1.0"

_HOME = {
    "AudioError": ".audio.files",
    "BiGRU": ".nn.fast",
    "ClassConfig": ".config",
    "Config": ".config",
    "Detector": ".detector",
    "Event": ".events.result",
    "FeatureConfig": ".config",
    "Hourglass": ".nn.fast",
    "MTFA": ".nn.fast",
    "NetworkConfig": ".config",
    "ResidualBlock": ".nn",
    "Result": ".events.result",
    "SEDNet": ".nn",
    "Weights": ".weights",
    "accelerate": ".nn.fast",
}

__all__ = [
    "MTFA",
    "AudioError",
    "BiGRU",
    "ClassConfig",
    "Config",
    "Detector",
    "Event",
    "FeatureConfig",
    "Hourglass",
    "NetworkConfig",
    "ResidualBlock",
    "Result",
    "SEDNet",
    "Weights",
    "__version__",
    "accelerate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with needs("torch", f"mtfa_fast.{name} needs"):
        value = getattr(import_module(_HOME[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(globals().keys() | _HOME.keys())
