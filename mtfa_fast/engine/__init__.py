"""Whole-network inference: the C++ engine, the GPU engine, and what both need. Only the GPU engine needs torch."""
