"""Fusion of RGB and infrared detectors: YOLOv7-tiny on pairs in the FLIR layout."""

from pathlib import Path

from mmengine.config import Config

from mmir.cli.stages import ROOT
from mmir.testing.rescale import set_image_scale, set_schedule

METRIC = 'coco/bbox_mAP_50'
DETAILS = (
    'coco/bbox_mAP',
    'coco/bbox_mAP_75',
    'coco/person_precision',
    'coco/bicycle_precision',
    'coco/car_precision',
)
STRENGTHS = 1, 3, 5
VALUE_RANGES = None  # all images are 8-bit
SCALE, BATCH_SIZE, EPOCHS, RATE = (320, 320), 8, 18, 1e-3
DROP = dict(rgb=0.2, ir=0.2)

# Row -> suffix of its config name, and whether modalities are dropped in training.
ROWS = {
    'rgb': ('rgb', False),
    'ir': ('ir', False),
    'early': ('early', False),
    'add': ('add', False),
    'concat': ('concat', False),
    'cross': ('cross', False),
    'add_drop': ('add', True),
    'late': ('late', False),
}


def config(row: str, seed: int, data: Path, start: Path | None, out: Path) -> Config:
    """Config of a row at the size of the study, in bfloat16 where it pays."""
    ending, drops = ROWS[row]
    cfg = Config.fromfile(ROOT / f'configs/fusion/yolo-tiny_flir_pair_{ending}.py')
    sets = cfg.train_dataloader.dataset.dataset, cfg.val_dataloader.dataset
    for dataset, split in zip(sets, ('train', 'val'), strict=True):
        dataset.data_root = str(data)
        dataset.ann_file = f'{split}/fused_annotations.json'
    if drops:
        drop = dict(type='mmir.DropModality', probs=DROP)
        cfg.train_dataloader.dataset.pipeline.insert(-1, drop)
    set_image_scale(cfg, SCALE)
    set_schedule(cfg, EPOCHS, BATCH_SIZE)
    cfg.train_cfg.val_interval = cfg.default_hooks.checkpoint.interval = EPOCHS
    cfg.val_evaluator.classwise = True
    cfg.load_from = None if start is None else str(start)
    cfg.optim_wrapper.type = 'mmir.AutocastOptimWrapper'
    cfg.optim_wrapper.optimizer.lr = RATE
    cfg.custom_hooks.append(dict(type='mmir.ChannelsLastHook'))
    return cfg
