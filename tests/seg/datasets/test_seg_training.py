"""The whole chain: a small segmentor learns on pairs and is evaluated."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmseg.models import EncoderDecoder, FCNHead, ResNet  # noqa: F401 - registered

from mmir.seg import PairedSegDataPreprocessor  # noqa: F401 - registered
from mmir.seg.datasets import MSRSDataset  # noqa: F401 - registered
from mmir.testing.scenes.seg_layouts import write_msrs

MODALITIES = dict(
    rgb=dict(mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4], bgr_to_rgb=True),
    ir=dict(mean=100.0, std=50.0, channels=1),
)


def config(root, work_dir):
    load = [
        dict(
            type='mmir.LoadPairedImages',
            modalities=dict(rgb={}, ir=dict(channels=1)),
        ),
        dict(type='LoadAnnotations'),
    ]
    crop = dict(type='RandomCrop', crop_size=(64, 64), cat_max_ratio=0.99)
    augment = dict(
        type='mmir.PairedTransform',
        transforms=[crop, dict(type='RandomFlip', prob=0.5)],
    )
    pack = dict(type='mmir.PackPairedInputs')

    def loader(split, pipeline, size):
        return dict(
            batch_size=size,
            num_workers=0,
            sampler=dict(type='DefaultSampler', shuffle=split == 'train'),
            dataset=dict(
                type='mmir.MSRSDataset', data_root=root, split=split, pipeline=pipeline
            ),
        )

    conv = dict(norm_cfg=dict(type='BN'), num_classes=9, align_corners=False)
    return Config(
        dict(
            default_scope='mmseg',
            model=dict(
                type='EncoderDecoder',
                data_preprocessor=dict(
                    type='mmir.PairedSegDataPreprocessor',
                    modalities=MODALITIES,
                    size=(64, 64),
                ),
                backbone=dict(
                    type='ResNet', depth=18, in_channels=4, stem_channels=8,
                    base_channels=8, norm_cfg=dict(type='BN'),
                ),
                decode_head=dict(
                    type='FCNHead', in_channels=64, channels=16, num_convs=1,
                    in_index=3, concat_input=False, **conv,
                ),
                test_cfg=dict(mode='whole'),
            ),
            train_dataloader=loader('train', [*load, augment, pack], 2),
            val_dataloader=loader('test', [*load, pack], 1),
            val_evaluator=dict(type='IoUMetric', iou_metrics=['mIoU']),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=6, val_interval=6),
            val_cfg=dict(type='ValLoop'),
            optim_wrapper=dict(optimizer=dict(type='Adam', lr=3e-3)),
            default_hooks=dict(logger=dict(type='LoggerHook', interval=1)),
            log_processor=dict(by_epoch=False),
            randomness=dict(seed=0),
            work_dir=work_dir,
            experiment_name='pairs',
        )
    )  # fmt: skip


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_training_on_pairs(tmp_path, threads):
    init_default_scope('mmseg')
    options = dict(train=4, test=2, size=(96, 72), progress=False)
    root = str(write_msrs(tmp_path / 'MSRS', **options))
    runner = Runner.from_cfg(config(root, str(tmp_path / 'work')))
    before = runner.model.backbone.conv1.weight.clone()
    runner.train()
    hub = MessageHub.get_current_instance()
    losses = np.array(hub.get_scalar('train/loss').data[0])
    assert len(losses) == 6
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    # the thermal channel is trained too
    change = (runner.model.backbone.conv1.weight - before).abs().amax((0, 2, 3))
    assert change.shape == (4,)
    assert (change > 0).all()
    metrics = {
        key: hub.get_scalar(f'val/{key}').current() for key in ('aAcc', 'mIoU', 'mAcc')
    }
    assert all(0 <= value <= 100 for value in metrics.values())
    assert metrics['aAcc'] > 50  # most of an image is unlabeled
