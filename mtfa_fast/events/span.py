"""The least that an event is: what annotations hold, what a detector answers and what is scored have in common."""

from __future__ import annotations

from typing import Protocol


class LabelledSpan(Protocol):
    """Anything with a label, an onset and an offset in seconds."""

    @property
    def label(self) -> str: ...
    @property
    def onset(self) -> float: ...
    @property
    def offset(self) -> float: ...
