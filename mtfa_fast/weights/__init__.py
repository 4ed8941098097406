"""One file per detector, and the files that come with the package, which lie beside this one."""

from .file import Weights, find, shipped
from .quantized import map_of, quantized_convolutions, quantized_shapes
from .shapes import expected_shapes

__all__ = ["Weights", "expected_shapes", "find", "map_of", "quantized_convolutions", "quantized_shapes", "shipped"]
