"""The network in other runtimes' files: ONNX, ``torch.export``'s pt2 and AOTInductor's packages, verified when written.

Stands on ``nn``, ``ops`` and ``checking``; imported by the ``export`` command. Needs torch, and onnx for ONNX.
The public face: ``export`` (``write``), ``onnx_translations`` (``onnx_ops``) for a network of your own.
"""

from .onnx_ops import onnx_translations
from .write import FORMATS, export

__all__ = ["FORMATS", "export", "onnx_translations"]
