"""What trains and what stays in a stage that adapts a model to another modality."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from mmengine.model import is_model_wrapper
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .tensorfact import TensorFactConv

HEADS = r'(^|\.)(\w+_)?heads?(\.|$)'
"""Regular expression that finds the heads of the hosts' models by module name."""

BN_POLICIES = {
    'all': (True, True),
    'affine': (True, False),
    'stats': (False, True),
    'frozen': (False, False),
}
"""Whether weight and bias, and whether running statistics of batch norms change."""


class FrozenBatchNorm(nn.Module):
    """A batch norm whose running statistics never change, whatever the mode.

    It takes over parameters, buffers and hooks of the batch norm, so the keys of
    the state dict stay. It is no subclass of a batch norm on purpose: conversion to
    synchronised batch norm would otherwise thaw it.

    Args:
        bn: Batch norm with running statistics; not to be used any more.
    """

    def __init__(self, bn: _BatchNorm) -> None:
        super().__init__()
        self.__dict__.update(bn.__dict__)
        self.original = type(bn)
        self.train(False)

    def thaw(self) -> _BatchNorm:
        """Return the batch norm this module was made of, with its tensors."""
        bn = self.original.__new__(self.original)
        bn.__dict__.update(self.__dict__)
        del bn.__dict__['original']
        return bn

    def train(self, mode: bool = True) -> 'FrozenBatchNorm':
        """Stay in evaluation; hosts that fold batch norms look at the flag."""
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise `x` (N, C, ...) by the running statistics."""
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=False,
            eps=self.eps,
        )

    def extra_repr(self) -> str:
        """Size, and what it was."""
        return f'{self.num_features}, eps={self.eps}, was={self.original.__name__}'
