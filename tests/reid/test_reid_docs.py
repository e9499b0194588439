"""The configs on the page of re-identification run, on synthetic people."""

import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmir.testing.scenes.reid_layouts import write_reid_set

PAGE = Path(__file__).parents[2] / 'docs/reid_protocol.md'
BLOCK = re.compile(r'<!-- config: \w+ -->\n```python\n(.*?)```', re.DOTALL)


class Colors(BaseModel):
    """Features are the brightness of a coarse grid, without its mean."""

    def forward(self, inputs, data_samples, mode='tensor'):
        for image, sample in zip(inputs, data_samples, strict=True):
            gray = image.float().mean(0, keepdim=True)
            coarse = torch.nn.functional.adaptive_avg_pool2d(gray, (12, 4)).flatten()
            sample.set_field(coarse - coarse.mean(), 'feature')
        return data_samples


@pytest.fixture
def cfg(tmp_path, monkeypatch):
    """The configs of the page, with small images and loaders without workers."""
    known = DefaultScope._instance_dict
    monkeypatch.setattr(DefaultScope, '_instance_dict', known.copy())
    root = write_reid_set('SYSUMM01', tmp_path / 'sysu', 9, 6, 2, progress=False)
    text = '\n'.join(BLOCK.findall(PAGE.read_text()))
    text = text.replace('data/SYSU-MM01', str(root)).replace('(144, 288)', '(24, 48)')
    text = text.replace('num_workers=2', 'num_workers=0')
    (tmp_path / 'cfg.py').write_text(text)
    return Config.fromfile(tmp_path / 'cfg.py')


def test_a_test_run(cfg, tmp_path):
    runner = Runner(
        model=Colors(),
        work_dir=str(tmp_path / 'work'),
        test_dataloader=cfg.test_dataloader,
        test_evaluator=cfg.test_evaluator,
        test_cfg=cfg.test_cfg,
        default_scope='mmpretrain',
        log_level='WARNING',
        experiment_name='page',
    )
    found = runner.test()
    for name in ('sysu_all_agw', 'sysu_indoor_agw'):
        assert 0 < found[f'{name}/mAP'] < 100
        assert found[f'{name}/R20'] == 100  # fewer people than ranks
    assert len(found) == 18


def test_training_batches(cfg):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        batch = next(iter(Runner.build_dataloader(cfg.train_dataloader)))
    samples = batch['data_samples']
    assert len(batch['inputs']) == 64
    assert [s.modality for s in samples] == ['rgb'] * 32 + ['ir'] * 32
    assert [s.pid for s in samples[:32]] == [s.pid for s in samples[32:]]


def test_a_training_run(cfg, tmp_path):
    """The model of the page learns from its batches and is tested by its protocols."""
    cfg.model.backbone.backbone.update(base_channels=8, stem_channels=8)
    cfg.model.head.in_channels = 64
    cfg.train_dataloader.batch_size = 8
    cfg.train_dataloader.sampler.update(ids_per_batch=2, images_per_id=2)
    runner = Runner(
        model=cfg.model,
        work_dir=str(tmp_path / 'work'),
        train_dataloader=cfg.train_dataloader,
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)),
        test_dataloader=cfg.test_dataloader,
        test_evaluator=cfg.test_evaluator,
        test_cfg=cfg.test_cfg,
        custom_hooks=[dict(cfg.custom_hooks[0], interval=1)],
        default_scope='mmpretrain',
        log_level='WARNING',
        experiment_name='page-train',
    )
    runner.train()
    losses = runner.message_hub.log_scalars
    assert {'train/loss_id', 'train/loss_wrt', 'train/feature_spread'} <= losses.keys()
    found = runner.test()
    assert 0 < found['sysu_all_agw/mAP'] < 100
    assert len(found) == 18
