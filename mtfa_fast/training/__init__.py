"""Training after section 3.2 of the paper. Its settings need no torch, so ``train`` is resolved when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .config import TrainConfig

if TYPE_CHECKING:
    from .loop import train

__all__ = ["TrainConfig", "train"]


def __getattr__(name: str) -> Any:
    if name != "train":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .loop import train

    return train
