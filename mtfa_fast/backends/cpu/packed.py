"""Weights in the order in which the kernels read them, kept as long as the tensors they were packed from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from ... import _core
from .arrays import array

Packed = TypeVar("Packed")


class PackedWeights(Generic[Packed]):
    """One packed form for each set of weights, found by one of its tensors and checked by content.

    A version counter would miss ``parameter.data.add_(...)``, writes through NumPy, and inference tensors, which have
    none; results would silently be those of the old weights. Reading all weights takes some ten microseconds, packing
    them a hundred times as long.
    """

    def __init__(self, pack: Callable[[Sequence[NDArray[Any]], torch.dtype], Packed]) -> None:
        self._pack = pack
        self._kept = WeakTensorKeyDictionary()

    def get(self, key: Tensor, weights: Sequence[Tensor]) -> Packed:
        """``weights``, packed for the process's instruction set; ``key``, one of them, is not kept alive."""
        content = (_core.chosen_isa(), key.dtype, _core.fingerprint([array(_in_memory_order(w)) for w in weights]))
        kept: tuple[Any, Packed] | None = self._kept.get(key)
        if kept is not None and kept[0] == content:
            return kept[1]
        packed = self._pack([w.detach().float().contiguous().numpy() for w in weights], key.dtype)
        self._kept[key] = (content, packed)
        return packed


def _in_memory_order(x: Tensor) -> Tensor:
    """The same numbers as a contiguous tensor, without a copy for any permutation of one, channels-last included."""
    if not x.is_contiguous():
        x = x.permute(sorted(range(x.ndim), key=x.stride, reverse=True))
    return x.contiguous()
