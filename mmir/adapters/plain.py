"""Layers an adapter layer can stand on: those that compute what torch's class does."""

from mmcv.cnn.bricks.wrappers import Conv2d as MMCVConv2d
from mmcv.cnn.bricks.wrappers import Linear as MMCVLinear
from torch import nn

PLAIN_CONVS = (nn.Conv2d, MMCVConv2d)
"""Exact types of plain 2D convolutions: torch's, and mmcv's wrapper of it.

Ask `type(module) in PLAIN_CONVS`: other subclasses have a forward of their own.
"""

PLAIN_LINEARS = (nn.Linear, MMCVLinear)
"""Exact types of plain linear layers, see `PLAIN_CONVS`.

The output projection of `nn.MultiheadAttention` is none: its forward is never called.
"""
