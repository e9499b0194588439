"""Moving average of the weights with a horizon relative to the training length."""

from typing import Any

from mmengine.hooks import EMAHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@HOOKS.register_module()
class ScheduleEMAHook(EMAHook):
    """`EMAHook` whose average looks back over a fraction of the training.

    The decay of the published detectors, 0.9999, is made for hundreds of thousands of
    iterations; over the few hundred of a few-shot stage such an average would stay near
    the initial weights. Here the momentum follows from the number of iterations.

    Args:
        horizon: Fraction of all iterations the average looks back over. The average is
            warmed up over the same number of iterations, at most 2000.
        ema_type: Averaged model with `momentum` and `gamma`, such as that of mmdet.
        **kwargs: Other arguments of `EMAHook` and of the averaged model, except
            `momentum` and `gamma`.
    """

    def __init__(
        self, horizon: float = 0.1, ema_type: str = 'ExpMomentumEMA', **kwargs: Any
    ) -> None:
        super().__init__(ema_type=ema_type, **kwargs)
        self.horizon = horizon

    def before_run(self, runner: Runner) -> None:
        """Create the average, with momentum 1 / iterations clamped to [1e-4, 0.5]."""
        iterations = max(1, round(self.horizon * runner.max_iters))
        self.ema_cfg['momentum'] = min(0.5, max(1e-4, 1 / iterations))
        self.ema_cfg['gamma'] = min(2000, iterations)
        super().before_run(runner)
