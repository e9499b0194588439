"""`CollapseMonitorHook`: what it records, and when it warns."""

import math
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import Dataset

from mmir.engine import CollapseMonitorHook, feature_spread
from mmir.utils.errors import UserError


class Toy(BaseModel):
    """Features are the images times a factor per iteration, plus 1."""

    def __init__(self, factors: list[float], losses: list[float]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.neck = nn.Identity()
        self.factors, self.losses = iter(factors), iter(losses)

    def forward(self, inputs: Tensor, mode: str) -> dict[str, Tensor]:
        x = torch.stack(inputs) * next(self.factors) + 1
        self.neck((x, x))
        return dict(loss_wrt=next(self.losses) + 0 * self.weight.sum())


class Images(Dataset):
    """Two images per iteration, (1, 0) and (-1, 0)."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return dict(inputs=torch.tensor([1.0 - 2 * (index % 2), 0.0]))


def log_of(folder: Path, factors: list[float], losses: list[float], **hook) -> tuple:
    """Train eight iterations; the runner and its log."""
    run = Runner(
        Toy(factors, losses),
        str(folder),
        train_dataloader=dict(
            dataset=Images(),
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        custom_hooks=[dict(type='CollapseMonitorHook') | hook],
        experiment_name=f'collapse{folder.name}',
    )
    run.train()
    (log,) = folder.glob('*/*.log')
    return run, log.read_text()


def test_length_and_spread_by_hand():
    x = torch.tensor([[3.0, 4.0], [3.0, -4.0]])
    assert feature_spread(x) == pytest.approx((5.0, 4 / 5))
    assert feature_spread(x.half()[..., None, None]) == pytest.approx((5.0, 4 / 5))
    assert feature_spread(torch.ones(3, 2)) == pytest.approx((2**0.5, 0))
    assert feature_spread(torch.zeros(3, 2)) == (0, 0)


def test_what_is_recorded(tmp_path):
    run, log = log_of(tmp_path, [1.0] * 8, [0.3] * 8, interval=2)
    # features (2, 1) and (0, 1)
    length = (5**0.5 + 1) / 2
    hub = run.message_hub
    assert hub.get_scalar('train/feature_norm').current() == pytest.approx(length)
    spread = hub.get_scalar('train/feature_spread').data[0]
    assert spread == pytest.approx([1 / length] * 4)
    assert 'collapsed' not in log
    assert not run.model.neck._forward_hooks


def test_collapsed_features_are_warned_of_once_per_collapse(tmp_path):
    factors = [1.0, 0.001, 0.001, 0.001, 1.0, 0.001, 0.001, 1.0]
    _, log = log_of(tmp_path, factors, [0.3] * 8, interval=1, patience=2)
    assert log.count('may have collapsed') == 2
    assert 'iteration 3: the features' in log
    assert 'iteration 7: the features' in log


def test_a_loss_of_ln_2_is_warned_of(tmp_path):
    losses = [0.9, *[math.log(2) + 0.001] * 3, 0.5, 0.4, 0.3, 0.2]
    _, log = log_of(tmp_path, [1.0] * 8, losses, interval=1, patience=3)
    assert log.count('may have collapsed') == 1
    assert 'iteration 4: the features' in log


def test_wrong_arguments(tmp_path):
    with pytest.raises(UserError, match=r"it has \['data_preprocessor', 'neck'\]"):
        log_of(tmp_path, [1.0] * 8, [0.3] * 8, module='necks')
    with pytest.raises(ValueError, match='at least 1'):
        CollapseMonitorHook(patience=0)
