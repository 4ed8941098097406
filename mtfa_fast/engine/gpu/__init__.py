"""The GPU engine: wave or spectrogram in, probabilities or events out, everything in between on the device."""

from .engine import Detections, GpuEngine
from .stream import GpuStream

__all__ = ["Detections", "GpuEngine", "GpuStream"]
