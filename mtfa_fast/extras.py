"""Packages that only some parts need, and which extra of ``pip install mtfa-fast[...]`` brings them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_EXTRAS = {  # package: what it is called, extra
    "torch": ("PyTorch", "torch"),
    "matplotlib": ("matplotlib", "plot"),
    "onnxscript": ("onnxscript", "onnx"),
    "onnxruntime": ("ONNX Runtime", "onnx"),
    "av": ("PyAV", "av"),
    "sounddevice": ("sounddevice", "live"),
    "pyarrow": ("pyarrow", "parquet"),
    "ray": ("Ray", "bulk"),
}


@contextmanager
def needs(package: str, who: str, instead: str = "") -> Iterator[None]:
    """Around imports: where ``package`` is not installed, an ImportError that says who needs it and what brings it.

    ``who``: a subject with its verb, ``"train needs"``. ``instead``: how to go without it, added at the end.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        called, extra = _EXTRAS[package]
        raise ImportError(
            f"{who} {called}, which is not installed: pip install 'mtfa-fast[{extra}]'{instead}"
        ) from error
