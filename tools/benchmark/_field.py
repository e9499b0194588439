"""Pairs of a red and a near-infrared image of a field (`cwfid`): soil, crop, weed."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

CLASSES = dict(classes=('soil', 'crop', 'weed'))
SHARES = 0.926, 0.016, 0.058  # of the pixels
SIZE = 648, 483  # width and height of the images
CAMERAS = (
    'rgb',
    'ir',
)  # the red and the near-infrared band, gray values in three channels
BRIGHTNESS = dict(
    type='mmir.RandomEnhance',
    brightness=(0.7, 1.3),
    contrast=(0.7, 1.3),
    color=(1, 1),
    sharpness=(1, 1),
)
IMAGES = dict(type='mmir.LoadPairedImages', modalities=dict(rgb={}, ir={}))


def field_sets(
    data: Path,
    out: Path,
    held: bool,
    crop: tuple[int, int],
    scale: float = 1.0,
    multiple: int = 1,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Configs of the training and the test images.

    Args:
        data: Folder with the real images.
        out: Folder for lists of names.
        held: Whether every third training image takes the place of the test images.
        crop: Height and width of the training crops.
        scale: Factor of the image size.
        multiple: The sides of test images are multiples of it, in pixels.
    """
    load = [IMAGES, dict(type='mmseg.LoadAnnotations')]
    size = tuple(round(scale * side / multiple) * multiple for side in SIZE)
    zoom = dict(
        type='RandomResize', scale=size, ratio_range=(0.75, 1.5), keep_ratio=True
    )
    augmented = dict(
        type='mmir.PairedTransform',
        transforms=[
            zoom,
            dict(type='mmseg.RandomCrop', crop_size=crop),
            dict(type='mmseg.RandomFlip', prob=0.5),
            dict(type='mmseg.RandomFlip', prob=0.5, direction='vertical'),
        ],
    )
    light = [
        dict(type='mmir.OnModality', modality=name, transforms=BRIGHTNESS)
        for name in CAMERAS
    ]
    # labels after Resize: measured at the original size
    resize = dict(type='mmseg.Resize', scale=size, keep_ratio=multiple == 1)
    smaller = [dict(type='mmir.PairedTransform', transforms=resize)]
    pack = dict(type='mmir.PackPairedInputs')
    names = _names(data, out, held)
    shared = dict(
        type='mmir.PairedSegDataset',
        data_root=str(data / 'cwfid'),
        data_prefix=dict(rgb='red', ir='nir', seg_map_path='label'),
        metainfo=CLASSES,
    )
    train = dict(
        shared, ann_file=str(names[0]), pipeline=[*load, augmented, *light, pack]
    )
    test = dict(
        shared,
        ann_file=str(names[1]),
        pipeline=[load[0], *(smaller if size != SIZE else []), load[1], pack],
        test_mode=True,
    )
    return train, test


def _names(data: Path, out: Path, held: bool) -> tuple[Path, Path]:
    """Write the names of the training and the test images."""
    images = json.loads((data / 'cwfid/index.json').read_text())['images']
    names = {s: [i['id'] for i in images if i['split'] == s] for s in ('train', 'test')}
    if held:
        every = names['train']
        names = dict(
            train=[n for k, n in enumerate(every) if k % 3 != 2], test=every[2::3]
        )
    paths = []
    for split, rows in names.items():
        paths.append((out / f'field_{"held_" if held else ""}{split}.txt').resolve())
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        paths[-1].write_text('\n'.join(rows))
    return paths[0], paths[1]


def enet_weights(shares: Sequence[float] = SHARES) -> list[float]:
    """Weights of rare classes, 1 / ln(1.02 + share), with a mean of 1.

    Classes without a pixel have the weight 0 and do not count for the mean.

    A. Paszke et al., "ENet: a deep neural network architecture for real-time semantic
    segmentation", arXiv 1606.02147, 2016.
    """
    raw = [1 / math.log(1.02 + share) if share else 0.0 for share in shares]
    there = sum(share > 0 for share in shares)
    return [round(value * there / sum(raw), 3) for value in raw]
