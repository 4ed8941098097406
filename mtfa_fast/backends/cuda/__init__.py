"""Kernels in CUDA C++ (csrc/cuda), called through ctypes; optional (:func:`library.explain`)."""
