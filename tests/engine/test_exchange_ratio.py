"""Log of the share of exchanged channels."""

import json
from pathlib import Path

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import Dataset

from mmir.engine import ExchangeRatioHook, exchange_ratios
from mmir.layers import ChannelExchange, ModalityNorm
from mmir.layers.presence import ModalityRoute, Presence

NAMES = 'rgb', 'ir'


class Toy(BaseModel):
    """Two norms with exchange, of 8 and 4 channels."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.route = ModalityRoute(NAMES)
        exchange = ChannelExchange(**options) if options else None
        self.low = nn.Sequential(
            nn.Conv2d(3, 8, 1), ModalityNorm(nn.BatchNorm2d(8), self.route, exchange)
        )
        self.high = nn.Sequential(
            nn.Conv2d(8, 4, 1), ModalityNorm(nn.BatchNorm2d(4), self.route, exchange)
        )

    def forward(self, inputs: Tensor, mode: str) -> dict[str, Tensor]:
        x = torch.stack(inputs)
        parts = dict(zip(NAMES, x.chunk(2, 1), strict=True))
        presence = Presence.of(NAMES, len(x))
        maps = self.route.run(lambda y: self.high(self.low(y)), parts, presence)
        return dict(
            loss=sum(level.square().mean() for y in maps.values() for level in y)
        )


class Images(Dataset):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return dict(inputs=torch.full((6, 4, 4), float(index)))


def runner(model: nn.Module, folder: Path, hook: Hook) -> Runner:
    return Runner(
        model,
        str(folder),
        train_dataloader=dict(
            dataset=Images(),
            batch_size=2,
            sampler=dict(type='DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
        custom_hooks=[hook],
        visualizer=dict(
            type='Visualizer', vis_backends=[dict(type='LocalVisBackend')], name='ratio'
        ),
        experiment_name=f'ratio{hook.interval}{folder.name}',
    )


def set_scales(model: Toy) -> None:
    with torch.no_grad():
        for norm, small in ((model.low[1], 3), (model.high[1], 1)):
            norm.copies['rgb'].weight[:small] = 0.001
            norm.copies['ir'].weight[-1:] = -0.001


def test_ratios_by_hand() -> None:
    model = Toy(mode='threshold')
    assert set(exchange_ratios(model).values()) == {0}
    set_scales(model)
    # rgb gives up three of 8 and one of 4 channels, infrared one of each
    assert exchange_ratios(model) == {'low.1': 4 / 16, 'high.1': 2 / 8}
    assert exchange_ratios(Toy(mode='quantile', quantile=0.5)) == {
        'low.1': 2 * 2 / 16,
        'high.1': 2 * 1 / 8,
    }
    assert exchange_ratios(Toy()) == {}


def test_log_hub_and_visualizer(tmp_path: Path) -> None:
    model = Toy(mode='threshold')
    set_scales(model)
    with torch.no_grad():
        model.low[1].copies['rgb'].weight[3] = 0.001
    run = runner(model, tmp_path, ExchangeRatioHook(interval=2))
    run.train()
    history = run.message_hub.get_scalar('exchange/low.1').data[0]
    assert list(history) == [5 / 16] * 3  # iterations 1, 2 and 4
    mean = run.message_hub.get_scalar('train/exchange').current()
    assert mean == pytest.approx((5 / 16 + 2 / 8) / 2)
    (lines,) = tmp_path.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in lines.read_text().splitlines()]
    ours = [row for row in rows if 'exchange/high.1' in row]
    assert [row['step'] for row in ours] == [1, 2, 4]
    assert ours[0]['exchange/high.1'] == 2 / 8
    (log,) = tmp_path.glob('*/*.log')
    assert 'exchange: 0.2812' in log.read_text()


def test_a_model_without_exchange_is_warned_of(tmp_path: Path) -> None:
    run = runner(Toy(), tmp_path, ExchangeRatioHook())
    run.train()
    assert 'train/exchange' not in run.message_hub.log_scalars
    (log,) = tmp_path.glob('*/*.log')
    assert log.read_text().count('exchanges no channels') == 1


def test_bad_interval() -> None:
    with pytest.raises(ValueError, match='at least 1, got 0'):
        ExchangeRatioHook(interval=0)
