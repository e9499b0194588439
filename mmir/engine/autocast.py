"""Mixed precision that also works on a CPU."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS
from torch import nn


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Run the forward pass in bfloat16, on whatever device the model is.

    `AmpOptimWrapper` of the host refuses a CPU, although those with bfloat16
    instructions train about twice as fast with it. bfloat16 has the range of float32,
    so the loss needs no scaling; parameters, gradients and optimizer state stay as
    they are.

    Args:
        **kwargs: Of `mmengine.optim.OptimWrapper`.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Context of the forward pass of one step.

        Args:
            model: The model that is optimized; its first parameter names the device.
        """
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, torch.bfloat16):
            yield
