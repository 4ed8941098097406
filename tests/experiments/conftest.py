"""The toy experiment's sources, made once for all files of this room."""

from tests.experiments.toy_experiment import quick_statistics, toy_sources

__all__ = ["quick_statistics", "toy_sources"]
