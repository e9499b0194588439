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
SCALE, EPOCHS = (320, 256), 6
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
    """Config of a row: the shipped one, with another model and smaller images."""
    keys = dict(ROWS[row])
    ending = 'shared' if 'type' in keys else 'add'
    name = f'configs/fusion/yolox-nano_coco_flir_pair_{ending}.py'
    cfg = Config.fromfile(ROOT / name)
    sets = cfg.train_dataloader.dataset.dataset, cfg.val_dataloader.dataset
    for dataset, split in zip(sets, ('train', 'val'), strict=True):
        dataset.data_root = str(data)
        dataset.ann_file = f'{split}/fused_annotations.json'
    if drop := keys.pop('drop', None):
        cfg.train_dataloader.dataset.pipeline.insert(-1, drop)
    cfg.model.update(keys)
    if row == 'late':
        cfg.model = late()
        # the hook expects one `bbox_head`
        cfg.custom_hooks = [h for h in cfg.custom_hooks if 'Mode' not in h.type]
    set_image_scale(cfg, SCALE)
    set_schedule(cfg, EPOCHS, cfg.train_dataloader.batch_size)
    cfg.train_cfg.val_interval = cfg.default_hooks.checkpoint.interval = EPOCHS
    cfg.val_evaluator.classwise = True
    cfg.load_from = None if start is None else str(start)
    cfg.custom_hooks.append(dict(type='mmir.ChannelsLastHook'))
    return cfg


def late() -> dict:
    """Two detectors of one camera each, with fused boxes."""
    plain = Config.fromfile(ROOT / 'configs/_base_/models/yolox_nano_paired.py').model
    prepare = plain.pop('data_preprocessor')
    return dict(
        type='mmir.LateFusionDetector',
        data_preprocessor=prepare,
        detectors=dict(rgb=plain, ir=plain),
        checkpoints=dict(rgb=None, ir=None),
        fuse=dict(method='wbf', iou_threshold=0.55),
    )
