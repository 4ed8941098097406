"""What every backend answers when it is asked whether it can do something: yes, or no and why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Support:
    """``ok``, and when it is not, the ``reason`` that a user reads: it names the offending value."""

    ok: bool
    reason: str = ""

    @classmethod
    def yes(cls) -> Support:
        return cls(True)

    @classmethod
    def no(cls, reason: str) -> Support:
        """A refusal needs a reason."""
        if not reason:
            raise ValueError("reason: got '', allowed: text that names what is not supported")
        return cls(False, reason)
