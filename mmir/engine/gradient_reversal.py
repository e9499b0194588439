"""Schedule of gradient reversal layers."""

from typing import Any

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from mmir.layers.gradient_reversal import GradientReversal, dann_rate


@HOOKS.register_module()
class GradientReversalHook(Hook):
    """Raise the rate of all gradient reversal layers from 0 to 1 during training.

    The rate is `2 / (1 + exp(-10 p)) - 1` after the share p of all iterations, as in
    DANN. Without this hook it is 1 from the beginning.
    """

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None
    ) -> None:
        """Set the rate.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Number of the batch in the epoch.
            data_batch (Any): The batch.
        """
        rate = dann_rate(runner.iter / runner.max_iters)
        for module in runner.model.modules():
            if isinstance(module, GradientReversal):
                module.rate = rate
        runner.message_hub.update_scalar('train/reversal_rate', rate)
