"""Adapters in the precision of their parameters, whatever the autocast context."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn


def own_precision(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Decorate `forward` of a small module, so that autocast leaves it alone.

    Autocast casts input and weights of every convolution and linear layer. In modules
    of low rank there is little to gain, and starting a cast takes as long on a GPU as
    starting the layer.

    Args:
        forward: Method of a module whose first argument is a tensor. Its floating-point
            tensors are cast to the dtype of the module's parameters.
    """

    @wraps(forward)
    def call(module: nn.Module, x: Tensor, *args: Any) -> Tensor:
        if not torch.is_autocast_enabled(x.device.type):
            return forward(module, x, *args)
        dtype = next(module.parameters()).dtype
        args = (a.to(dtype) if isinstance(a, Tensor) else a for a in args)
        with torch.autocast(x.device.type, enabled=False):
            return forward(module, x.to(dtype), *args)

    return call
