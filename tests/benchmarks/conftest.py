"""The CUDA library for CPUs, compiled once for all files of this room and of the benchmarks' tests."""

from tests.backends.cuda_on_cpu import shim, shim_library

__all__ = ["shim", "shim_library"]
