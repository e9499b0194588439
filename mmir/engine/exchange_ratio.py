"""Hook that logs how many channels the modalities exchange."""

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from mmir.layers.modality_shared import exchanging_norms


def exchange_ratios(model: nn.Module) -> dict[str, float]:
    """Share of the channels that are exchanged after each norm.

    It counts those of all modalities. With M of them and the partition 'disjoint', each
    may give up one in M channels, so the share is at most 1/M.

    Args:
        model: Any model that contains a shared backbone.

    Returns:
        Name of a norm -> share of its channels, from 0 to 1.
    """
    found = {
        name: torch.stack(norm.masks()).float().mean()
        for name, norm in exchanging_norms(model)
    }
    if not found:
        return {}
    values = torch.stack([*found.values()]).tolist()  # one copy from the device
    return dict(zip(found, values, strict=True))


@HOOKS.register_module()
class ExchangeRatioHook(Hook):
    """Log the share of channels that are exchanged, see :func:`exchange_ratios`.

    The mean over the layers is in the log line, as `exchange`. The share of each layer
    is the scalar `exchange/<layer>` of the message hub and of the visualizer. If it
    stays zero, the exchange does nothing: the mode 'threshold' is prone to that, see
    :class:`mmir.layers.ChannelExchange`.

    Args:
        interval (int): Number of iterations between two records; the first is at the
            first iteration.

    Raises:
        ValueError: `interval` below 1.
    """

    def __init__(self, interval: int = 50) -> None:
        if interval < 1:
            raise ValueError(f'interval must be at least 1, got {interval}')
        self.interval = interval

    def before_train(self, runner: Runner) -> None:
        """Say so if the model exchanges no channels; nothing is logged then.

        Args:
            runner (Runner): The runner.
        """
        if next(exchanging_norms(runner.model), None) is None:
            runner.logger.warning(
                'ExchangeRatioHook: the model exchanges no channels, since '
                'model.shared.channel_exchange is not set'
            )

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict | None = None,
    ) -> None:
        """Record the shares."""
        if runner.iter and not self.every_n_train_iters(runner, self.interval):
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        ratios = exchange_ratios(model)
        if not ratios:
            return
        scalars = {f'exchange/{layer}': value for layer, value in ratios.items()}
        for name, value in scalars.items():
            runner.message_hub.update_scalar(name, value)
        mean = sum(ratios.values()) / len(ratios)
        runner.message_hub.update_scalar('train/exchange', mean)
        runner.visualizer.add_scalars(scalars, step=runner.iter + 1)
