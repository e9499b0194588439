"""Images for the pretrainings of the TOPLight study: a folder per class.

For the crops of people: RGB crops of cars and bicycles of streets, and of what flies.
Persons are left out, and so are crops that a person overlaps in either camera:
`person_crops` come from the same streets, and none of them is seen before the test.
For synthetic people: the RGB images of the training people, a class per identity.
"""

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from mmir.data.images import read_image
from mmir.data.layouts.reid import PersonImage
from mmir.utils.files import atomic_path

LEAST = 16
"""Shortest side of a box, in pixels."""
CONTRAST = 5.0
"""Least standard deviation of the gray values of a crop, of 255: far birds and drones
would be blank squares in both views."""
MARGIN = 1.2
"""Side of the crop, relative to the longer side of the box."""
STREETS = 'street_pairs/train', 'street_pairs/val'
LABELS = 'rgb_annotations.json', 'thermal_annotations.json'
DRONES = 'drone_rgb/train.json', 'drone_rgb/test.json'

Box = tuple[float, float, float, float]
"""Left, top, width, height."""


def object_folder(data: Path, target: Path) -> Path:
    """Cut out the objects, once; returns the target, which has a folder per class.

    Args:
        data: Folder of real images.
        target: Folder to write.
    """
    return _once(target, lambda folder: _cut(data, folder))


def people_folder(images: Iterable[PersonImage], root: Path, target: Path) -> Path:
    """Copy the RGB images of people, once; returns the target: a folder per identity.

    Args:
        images: The people's images.
        root: Folder that their paths are relative to.
        target: Folder to write.
    """

    def copy(folder: Path) -> None:
        for image in images:
            if image.modality == 'rgb':
                person = folder / f'{image.pid:04d}'
                person.mkdir(parents=True, exist_ok=True)
                shutil.copy(root / image.path, person / image.path.replace('/', '_'))

    return _once(target, copy)


def class_counts(folder: Path) -> dict[str, int]:
    """Class -> number of images, of a folder with a folder per class."""
    return {path.name: len([*path.iterdir()]) for path in sorted(folder.iterdir())}


def _once(target: Path, fill: Callable[[Path], None]) -> Path:
    """Fill a folder all at once; another process may do the same meanwhile."""
    if target.is_dir():
        return target
    try:
        with atomic_path(target) as partial:
            fill(partial)
    except OSError:
        if not target.is_dir():  # otherwise another process was first
            raise
    return target


def _cut(data: Path, target: Path) -> None:
    """Write the crops that are not blank, numbered over all classes."""
    boxes = [*_streets(data), *_drones(data)]
    for count, (path, name, box) in enumerate(tqdm(boxes, desc='objects', unit='box')):
        image = read_image(path)
        left, top, right, bottom = square(box, image.shape[:2])
        crop = np.ascontiguousarray(image[top:bottom, left:right])
        if cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY).std() < CONTRAST:
            continue
        folder = target / name
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f'{count:05d}.png'), crop)


def square(box: Box, shape: tuple[int, int]) -> tuple[int, int, int, int]:
    """Square around a box, inside the image: left, top, right, bottom.

    Args:
        box: The box.
        shape: Height and width of the image.
    """
    side = min(MARGIN * max(box[2:]), *shape)
    found = []
    for start, size, most in zip(box[:2], box[2:], shape[::-1], strict=True):
        first = np.clip(start + (size - side) / 2, 0, most - side)
        found.append(round(float(first)))
    return *found, *(value + int(side) for value in found)


def overlap(one: Box, other: Box) -> bool:
    """Whether two boxes share a pixel."""
    return all(
        one[k] < other[k] + other[k + 2] and other[k] < one[k] + one[k + 2]
        for k in range(2)
    )


def _streets(data: Path) -> Iterator[tuple[Path, str, Box]]:
    """Cars and bicycles that no person overlaps."""
    for split in STREETS:
        files = [json.loads((data / split / name).read_text()) for name in LABELS]
        people: dict[str, list[Box]] = {}
        for content in files:
            for frame, name, box in _boxes(content):
                if name == 'person':
                    people.setdefault(Path(frame).stem, []).append(box)
        for frame, name, box in _boxes(files[0]):
            path = data / split / frame
            if name == 'person' or min(box[2:]) < LEAST:
                continue
            left, top, right, bottom = square(box, read_image(path).shape[:2])
            whole = (left, top, right - left, bottom - top)
            if not any(overlap(whole, other) for other in people.get(path.stem, ())):
                yield path, name, box


def _drones(data: Path) -> Iterator[tuple[Path, str, Box]]:
    for name in DRONES:
        folder = (data / name).parent
        for frame, kind, box in _boxes(json.loads((data / name).read_text())):
            if min(box[2:]) >= LEAST:
                yield folder / 'images' / frame, kind, box


def _boxes(content: dict) -> Iterable[tuple[str, str, Box]]:
    """File, class and box of each annotation of a COCO file."""
    classes = {row['id']: row['name'] for row in content['categories']}
    files = {row['id']: row['file_name'] for row in content['images']}
    for row in content['annotations']:
        box = tuple(map(float, row['bbox']))
        yield files[row['image_id']], classes[row['category_id']], box
