"""Hook that warns when a metric-learning model maps all images to one feature."""

import math
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from mmir.utils.errors import UserError

_LEAST_SPREAD = 0.02
"""Below, features point in the same direction to within a cosine of about 0.9998."""

_LOSS, _NEAR_LN_2 = 'loss_wrt', 0.005
"""Loss without margin, and how close to ln 2 it is when nothing is told apart."""


def feature_spread(features: Tensor) -> tuple[float, float]:
    """Mean length of the features of a batch, and their spread.

    Args:
        features (Tensor): Features (N, ...); all but the first dimension is flattened.

    Returns:
        tuple[float, float]: Mean length; and the mean distance to the mean feature,
        divided by the mean length. A spread of 0 means that all are equal.
    """
    x = features.detach().flatten(1).float()
    length = x.norm(dim=1).mean()
    away = (x - x.mean(0)).norm(dim=1).mean()
    size, spread = torch.stack([length, away / length.clamp(min=1e-12)]).tolist()
    return size, spread


@HOOKS.register_module()
class CollapseMonitorHook(Hook):
    """Log length and spread of the features, and warn when they collapse to a point.

    A metric loss can be minimized for a while by contracting all features; retrieval is
    then random (Rank-1 of about 1 %), while the loss looks calm. The log shows
    `feature_norm` and `feature_spread`, see :func:`feature_spread`. The hook warns once
    if, in several records in a row, the spread is below 0.02, or `loss_wrt` is within
    0.005 of ln 2 = 0.693, its value when all distances are equal. It warns again after
    a recovery.

    In distributed training, each process looks at its own images.

    Args:
        module (str): Name of the module in the model whose output is watched. Of a
            tuple, it is the last entry.
        interval (int): Number of iterations between two records.
        patience (int): Number of suspicious records in a row before the warning.

    Raises:
        ValueError: `interval` or `patience` below 1.
    """

    def __init__(
        self, module: str = 'neck', interval: int = 50, patience: int = 5
    ) -> None:
        if min(interval, patience) < 1:
            raise ValueError(
                f'interval and patience must be at least 1, got {interval}, {patience}'
            )
        self.module, self.interval, self.patience = module, interval, patience
        self._in_a_row = 0
        self._features: Tensor | None = None
        self._handle: Any = None

    def before_train(self, runner: Runner) -> None:
        """Begin to watch.

        Args:
            runner (Runner): The runner.

        Raises:
            UserError: The model has no such module.
        """
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        known = dict(model.named_modules())
        if self.module not in known:
            names = [name for name, _ in model.named_children()]
            raise UserError(
                f'CollapseMonitorHook(module={self.module!r}): the model has no such '
                f'module; it has {names} and what they contain'
            )
        self._handle = known[self.module].register_forward_hook(self._keep)

    def after_train(self, runner: Runner) -> None:
        """Stop watching.

        Args:
            runner (Runner): The runner.
        """
        self._handle.remove()

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Tensor] | None = None,
    ) -> None:
        """Record the features of a step, every `interval` iterations.

        Args:
            runner (Runner): The runner.
            batch_idx (int): Index of the batch.
            data_batch (Any): The batch.
            outputs (dict[str, Tensor], optional): Loss terms.
        """
        features, self._features = self._features, None
        if features is None or not self.every_n_train_iters(runner, self.interval):
            return
        length, spread = feature_spread(features)
        runner.message_hub.update_scalar('train/feature_norm', length)
        runner.message_hub.update_scalar('train/feature_spread', spread)
        loss = float(torch.as_tensor((outputs or {}).get(_LOSS, math.nan)).detach())
        bad = spread < _LEAST_SPREAD or abs(loss - math.log(2)) < _NEAR_LN_2
        self._in_a_row = self._in_a_row + 1 if bad else 0
        if self._in_a_row == self.patience:
            runner.logger.warning(
                f'iteration {runner.iter + 1}: the features may have collapsed. In '
                f'{self.patience} records in a row, they hardly differ: spread '
                f'{spread:.3g} of a length of {length:.3g}, {_LOSS} {loss:.4f} '
                '(ln 2 = 0.6931 when nothing is told apart). Check that pretrained '
                'weights were loaded and that labels and modalities are right; use '
                'WRTLoss without legacy=True, and a lower learning rate or a longer '
                'warm-up'
            )

    def _keep(self, module: nn.Module, args: tuple, out: Any) -> None:
        """Keep the output of the watched module in training."""
        if module.training:
            out = out[-1] if isinstance(out, tuple | list) else out
            self._features = out.detach()
