"""Fusion of detectors that know COCO: YOLOX-nano on pairs, day and night."""

from pathlib import Path

from mmengine.config import Config

from mmir.cli.stages import ROOT
from mmir.testing.rescale import set_image_scale, set_schedule

METRIC = 'coco/bbox_mAP_50'
DETAILS = (
    'coco/bbox_mAP',
    'coco/person_precision',
    'coco/bicycle_precision',
    'coco/car_precision',
)
STRENGTHS = ()  # no corruptions
VALUE_RANGES = None
# rate and batch of the row `full` in coco_transfer.py, chosen on held-out images
SCALE, BATCH_SIZE, EPOCHS, RATE = (320, 256), 4, 6, 3e-4
DROP = dict(type='mmir.DropModality', probs=dict(rgb=0.2, ir=0.2))
EXCHANGE = dict(channel_exchange=dict(mode='quantile', quantile=0.1))
ROWS: dict[str, dict] = {
    'rgb': dict(type='mmir.SingleModality', modality='rgb'),
    'ir': dict(type='mmir.SingleModality', modality='ir'),
    'early': dict(type='mmir.EarlyFusion'),
    'add': {},  # two backbones
    'add_drop': dict(drop=DROP),
    'shared': dict(type='mmir.ModalityShared'),
    'shared_exchange': dict(type='mmir.ModalityShared', shared=EXCHANGE),
    'shared_drop': dict(type='mmir.ModalityShared', drop=DROP),
    'late': {},
}


def config(row: str, seed: int, data: Path, start: Path | None, out: Path) -> Config:
    """Config of a row: the images of the other study, in samples of one pair."""
    keys = dict(ROWS[row])
    late = '_late' if row == 'late' else '_rgb'
    cfg = Config.fromfile(ROOT / f'configs/fusion/yolo-tiny_flir_pair{late}.py')
    train, val = cfg.train_dataloader.dataset.dataset, cfg.val_dataloader.dataset
    for dataset, split in zip((train, val), ('train', 'val'), strict=True):
        dataset.data_root = str(data)
        dataset.ann_file = f'{split}/fused_annotations.json'
    pipeline = cfg.train_dataloader.dataset.pipeline
    zoom = Config.fromfile(ROOT / 'configs/_base_/datasets/coco_ir_zoom.py')
    together = [t for t in zoom.train_pipeline if 'HSV' not in t.type]
    pipeline[:2] = [dict(type='mmir.PairedTransform', transforms=together[:2])]
    if drop := keys.pop('drop', None):
        pipeline.insert(-1, drop)
    detector = Config.fromfile(ROOT / 'configs/_base_/models/yolox_nano.py').model
    detector.data_preprocessor = paired_preprocessor()
    if row == 'late':
        cfg.model.data_preprocessor = detector.pop('data_preprocessor')
        for name in ('rgb', 'ir'):
            cfg.model.detectors[name] = dict(detector, type='mmdet.YOLOX')
    elif 'type' in keys:
        cfg.model = dict(detector, target='mmdet.YOLOX', **keys)
    else:
        cfg.model = dict(detector, type='mmdet.YOLOX', backbone=two_streams(detector))
    set_image_scale(cfg, SCALE)
    set_schedule(cfg, EPOCHS, BATCH_SIZE)
    cfg.train_cfg.val_interval = cfg.default_hooks.checkpoint.interval = EPOCHS
    cfg.val_evaluator.classwise = True
    cfg.load_from = None if start is None else str(start)
    cfg.optim_wrapper.optimizer.lr = RATE
    cfg.custom_hooks.append(dict(type='mmir.ChannelsLastHook'))
    return cfg


def paired_preprocessor() -> dict:
    """Preprocessor of pairs as YOLOX wants them: BGR, 0..255."""
    raw = dict(mean=[0.0] * 3, std=[1.0] * 3, bgr_to_rgb=False)
    return dict(
        type='mmir.PairedDetDataPreprocessor',
        modalities=dict(rgb=raw, ir=raw),
        absent_value=114.0,
        pad_size_divisor=32,
        pad_value=114.0,
    )


def two_streams(detector: Config) -> dict:
    """A backbone per modality; the mean of their maps."""
    return dict(
        type='mmir.TwoStreamBackbone',
        backbone=detector.backbone,
        channels=dict(rgb=3, ir=3),
        fuse='add',
    )
