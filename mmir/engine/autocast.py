"""Mixed precision that also works on a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Optimizer wrapper that runs the forward pass in bfloat16, on any device.

    mmengine's `AmpOptimWrapper` rejects CPUs, although CPUs with bfloat16 instructions
    train about twice as fast with it. bfloat16 has the range of float32, so the loss
    needs no scaling. Parameters, gradients and optimizer state keep their dtype.

    Args:
        **kwargs: Arguments of `mmengine.optim.OptimWrapper`.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Context of the forward pass of one step.

        Args:
            model: The model; the device is that of its first parameter.
        """
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, torch.bfloat16):
            yield
