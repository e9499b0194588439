"""Schedules and image sizes are changed everywhere at once."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmir.testing.rescale import (
    drop_late_schedulers,
    scale_training,
    set_crop_size,
    set_image_scale,
    set_schedule,
)

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


def test_what_changed_and_what_was_left_is_told(cfg: Config) -> None:
    cfg.custom_hooks.append(dict(type='EMAHook', begin_epoch=50))
    cfg.custom_hooks.append(dict(type='Mine', freeze_epochs=7))
    changed, left = scale_training(cfg, 20)  # of 200
    assert changed == [
        'train_cfg.val_interval: 20 -> 2',
        'param_scheduler.0.end: 3 -> 1',
        'param_scheduler.1.begin: 3 -> 1',
        'param_scheduler.1.end: 200 -> 20',
        'param_scheduler.1.T_max: 197 -> 19',
        'default_hooks.checkpoint.interval: 10 -> 1',
        'custom_hooks.4.num_last_epochs: 20 -> 2',
        'custom_hooks.5.begin_epoch: 50 -> 5',
    ]
    assert left == ['custom_hooks.6.freeze_epochs']
    assert cfg.max_epochs == cfg.train_cfg.max_epochs == 20


def test_two_epochs_keep_mosaic_in_the_first(cfg: Config) -> None:
    scale_training(cfg, 2)
    hook = cfg.custom_hooks[4]  # without mosaic are num_last_epochs and one more
    assert (hook.type, hook.num_last_epochs) == ('YOLOXModeSwitchHook', 0)


def test_a_warm_up_in_iterations_keeps_its_share() -> None:
    cfg = Config.fromfile(CONFIGS / 'rtmdet-tiny_flir_1pct.py')
    scale_training(cfg, 100)  # of 200
    warm, cosine = cfg.param_scheduler
    assert (warm.begin, warm.end) == (0, 40)
    assert (cosine.begin, cosine.end, cosine.T_max) == (50, 100, 50)


def test_a_loop_of_iterations_and_schedulers_by_optimizer() -> None:
    poly = dict(type='PolyLR', begin=1500, end=160_000, by_epoch=False)
    forever = dict(type='StepLR', step_size=1000, by_epoch=False, end=float('inf'))
    cfg = Config(
        dict(
            train_cfg=dict(
                type='IterBasedTrainLoop', max_iters=160_000, val_interval=16_000
            ),
            param_scheduler=dict(first=[poly], second=forever),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', interval=16_000)),
        )
    )
    changed, _ = scale_training(cfg, 1600)
    assert cfg.train_cfg.val_interval == cfg.default_hooks.checkpoint.interval == 160
    assert (cfg.param_scheduler.first[0].begin, cfg.param_scheduler.first[0].end) == (
        15,
        1600,
    )
    assert cfg.param_scheduler.second.step_size == 10
    assert cfg.param_scheduler.second.end == float('inf')
    assert 'param_scheduler.second.step_size: 1000 -> 10' in changed
    drop_late_schedulers(cfg)
    assert len(cfg.param_scheduler) == 2


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


def test_iterations_are_scaled_like_epochs() -> None:
    cfg = Config.fromfile(CONFIGS.parent / 'ivtuning/upernet-vit-b_mfnet.py')
    set_schedule(cfg, 400, batch_size=2)  # of 40,000
    assert cfg.train_cfg.max_iters == 400
    assert (cfg.train_cfg.val_interval, cfg.default_hooks.checkpoint.interval) == (
        80,
        80,
    )
    warm, poly = cfg.param_scheduler
    assert (warm.begin, warm.end) == (0, 15)
    assert (poly.begin, poly.end) == (15, 400)


def test_crops_of_segmentation_keep_their_proportions() -> None:
    cfg = Config.fromfile(CONFIGS.parent / 'ivtuning/upernet-vit-b_mfnet.py')
    set_crop_size(cfg, 256)  # of 512
    assert cfg.model.data_preprocessor.size == (256, 256)
    assert cfg.model.test_cfg.crop_size == (256, 256)
    assert cfg.model.test_cfg.stride == (170, 170)
    assert cfg.model.backbone.backbone.img_size == 256
    resize, crop, _ = cfg.train_dataloader.dataset.pipeline[2].transforms
    assert (resize.scale, crop.crop_size) == ((1024, 256), (256, 256))
    for loader in (cfg.val_dataloader, cfg.test_dataloader):
        assert loader.dataset.pipeline[1].transforms.scale == (1024, 256)


def test_lists_of_sizes_and_smaller_crops_are_scaled() -> None:
    cfg = Config.fromfile(CONFIGS.parent / 'ivtuning/dino-swin-l_m3fd.py')
    set_image_scale(cfg, (320, 320))  # of 640
    choice = cfg.train_dataloader.dataset.pipeline[2].transforms[1].transforms
    assert choice[0][0].scales[0] == (240, 320)
    assert choice[0][0].scales[-1] == (400, 320)
    assert choice[1][1].crop_size == (192, 300)
    assert cfg.test_dataloader.dataset.pipeline[1].transforms.scale == (320, 320)
