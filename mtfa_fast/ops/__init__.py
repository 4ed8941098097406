"""Torch ops ``torch.ops.mtfa_fast.*`` and a function of the same name for each."""

from ._dispatch import available_backends
from .attention_gate import attention_gate
from .bigru import bigru
from .conv3x3 import conv3x3
from .detect_runs import detect_runs
from .log_mel import log_mel
from .median_filter import median_filter
from .residual_block import residual_block
from .residual_block_train import residual_block_train
from .upsample_add import upsample_add
from .upsample_add_gate import upsample_add_gate

__all__ = [
    "attention_gate",
    "available_backends",
    "bigru",
    "conv3x3",
    "detect_runs",
    "log_mel",
    "median_filter",
    "residual_block",
    "residual_block_train",
    "upsample_add",
    "upsample_add_gate",
]
