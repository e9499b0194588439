"""Layout of the FLIR ADAS thermal dataset, versions 1.3 and 1.0.

Peculiarities of the real files that are handled here:

- In v1.3, file names include the folder (`thermal_8_bit/FLIR_00001.jpeg`). Thermal
  files end in `.jpeg`, RGB files in `.jpg`.
- Image ids start at 0 in every split, so those of two splits collide; they are not the
  file numbers.
- About 80 COCO categories are listed under contiguous ids (dog is 17, in v1.0 it is
  18), so classes are matched by name.
- RGB frames have no labels and another field of view, and some are absent.
"""

import os
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from mmir.data.coco import image_names, read_coco
from mmir.data.coco_entries import normalize_coco
from mmir.data.readers import to_number, without_suffix
from mmir.utils.errors import AnnotationError
from mmir.utils.files import few, read_json

FLIR_CLASSES = ('person', 'bicycle', 'car')
"""The classes that are frequent enough to evaluate."""

Modality = Literal['ir', 'rgb', 'both']

_V10_CATEGORIES = {1: 'person', 2: 'bicycle', 3: 'car', 18: 'dog', 91: 'other vehicle'}


@dataclass(frozen=True)
class FlirLayout:
    """File names of one version of the dataset.

    Attributes:
        version (str): '1.3' or '1.0'.
        splits (dict[str, str]): Folder of each split.
        annotations (str): Annotation file, or folder of such files, within a split.
        ir8 (str): Path of the 8-bit thermal image with a given stem, within a split.
        ir16 (str): Path of the 16-bit thermal image.
        rgb (str): Path of the RGB image.
    """

    version: str
    splits: dict[str, str]
    annotations: str
    ir8: str
    ir16: str
    rgb: str


V13 = FlirLayout(
    '1.3',
    {'train': 'train', 'val': 'val', 'video': 'video'},
    'thermal_annotations.json',
    'thermal_8_bit/{}.jpeg',
    'thermal_16_bit/{}.tiff',
    'RGB/{}.jpg',
)
V10 = FlirLayout(
    '1.0',
    {'train': 'training', 'val': 'validation', 'video': 'video'},
    'Annotations',
    'PreviewData/{}.jpeg',
    'Data/{}.tiff',
    'RGB/{}.jpg',
)


def missing_flir_message(root: str | Path, split: str = 'train') -> str:
    """Message for absent data: what is expected, its source, and alternatives.

    Args:
        root (str | Path): The folder that was searched (`data_root`).
        split (str): The split that was searched.

    Returns:
        str: A message of several lines.
    """
    root = Path(root)
    there = few(sorted(p.name for p in root.iterdir()), 8) if root.is_dir() else None
    found = (
        f'It holds: {there or "nothing"}.' if root.is_dir() else 'It does not exist.'
    )
    return f"""no FLIR ADAS data ({split}) in {root}
{found}
Expected (v1.3):
  {root}/{split}/thermal_annotations.json
  {root}/{split}/thermal_8_bit/FLIR_*.jpeg
  {root}/{split}/thermal_16_bit/FLIR_*.tiff   (for bit_depth=16)
  {root}/{split}/RGB/FLIR_*.jpg               (for modality='both')
FLIR ADAS thermal dataset v1.3 is free from Teledyne FLIR on registration. Unpack it and
point data_root to the folder that holds train/ and val/.
Two ways to continue without it:
  - add --demo to tools/train.py: the same config, scaled down, on synthetic scenes;
  - use your own labeled images (COCO, VOC or YOLO labels): docs/your_camera.md"""


def find_flir(root: str | Path, split: str = 'train') -> FlirLayout:
    """Find out which version a folder holds.

    Args:
        root (str | Path): Folder with the splits.
        split (str): 'train', 'val' or 'video'.

    Returns:
        FlirLayout: The layout.

    Raises:
        ValueError: Unknown split.
        FileNotFoundError: Neither version is found; the message says what to do.
    """
    if split not in V13.splits:
        raise ValueError(f'split must be one of {tuple(V13.splits)}, got {split!r}')
    for layout in (V13, V10):
        if (Path(root) / layout.splits[split] / layout.annotations).exists():
            return layout
    raise FileNotFoundError(missing_flir_message(root, split))


def read_flir_v10(folder: str | Path) -> dict:
    """Read the per-image annotation files of version 1.0.

    Args:
        folder (str | Path): The `Annotations` folder of a split.

    Returns:
        dict: COCO dictionary; images are numbered from 0, sorted by name.

    Raises:
        AnnotationError: A file is broken or has a category id unknown in v1.0.
    """
    coco: dict = {
        'images': [],
        'annotations': [],
        'categories': [{'id': k, 'name': name} for k, name in _V10_CATEGORIES.items()],
    }
    files = (p for p in Path(folder).iterdir() if p.suffix.lower() == '.json')
    broken = []
    for image_id, path in enumerate(sorted(files)):
        try:
            image, anns = _read_v10_file(path, image_id)
        except AnnotationError as error:
            broken.append(str(error))
            continue
        coco['images'].append(image)
        coco['annotations'] += anns
    if broken:
        count = f'{len(broken)} files of {folder} cannot be used'
        raise AnnotationError('\n  '.join([count, *broken[:20]]))
    if not coco['images']:
        raise AnnotationError(f'{folder} holds no .json files')
    for number, ann in enumerate(coco['annotations'], 1):
        ann['id'] = number
    normalize_coco(coco, str(folder))
    return coco


def _read_v10_file(path: Path, image_id: int) -> tuple[dict, list[dict]]:
    """Read the image entry and the annotations of one file of version 1.0."""
    content = read_json(path)
    image = content.get('image') if isinstance(content, dict) else None
    anns = content.get('annotation') if isinstance(content, dict) else None
    if not isinstance(image, dict) or not isinstance(anns, list):
        raise AnnotationError(f"{path} has no keys 'annotation' and 'image'")
    name = str(image.get('file_name', path.stem))
    stem = PurePosixPath(without_suffix(name)).name
    rows = []
    for number, ann in enumerate(anns):
        given = ann.get('category_id') if isinstance(ann, dict) else None
        try:
            category = to_number(given)  # the files hold numbers as text
        except ValueError:
            category = None
        if category not in _V10_CATEGORIES:
            raise AnnotationError(
                f'{path}: annotation[{number}]: category_id {given} is not one of '
                f'{_V10_CATEGORIES}'
            )
        kept = {key: ann[key] for key in ('iscrowd', 'ignore') if key in ann}
        rows.append(
            dict(image_id=image_id, category_id=category, bbox=ann.get('bbox')) | kept
        )
    return {**image, 'id': image_id, 'file_name': V10.ir8.format(stem)}, rows


def read_flir(ann_file: str | Path) -> tuple[dict, FlirLayout]:
    """Read the annotations of either version.

    Args:
        ann_file (str | Path): `*_annotations.json` (v1.3) or `Annotations` (v1.0).

    Returns:
        tuple[dict, FlirLayout]: COCO dictionary and layout.
    """
    if os.path.isdir(ann_file):
        return read_flir_v10(ann_file), V10
    return read_coco(ann_file), V13


def use_16_bit(coco: dict, layout: FlirLayout) -> None:
    """Switch the images to the 16-bit files, in place.

    Args:
        coco (dict): COCO dictionary of the 8-bit files.
        layout (FlirLayout): Its layout. Names outside the 8-bit folder are kept.
    """
    folder = PurePosixPath(layout.ir8).parent.name
    for image in coco['images']:
        name = PurePosixPath(image['file_name'])
        if name.parent.name == folder:
            image['file_name'] = layout.ir16.format(name.stem)


def add_rgb_partners(coco: dict, layout: FlirLayout, folder: str | Path) -> int:
    """Add `rgb_name` to the images whose RGB frame exists, in place.

    Args:
        coco (dict): COCO dictionary of thermal images.
        layout (FlirLayout): Its layout.
        folder (str | Path): Folder of the split.

    Returns:
        int: Number of thermal images without an RGB frame.
    """
    partners = {
        image['id']: layout.rgb.format(PurePosixPath(image['file_name']).stem)
        for image in coco['images']
    }
    found = image_names(folder, partners.values())
    for image in coco['images']:
        if partners[image['id']] in found:
            image['rgb_name'] = partners[image['id']]
    return sum('rgb_name' not in image for image in coco['images'])
