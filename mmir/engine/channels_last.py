"""Hook for training in the channels-last memory format."""

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class ChannelsLastHook(Hook):
    """Convert the weights of the model to the channels-last memory format.

    The values stay the same, and activations follow the format of the first
    convolution. On a CPU with bfloat16 instructions and `AutocastOptimWrapper`, a
    YOLOv7-tiny trains more than twice as fast as in the default format and float32.
    """

    priority = 'VERY_HIGH'

    def before_run(self, runner: Runner) -> None:
        """Convert the model, before the first checkpoint is loaded."""
        runner.model.to(memory_format=torch.channels_last)
