"""Torch modules of the network."""

from .modules import MTFA, Hourglass, ResidualBlock
from .sednet import Head, SEDNet, Stem

__all__ = ["MTFA", "Head", "Hourglass", "ResidualBlock", "SEDNet", "Stem"]
