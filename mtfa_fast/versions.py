"""What a number may depend on, by its version."""

from __future__ import annotations

import platform
from importlib import metadata

from . import __version__


def versions(*packages: str) -> dict[str, str]:
    """Of mtfa-fast, Python, and those of ``packages`` that are installed; libsndfile, too, which comes in soundfile."""
    found = {"mtfa-fast": __version__, "python": platform.python_version()}
    for package in packages:
        if package == "libsndfile":
            import soundfile

            found[package] = soundfile.__libsndfile_version__
            continue
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
