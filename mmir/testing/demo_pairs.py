"""Synthetic pairs for the `--demo` of configs that read both cameras."""

from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from mmir.data.coco import plain_coco
from mmir.data.layouts.det import JSON_FOLDER, LLVIP, M3FD, DetLayout
from mmir.data.readers import read_voc
from mmir.testing.demo_people import PEOPLE
from mmir.testing.scenes.det_layouts import pair_scene, write_llvip, write_m3fd
from mmir.testing.scenes.disk import _write_image, _write_once
from mmir.testing.scenes.field import write_field
from mmir.testing.scenes.scene import Scene
from mmir.testing.scenes.seg_layouts import (
    write_mfnet,
    write_msrs,
    write_mvseg,
    write_pst900,
    write_vtsod,
)
from mmir.utils.files import write_json

TRAIN, TEST = 24, 6
"""Number of pairs."""

SIZE = 320, 256
CROPPED = 'person', 'bicycle', 'car'
MIN_SIDE = 12  # px; smaller objects are not cropped

Arguments = tuple[dict[str, Any], dict[str, Any]]
"""Arguments of the training and of the test dataset."""


def demo_pairs(name: str, root: Path) -> Arguments:
    """Render pairs in the layout of a dataset.

    Args:
        name (str): Key of :data:`WRITERS`.
        root (Path): Folder to create. One that already holds the same pairs is kept.

    Returns:
        Arguments: What replaces the arguments of the config's datasets.

    Raises:
        ValueError: Unknown name.
    """
    if name not in WRITERS:
        raise ValueError(f'demo.data={name!r} is unknown: use one of {[*WRITERS]}')
    return WRITERS[name](root)


def _segmentation(root: Path, write: Callable[..., Path]) -> Arguments:
    """Label maps or masks, with the splits train and test."""
    write(root, train=TRAIN, test=TEST, size=SIZE)
    return tuple(dict(data_root=str(root), split=s) for s in ('train', 'test'))


def _field(root: Path) -> Arguments:
    """Label maps, with a list of names per split."""
    write_field(root, train=TRAIN, test=TEST, size=SIZE)
    return tuple(
        dict(data_root=str(root), ann_file=f'{s}.txt') for s in ('train', 'test')
    )


def _detection(
    root: Path, layout: DetLayout, write: Callable[..., Path], test: str
) -> Arguments:
    """Boxes, with the labels already converted."""
    write(root, train=TRAIN, size=SIZE, **{test: TEST})
    for split in ('train', test):
        _convert(root, layout, split)
    return tuple(dict(data_root=str(root), split=s) for s in ('train', test))


def _convert(root: Path, layout: DetLayout, split: str) -> None:
    """Write the COCO file of a split, as the converter of the dataset does."""
    template = layout.labels['ir']
    if layout is M3FD:
        listed = (root / 'meta' / f'{split}.txt').read_text().split()
    else:
        listed = [p.name for p in sorted((root / 'visible' / split).glob('*'))]
    images, rows = [], []
    for number, file in enumerate(listed):
        stem = Path(file).stem
        files = {
            kind: path.format(split=split, name=stem)
            for kind, path in layout.images.items()
        }
        _, size, objects = read_voc(root / template.format(split=split, name=stem))
        shape = dict(width=size[0], height=size[1])
        images.append(dict(id=number, file_name=files['ir'], **shape, **files))
        for thing in objects:
            label = layout.classes.index(thing['name'])
            rows.append((number, label, thing['bbox'], thing['iscrowd']))
    coco = plain_coco(images, rows, layout.classes)
    write_json(coco, root / JSON_FOLDER / layout.json_name(split, 'ir'))


def _crops(root: Path) -> Arguments:
    """Crops of single objects, one folder per class, for classification."""
    counts = dict(train=TRAIN, val=TEST)

    def render_into(folder: Path) -> None:
        """Render all splits."""
        for part, (split, number) in enumerate(counts.items()):
            for kind, name in product(('rgb', 'ir'), CROPPED):  # some may stay empty
                (folder / split / kind / name).mkdir(parents=True)
            for k in range(number):
                _save_crops(folder / split, k, pair_scene(0, part, k, SIZE))

    _write_once(root, dict(layout='crops', size=SIZE, **counts), render_into)
    return tuple(
        dict(data_root=str(root), data_prefix=f'{s}/rgb') for s in ('train', 'val')
    )


def _save_crops(folder: Path, number: int, scene: Scene) -> None:
    """Save the objects of a scene that are large enough, in both images."""
    for k, thing in enumerate(scene.objects):
        x, y, width, height = thing.box_ir or (0, 0, 0, 0)
        if thing.label not in CROPPED or min(width, height) < MIN_SIDE:
            continue
        for kind, image in (('rgb', scene.rgb), ('ir', scene.thermal8)):
            path = folder / kind / thing.label / f'{number:03d}_{k}.png'
            _write_image(path, image[y : y + height, x : x + width])


WRITERS: dict[str, Callable[[Path], Arguments]] = {
    'MFNet': partial(_segmentation, write=write_mfnet),
    'MSRS': partial(_segmentation, write=write_msrs),
    'MVSeg': partial(_segmentation, write=write_mvseg),
    'PST900': partial(_segmentation, write=write_pst900),
    'VT5000': partial(_segmentation, write=write_vtsod),
    'M3FD': partial(_detection, layout=M3FD, write=write_m3fd, test='val'),
    'LLVIP': partial(_detection, layout=LLVIP, write=write_llvip, test='test'),
    'crops': _crops,
    'field': _field,
    **PEOPLE,
}
"""Name of `demo.data` in a config -> what renders the pairs."""
