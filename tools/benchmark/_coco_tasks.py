"""Tasks of `coco_transfer.py`: thermal images to adapt to, and their held-out parts."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from mmir.utils.files import write_json


@dataclass(frozen=True)
class Part:
    """Part of a dataset: folder below the data folder, annotations, image prefix."""

    folder: str
    annotations: str
    prefix: str
    kind: str = 'mmir.CocoSubsetDataset'

    def dataset(self, data: Path, classes: tuple[str, ...]) -> dict:
        """Settings of the dataset."""
        return dict(
            type=self.kind,
            data_root=str(data / self.folder),
            ann_file=str((data / self.folder / self.annotations).resolve()),
            data_prefix=dict(img=self.prefix),
            metainfo=dict(classes=classes),
        )


@dataclass(frozen=True)
class Task:
    """Thermal images to adapt to, and RGB images to remember.

    Attributes:
        train, test: Thermal images.
        rgb: RGB test images.
        ratio: Height of the images by their width.
        classes: Class names.
        rgb_train: RGB images on which the COCO detector is trained first, in full.
    """

    train: Part
    test: Part
    rgb: Part
    ratio: float
    classes: tuple[str, ...] = ('person', 'bicycle', 'car')
    rgb_train: Part | None = None

    def canvas(self, width: int) -> tuple[int, int]:
        """Width and height of the network input: a whole number of strides of 32."""
        return width, math.ceil(width * self.ratio / 32) * 32


def _street(split: str, camera: str) -> Part:
    annotations = f'{split}/{camera}_annotations.json'
    return Part('street_pairs', annotations, f'{split}/', 'mmir.FLIRDataset')


TASKS = {
    'street': Task(
        train=_street('train', 'thermal'),
        test=_street('val', 'thermal'),
        rgb=_street('val', 'rgb'),
        ratio=3 / 4,
    ),
    'hituav': Task(
        train=Part('hituav', 'train.json', 'train/'),
        test=Part('hituav', 'test.json', 'test/'),
        rgb=_street('val', 'rgb'),
        ratio=4 / 5,
    ),
    'drone': Task(
        train=Part('drone_ir', 'train.json', 'images/'),
        test=Part('drone_ir', 'test.json', 'images/'),
        rgb=Part('drone_rgb', 'test.json', 'images/'),
        ratio=4 / 5,
        classes=('airplane', 'bird', 'drone', 'helicopter'),
        rgb_train=Part('drone_rgb', 'train.json', 'images/'),
    ),
}


def hold_out(ann_file: Path, out: Path) -> tuple[Path, Path]:
    """Split a training set for choosing settings: every third image is held out."""
    content = json.loads(ann_file.read_text())
    parts: dict[str, list] = {'fit': [], 'check': []}
    for index, image in enumerate(content['images']):
        parts['check' if index % 3 == 2 else 'fit'].append(image)
    files = []
    for name, images in parts.items():
        ids = {image['id'] for image in images}
        boxes = [a for a in content['annotations'] if a['image_id'] in ids]
        files.append(out / f'{ann_file.parent.name}_{name}.json')
        write_json(dict(content, images=images, annotations=boxes), files[-1])
    return files[0].resolve(), files[1].resolve()
