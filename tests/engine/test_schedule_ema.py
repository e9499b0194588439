"""The moving average fits the length of the training."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.registry import HOOKS
from torch import nn

from mmir.engine import ScheduleEMAHook


def started(max_iters: int, **options: object) -> ScheduleEMAHook:
    pytest.importorskip('mmdet.models')
    average = dict(ema_type='mmdet.ExpMomentumEMA')
    hook = HOOKS.build(dict(type='mmir.ScheduleEMAHook', **average, **options))
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    hook.before_run(SimpleNamespace(model=model, max_iters=max_iters))
    return hook


@pytest.mark.parametrize(
    ('max_iters', 'momentum', 'gamma'),
    [
        (400, 1 / 40, 40),  # 62 images, batches of 40, 200 epochs
        (600_000, 1e-4, 2000),  # the published average
        (3, 0.5, 1),
    ],
)
def test_momentum_and_warm_up(max_iters: int, momentum: float, gamma: int) -> None:
    average = started(max_iters).ema_model
    assert average.momentum == pytest.approx(momentum)
    assert average.gamma == gamma


def test_the_average_is_that_of_the_host() -> None:
    hook = started(1000, horizon=0.02)  # 20 iterations
    average, model = hook.ema_model, hook.src_model
    expected, steps = 0.0, 30
    with torch.no_grad():
        for step in range(steps):
            model.weight.fill_(step)
            average.update_parameters(model)
            if step == 0:  # the host copies the first weights
                expected = float(step)
                continue
            momentum = 0.95 * torch.exp(torch.tensor(-(1 + step) / 20)) + 0.05
            expected += float(momentum) * (step - expected)
    assert average.module.weight.item() == pytest.approx(expected, rel=1e-5)
    assert hook.ema_cfg['type'] == 'mmdet.ExpMomentumEMA'
