"""Archives of any size: the detector on Ray Data, on one machine or many, into Parquet datasets (docs/scale.md)."""

from .run import Summary, detect
from .worker import Report

__all__ = ["Report", "Summary", "detect"]
