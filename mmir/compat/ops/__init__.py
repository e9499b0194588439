"""Operators of `mmcv.ops` in plain torch and torchvision, one file a family.

They have the names, the positional order, the keywords and the in-place outputs of
the compiled functions (onedl-mmcv 2.3.6, mmcv 2.1.0), on any device. Reduced precision
is computed in float32 and rounded once. Why they exist and when to delete them:
`mmir/compat/ops_finder.py`.
"""

import torch
from torch import Tensor

__all__ = ['at_least_fp32']


def at_least_fp32(tensor: Tensor) -> Tensor:
    """Return float64 and float32 tensors as they are, all others in float32."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()
