"""Scale a shipped config down to synthetic images: the `--demo` option."""

import logging
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log

from mmir.testing.demo_pairs import demo_pairs
from mmir.testing.demo_people import PEOPLE, shrink_people_
from mmir.testing.rescale import set_schedule
from mmir.testing.scenes import write_drones, write_flir
from mmir.testing.shrink import shrink
from mmir.utils.shipped import shipped_checkpoint

DATA = Path('work_dirs/demo_data')
"""Folder of the synthetic images, rendered on first use."""

DETECTOR = 'yolo-tiny_scenes_rgb.pth'
"""Shipped RGB detector, trained with `configs/tensorfact/yolo-tiny_scenes_rgb.py`."""

SEED, FAR = 1, 30.0  # scenes the detector has not seen, objects within 30 m
IMAGES = {'rgb': 100, 'ir': 25}
VAL_IMAGES = 50
EPOCHS = {'rgb': 6, 'ir': 26}
PAIR_EPOCHS, PAIR_STEPS = 10, 60  # of pairs, by the unit of the config's loop
PAIR_SIZE = 224, 224
BATCH_SIZE = 4
FROM_SCRATCH = 1e-3  # learning rate without a detector to start from
SGD_FROM_SCRATCH = 0.05  # the same of pairs with SGD
MIXES = ('Mosaic', 'CenteredRandomAffine', 'CachedMixUp')


def apply_demo(cfg: Config, work_dir: str) -> Config:
    """Turn a config into a demo on synthetic data.

    The config's key `demo` selects the scenes that replace its dataset:
    `dict(data='street', modality='ir')` or `'drone'` for a detector of one camera or of
    FLIR pairs; for other pairs and for people `dict(data='MFNet')` or another key of
    `mmir.testing.demo_pairs.WRITERS`, with the `length` of the training in epochs or
    iterations for slow networks, and the learning rate `lr`.

    Args:
        cfg (Config): A shipped config. It is not modified.
        work_dir (str): Output folder of the run. The demo of the RGB stage is searched
            for next to it.

    Returns:
        Config: Small network and images, short schedule, synthetic data. YOLOv7 on
        street scenes starts from the shipped RGB detector, other networks from the demo
        of their RGB stage or from scratch; pretrained backbones from random weights.

    Raises:
        ValueError: The config has no key `demo`, or its data is unknown.
    """
    if 'demo' not in cfg:
        raise ValueError(
            'this config has no demo: it needs the key demo=dict(data="street" or '
            '"drone", modality="rgb" or "ir"), or demo=dict(data="MFNet") or another '
            'set of pairs'
        )
    modality, street = cfg.demo.get('modality'), cfg.demo.data == 'street'
    small = shrink(cfg) if modality else shrink(cfg, PAIR_SIZE)
    if modality is None:
        train, test = demo_pairs(cfg.demo.data, DATA / f'pairs_{cfg.demo.data}')
        length = PAIR_STEPS if 'max_iters' in cfg.train_cfg else PAIR_EPOCHS
        length = cfg.demo.get('length', length)
    else:
        train, test = (_street if street else _drone)(modality)
        length = EPOCHS[modality]
    for key in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        _dataset(small[key]).update(train if key == 'train_dataloader' else test)
    _dataset(small.train_dataloader).pop('subset', None)  # use all of the few images
    _crop_instead_of_mixing(small)
    set_schedule(small, length, BATCH_SIZE)
    if cfg.demo.data in PEOPLE:
        shrink_people_(small)
    small.train_cfg.val_interval = max(1, length // 3)
    small.load_from = _start(small, street, Path(work_dir).parent)
    optimizer = small.optim_wrapper.optimizer
    if small.load_from is None:
        sgd = modality is None and optimizer.type == 'SGD'
        usual = SGD_FROM_SCRATCH if sgd else FROM_SCRATCH
        optimizer.lr = cfg.demo.get('lr', usual)
    return small


def _dataset(loader: ConfigDict) -> ConfigDict:
    """Return the dataset of a dataloader, without its wrappers."""
    dataset = loader['dataset']
    while 'dataset' in dataset:
        dataset = dataset['dataset']
    return dataset


def _crop_instead_of_mixing(cfg: Config) -> None:
    """Zoom and crop single images: mosaics of few small scenes are mostly border."""
    dataset = cfg.train_dataloader.dataset
    if 'dataset' not in dataset:  # a network of a host keeps its own augmentation
        return
    kept = [t for t in dataset.pipeline if _bare(t) not in MIXES]
    if len(kept) == len(dataset.pipeline):
        return
    width = next(t.scale for t in kept if _bare(t) == 'Resize')[0]
    size = width, width * 4 // 5  # the scenes are 5:4
    zoom = dict(
        type='RandomResize',
        scale=size,
        ratio_range=(0.9, 1.5),
        keep_ratio=True,
        resize_type='mmdet.Resize',
    )
    crop = dict(type='mmdet.RandomCrop', crop_size=size, allow_negative_crop=True)
    rest = [t for t in kept if _bare(t) != 'Resize']
    for transform in rest:
        if _bare(transform) == 'Pad':
            transform.size = size
    dataset.pipeline = [ConfigDict(zoom), ConfigDict(crop), *rest]


def _bare(transform: ConfigDict) -> str:
    """Return the type of a transform without its scope."""
    return transform.type.rpartition('.')[2]


def _street(modality: str) -> tuple[dict, dict]:
    """Render street scenes; return the arguments of the training and test datasets."""
    root = DATA / f'street_{modality}'
    write_flir(
        root, IMAGES[modality], VAL_IMAGES, seed=SEED, far=FAR, sixteen_bit=False
    )
    name = {'rgb': 'rgb', 'ir': 'thermal'}[modality]
    return tuple(
        dict(
            data_root=str(root),
            ann_file=f'{split}/{name}_annotations.json',
            data_prefix=dict(img=f'{split}/'),
        )
        for split in ('train', 'val')
    )


def _drone(modality: str) -> tuple[dict, dict]:
    """Render flying objects; return the arguments of the training and test datasets."""
    root = DATA / f'drone_{modality}'
    write_drones(
        root, modality=modality, train=IMAGES[modality], test=VAL_IMAGES, seed=0
    )
    return tuple(
        dict(
            data_root=str(root),
            ann_file=f'{split}.json',
            data_prefix=dict(img='images/'),
        )
        for split in ('train', 'test')
    )


def _start(cfg: Config, street: bool, beside: Path) -> str | None:
    """Return the checkpoint to start from, or None to train from scratch.

    The first that exists: `load_from` of the config; the demo of the RGB stage; for
    YOLOv7 on street scenes, the shipped RGB detector.
    """
    wanted, infrared = cfg.get('load_from'), cfg.demo.get('modality') != 'rgb'
    if infrared and wanted is None:  # the config trains from scratch
        return None
    if wanted is not None:
        if Path(wanted).is_file():
            return wanted
        stage = Path(wanted).parent.name
        for folder in (beside / f'{stage}_demo', beside / stage):
            latest = folder / 'last_checkpoint'
            if latest.is_file():
                return latest.read_text().strip()
    if street and 'YOLOv7' in cfg.model.backbone.type:
        return str(shipped_checkpoint(DETECTOR))
    if infrared:
        print_log(
            f'neither {wanted} nor a demo of its RGB stage found in {beside}: this '
            'demo starts from scratch',
            logger='current',
            level=logging.WARNING,
        )
    return None
