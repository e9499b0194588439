"""Fusion of segmentors on leaves: 27 crops of RGB and 16-bit radiometric thermal.

Too few images to rank methods. The study shows that segmentation on pairs works end to
end, with temperatures as floats from the file to the model.
"""

import json
from pathlib import Path

from mmengine.config import Config

from mmir.cli.stages import ROOT
from mmir.testing.rescale import set_schedule

METRIC, DETAILS = 'mIoU', ('mAcc', 'aAcc')
STRENGTHS = (3,)
VALUE_RANGES = dict(rgb=(0, 255), ir=(20, 55))  # gray values, degrees Celsius
CROP, BATCH_SIZE, EPOCHS = 128, 4, 20
ROWS = {row: (row, False) for row in ('rgb', 'ir', 'early', 'concat', 'late')}
LOAD = dict(rgb={}, ir=dict(channels=1, to_float32=True))
CELSIUS = dict(
    type='mmir.OnModality',
    modality='ir',
    transforms=dict(type='mmir.RadiometricScale', gain=0.01, unit='celsius'),
)
META = dict(classes=('background', 'leaf'), palette=[[0, 0, 0], [0, 255, 0]])
FOLDERS = dict(rgb='rgb', ir='thermal16', seg_map_path='mask')


def config(row: str, seed: int, data: Path, start: Path | None, out: Path) -> Config:
    """Config of a row on the leaf dataset."""
    name = f'configs/fusion/deeplabv3plus_r18_msrs_{ROWS[row][0]}.py'
    cfg = Config.fromfile(ROOT / name)
    for split, loader in (
        ('train', cfg.train_dataloader),
        ('test', cfg.val_dataloader),
    ):
        pipeline = list(loader.dataset.pipeline)
        pipeline[0] = dict(
            type='mmir.LoadPairedImages', modalities=LOAD, missing='absent'
        )
        pipeline.insert(2, CELSIUS)
        loader.dataset = dict(
            type='mmir.PairedSegDataset',
            data_root=str(data),
            ann_file=str(_names(data, split, out).resolve()),
            data_prefix=FOLDERS,
            missing='absent',
            metainfo=META,
            pipeline=pipeline,
            test_mode=split == 'test',
        )
    cfg.val_dataloader.batch_size = 1  # sizes differ
    steps = cfg.train_dataloader.dataset.pipeline[3].transforms
    steps[0].update(scale=(320, 320), ratio_range=(0.75, 1.5))
    steps[1].crop_size = (CROP, CROP)
    prepare = cfg.model.data_preprocessor
    prepare.size = (CROP, CROP)
    prepare.modalities.ir.update(mean=30.0, std=8.0)  # degrees Celsius
    for model in cfg.model.get('segmentors', {'': cfg.model}).values():
        for head in (model.decode_head, model.auxiliary_head):
            head.num_classes = len(META['classes'])
    set_schedule(cfg, EPOCHS, BATCH_SIZE)
    cfg.train_cfg.val_interval = cfg.default_hooks.checkpoint.interval = EPOCHS
    cfg.load_from = None
    return cfg


def _names(data: Path, split: str, out: Path) -> Path:
    """Write the image names of a leak-free split."""
    rows = json.loads((data / 'index.json').read_text())
    path = out / f'{split}.txt'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(row['name'] for row in rows if row['split'] == split))
    return path
