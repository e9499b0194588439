"""Plain layers that an adapter layer can replace: torch's, and mmcv's wrappers."""

from mmcv.cnn.bricks.wrappers import Conv2d as MMCVConv2d
from mmcv.cnn.bricks.wrappers import Linear as MMCVLinear
from torch import nn

PLAIN_CONVS = (nn.Conv2d, MMCVConv2d)
"""Exact types of plain 2D convolutions: torch's, and mmcv's wrapper of it.

Test with `type(module) in PLAIN_CONVS`: other subclasses may override `forward`.
"""

PLAIN_LINEARS = (nn.Linear, MMCVLinear)
"""Exact types of plain linear layers, see `PLAIN_CONVS`.

The output projection of `nn.MultiheadAttention` is not one: its `forward` is never
called.
"""
