"""Tasks of the CSK-Net study: a field, synthetic streets, leaves in three cameras."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from _csk_rows import COLORS
from _field import enet_weights, field_sets

Sets = tuple[dict[str, Any], dict[str, Any]]


@dataclass(frozen=True)
class Task:
    """Images to train and to test on.

    Attributes:
        sets: From the data folder, a folder for what is written, and whether held-out
            training images take the place of the test images, to the configs of the
            training and the test images.
        classes: Number of classes.
        modalities: Names of the modalities.
        crop: Height and width of the training crops.
        class_weight: Weights of the classes in the cross-entropy.
        steps: Length of a training.
    """

    sets: Callable[[Path, Path, bool], Sets]
    classes: int
    modalities: tuple[str, ...] = ('rgb', 'ir')
    crop: tuple[int, int] = (160, 160)
    class_weight: tuple[float, ...] | None = None
    steps: int = 150

    def preprocessor(self) -> dict[str, Any]:
        """Config of the data preprocessor."""
        return dict(
            type='mmir.PairedSegDataPreprocessor',
            modalities=dict.fromkeys(self.modalities, COLORS),
            size=self.crop,
            pad_val=0,
            seg_pad_val=255,
        )


def _field(data: Path, out: Path, held: bool) -> Sets:
    """Images of half the size: 324 x 242 pixels."""
    return field_sets(data, out, held, TASKS['field'].crop, scale=1 / 2)


def _streets(data: Path, out: Path, held: bool) -> Sets:
    """Synthetic streets at day and night, in the layout of MSRS, 320 x 240 pixels.

    Some people are visible in one camera only. Other scenes are held out by a seed of
    their own.
    """
    from mmir.testing.scenes.seg_layouts import write_msrs

    seed = 1 if held else 0
    root = out / f'streets{seed}'
    write_msrs(root, train=80, test=40, seed=seed, size=(320, 240), progress=False)
    sets = {}
    for split in ('train', 'test'):
        sets[split] = dict(
            type='mmir.MSRSDataset',
            data_root=str(root),
            split=split,
            test_mode=split == 'test',
            pipeline=_pipeline(split, TASKS['streets'], (320, 240)),
        )
    return sets['train'], sets['test']


LEAF = dict(classes=('background', 'leaf'))
LEAF_FOLDERS = dict(rgb='rgb', ir='thermal8', nir='nir16', seg_map_path='mask')


def _leaves(data: Path, out: Path, held: bool) -> Sets:
    """Leaves of apple trees: color, near infrared (16 bit) and thermal."""
    rows = json.loads((data / 'apple_rgbt/index.json').read_text())
    sets = {}
    for split in ('train', 'test'):
        names = [row['name'] for row in rows if row['split'] == split]
        if held:
            every = [row['name'] for row in rows if row['split'] == 'train']
            names = [
                n for k, n in enumerate(every) if (k % 3 == 0) == (split == 'test')
            ]
        path = (out / f'leaves_{"held_" if held else ""}{split}.txt').resolve()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('\n'.join(names))
        sets[split] = dict(
            type='mmir.PairedSegDataset',
            data_root=str(data / 'apple_rgbt'),
            ann_file=str(path),
            modality=('rgb', 'ir', 'nir'),
            data_prefix=LEAF_FOLDERS,
            metainfo=LEAF,
            missing='absent',  # two leaves have no near-infrared image
            test_mode=split == 'test',
            pipeline=_pipeline(split, TASKS['leaves'], (320, 320)),
        )
    return sets['train'], sets['test']


def _pipeline(split: str, task: Task, size: tuple[int, int]) -> list[dict]:
    """Pipeline of images of `size`; training crops at scales of 0.75 to 1.5."""
    options = {name: {} for name in task.modalities}
    if 'nir' in options:
        options['nir'] = dict(bit_depth=16)
    load = [dict(type='mmir.LoadPairedImages', modalities=options, missing='absent')]
    if 'nir' in task.modalities:
        gray = dict(type='mmir.ThermalToUint8', mode='percentile')
        load.append(dict(type='mmir.OnModality', modality='nir', transforms=gray))
    labels, pack = (
        dict(type='mmseg.LoadAnnotations'),
        dict(type='mmir.PackPairedInputs'),
    )
    if split == 'test':
        resize = dict(type='mmseg.Resize', scale=size, keep_ratio=True)
        fit = dict(type='mmir.PairedTransform', transforms=[resize])
        return [*load, fit, labels, pack]
    zoom = dict(
        type='RandomResize', scale=size, ratio_range=(0.75, 1.5), keep_ratio=True
    )
    crop = dict(type='mmseg.RandomCrop', crop_size=task.crop)
    steps = [zoom, crop, dict(type='mmseg.RandomFlip', prob=0.5)]
    fit = dict(type='mmir.PairedTransform', transforms=steps)
    return [*load, labels, fit, pack]


STREET_SHARES = 0.898, 0.04, 0.007, 0.003, 0.036, 0, 0, 0.016, 0  # of the pixels
TASKS = {
    'field': Task(_field, 3, class_weight=tuple(enet_weights())),
    'streets': Task(
        _streets, 9, class_weight=tuple(enet_weights(STREET_SHARES)), steps=300
    ),
    'leaves': Task(_leaves, 2, modalities=('rgb', 'ir', 'nir')),
}
