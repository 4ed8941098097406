"""Torch ops ``torch.ops.mtfa_fast.*`` and a function of the same name for each."""

from ._dispatch import available_backends
from .attention_gate import attention_gate
from .upsample_add import upsample_add
from .upsample_add_gate import upsample_add_gate

__all__ = ["attention_gate", "available_backends", "upsample_add", "upsample_add_gate"]
