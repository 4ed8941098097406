"""What may be wrong with a recording: an error where it cannot be used, a warning where it can."""

from __future__ import annotations


class AudioError(ValueError):
    """Audio that cannot be used; the message names the file or argument and the reason."""


class AudioWarning(UserWarning):
    """Audio that is used although something is wrong with it; the message names the file and what was done.

    Given through :mod:`warnings`: ``warnings.simplefilter("error", AudioWarning)`` refuses such files. The command line
    prints each as a line of its own.
    """
