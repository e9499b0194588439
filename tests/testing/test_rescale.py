"""Schedules and image sizes are changed everywhere at once."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmir.testing.rescale import set_image_scale, set_schedule

CONFIGS = Path(__file__).resolve().parents[2] / 'configs/tensorfact'


@pytest.fixture
def cfg() -> Config:
    return Config.fromfile(CONFIGS / 'yolo_rgb.py')


def test_schedule_stretches_everything_that_counts_epochs(cfg: Config) -> None:
    set_schedule(cfg, epochs=400, batch_size=8)
    assert cfg.train_cfg.max_epochs == 400
    assert cfg.train_dataloader.batch_size == 8
    warm, cosine = cfg.param_scheduler
    assert (warm.begin, warm.end) == (0, 6)
    assert (cosine.begin, cosine.end, cosine.T_max) == (6, 400, 394)
    switch = next(h for h in cfg.custom_hooks if h.type == 'YOLOXModeSwitchHook')
    assert switch.num_last_epochs == 40


def test_a_short_schedule_keeps_a_warm_up(cfg: Config) -> None:
    set_schedule(cfg, epochs=10, batch_size=8)
    warm, cosine = cfg.param_scheduler
    assert (warm.begin, warm.end) == (0, 1)
    assert (cosine.begin, cosine.end, cosine.T_max) == (1, 10, 9)
    assert cfg.train_cfg.val_interval == 2


def test_a_single_epoch_is_all_warm_up(cfg: Config) -> None:
    set_schedule(cfg, epochs=1, batch_size=8)
    assert [s.type for s in cfg.param_scheduler] == ['LinearLR']
    assert cfg.param_scheduler[0].end == 1


def test_image_scale_reaches_every_transform(cfg: Config) -> None:
    before = cfg.model.bbox_head.obj_weight
    set_image_scale(cfg, (320, 160))
    train = {t.type.split('.')[-1]: t for t in cfg.train_dataloader.dataset.pipeline}
    assert train['Mosaic'].img_scale == (320, 160)
    assert train['CachedMixUp'].img_scale == (320, 160)
    assert train['Resize'].scale == (320, 160)
    assert train['Pad'].size == (320, 160)
    assert train['CenteredRandomAffine'].border == (-160, -80)
    for key in ('val_dataloader', 'test_dataloader'):
        test = {t.type.split('.')[-1]: t for t in cfg[key].dataset.pipeline}
        assert test['Resize'].scale == (320, 160)
    # a quarter of the width, half of the height: an eighth of the area
    assert cfg.model.bbox_head.obj_weight == pytest.approx(before / 8)


def test_multiples_of_the_image_size_stay_multiples() -> None:
    cfg = Config.fromfile(CONFIGS / 'rtmdet-tiny_flir_1pct.py')
    cfg.test_dataloader = cfg.val_dataloader  # shared: scaled once
    set_image_scale(cfg, (320, 160))
    train = {t.type: t for t in cfg.train_dataloader.dataset.pipeline}
    assert train['CachedMosaic'].img_scale == (320, 160)
    assert train['RandomResize'].scale == (640, 320)
    assert train['RandomCrop'].crop_size == (320, 160)
    test = {t.type: t for t in cfg.val_dataloader.dataset.pipeline}
    assert test['mmdet.Resize'].scale == test['mmdet.Pad'].size == (320, 160)


def test_a_stock_schedule_is_stretched_too() -> None:
    cfg = Config.fromfile(CONFIGS / 'faster-rcnn_r50_flir_1pct.py')
    set_schedule(cfg, epochs=10, batch_size=2)  # of 100
    assert cfg.param_scheduler[1].milestones == [7, 9]
    cfg = Config.fromfile(CONFIGS / 'rtmdet-tiny_flir_1pct.py')
    set_schedule(cfg, epochs=10, batch_size=2)  # of 200
    switch = next(h for h in cfg.custom_hooks if h.type == 'PipelineSwitchHook')
    assert switch.switch_epoch == 9


def test_the_heads_of_late_fusion_are_scaled_once() -> None:
    cfg = Config.fromfile(CONFIGS.parent / 'fusion/yolo-tiny_flir_pair_late.py')
    alone = Config.fromfile(CONFIGS.parent / 'fusion/yolo-tiny_flir_pair_ir.py')
    for each in (cfg, alone):
        set_image_scale(each, (320, 160))
    weight = alone.model.bbox_head.obj_weight
    assert weight == pytest.approx(1 / 8)
    assert [d.bbox_head.obj_weight for d in cfg.model.detectors.values()] == [
        weight
    ] * 2
    paired = cfg.train_dataloader.dataset.pipeline
    assert paired[0].transforms.img_scale == (320, 160)
    assert paired[-3].transforms[1].scale == (320, 160)
