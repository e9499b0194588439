"""Operators of `mmcv.ops` in plain torch and torchvision, one file per family.

Names, positional order, keywords and in-place outputs match the compiled functions
(onedl-mmcv 2.3.6, mmcv 2.1.0), on any device. Reduced-precision inputs are computed in
float32 and rounded once. `mmir/compat/ops_finder.py` says why they exist and when to
delete them.
"""

import torch
from torch import Tensor

__all__ = ['at_least_fp32']


def at_least_fp32(tensor: Tensor) -> Tensor:
    """Return float32 and float64 tensors unchanged, all others as float32."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
