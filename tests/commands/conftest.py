"""Training begins at once in this room, too."""

from tests.experiments.toy_experiment import quick_statistics

__all__ = ["quick_statistics"]
