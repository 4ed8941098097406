"""Fixtures that the commands' tests share with the experiments'."""

from tests.experiments.toy_experiment import quick_statistics

__all__ = ["quick_statistics"]
