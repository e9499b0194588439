"""Write scenes in the layouts of detection datasets taken from drones.

Street scenes stand in for the aerial view, a person for DroneVehicle's truck: only the
file formats matter here.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mmir.utils.files import write_json

from .det_layouts_parts import (
    Box,
    PathLike,
    Shape,
    SplitWriter,
    edges,
    objects_xml,
    renamed,
    shown,
    write_xml,
)
from .disk import _write_image
from .parts import Modality
from .scene import Scene

BORDER = 100  # px, white border around DroneVehicle's images
HITUAV_NAMES = {
    'person': 'Person', 'car': 'Car', 'bicycle': 'Bicycle', 'dog': 'DontCare',
}  # fmt: skip
DRONE_NAMES = {
    'car': ('car', 'bus', 'van'),
    'bicycle': ('feright car', 'freight_car', 'feright_car', 'feright'),
    'person': ('truck', 'truvk'),
    'dog': ('*',),
}
"""Spellings of DroneVehicle's class names, used in turn within a file."""


def _diamond(box: Box) -> str:
    """Return a rotated label whose enclosing box is the given one."""
    x, y, w, h = box
    points = (x + w // 2, y), (x + w, y + h // 2), (x + w // 2, y + h), (x, y + h // 2)
    inner = ''.join(
        f'<x{k}>{px}</x{k}><y{k}>{py}</y{k}>' for k, (px, py) in enumerate(points, 1)
    )
    return f'<polygon>{inner}</polygon>'


def _hituav_rows(scene: Scene, image_id: int, first: int) -> list[dict]:
    """Return the annotations of an image, numbered from `first`."""
    classes = list(HITUAV_NAMES.values())
    return [
        {
            'id': number,
            'image_id': image_id,
            'category_id': classes.index(label),
            'bbox': list(box),
            'area': box[2] * box[3],
        }
        for number, (label, box) in enumerate(renamed(scene, HITUAV_NAMES), first)
    ]


def write_hituav(
    root: PathLike,
    train: int = 20,
    val: int = 5,
    test: int = 10,
    seed: int = 0,
    size: tuple[int, int] = (640, 512),
    progress: bool = True,
) -> Path:
    """Write infrared images in the layout of HIT-UAV.

    `normal_json/{train,val,test}/*.jpg` and `normal_json/annotations/*.json` with the
    official keys `filename` and `annotation`. Categories start at 0 and include
    DontCare; image and annotation ids continue across splits.

    Args:
        root: Folder to create. One that already holds the same scenes is kept.
        train: Number of images for training.
        val: Number of images for validation.
        test: Number of images for testing.
        seed: Random seed.
        size: Width and height in px.
        progress: Whether to show a progress bar.

    Returns:
        The folder.

    Raises:
        FileExistsError: The folder holds other files or other scenes.
    """
    used = {'images': 0, 'annotation': 0}

    def fill(folder: Path, split: str, scenes: Iterator[Scene]) -> None:
        """Write a split."""
        content: dict = {'images': [], 'annotation': []}
        for scene in scenes:
            image_id = used['images'] + len(content['images'])
            name = f'{int(scene.night)}_60_30_0_{image_id:05d}.jpg'
            _write_image(folder / 'normal_json' / split / name, scene.thermal8)
            content['images'].append(
                {'filename': name, 'width': size[0], 'height': size[1], 'id': image_id}
            )
            first = used['annotation'] + len(content['annotation'])
            content['annotation'] += _hituav_rows(scene, image_id, first)
        for key in used:
            used[key] += len(content[key])
        content['categories'] = [
            {'id': k, 'name': n} for k, n in enumerate(HITUAV_NAMES.values())
        ]
        write_json(content, folder / f'normal_json/annotations/{split}.json')

    counts = {'train': train, 'val': val, 'test': test}
    return SplitWriter('hituav', counts, seed, size, progress).write(root, fill)


def drone_labels(scene: Scene, modality: Modality) -> list[Shape]:
    """Return DroneVehicle's labels for one camera.

    Args:
        scene: A scene.
        modality: 'rgb' or 'ir'.

    Returns:
        Name as spelled in the file, mistakes included, and box in the image without
        the border.
    """
    labels = []
    for k, thing in enumerate(shown(scene, modality)):
        names = DRONE_NAMES[thing.label]
        labels.append((names[k % len(names)], thing.box(modality)))
    return labels


def write_dronevehicle(
    root: PathLike,
    train: int = 20,
    val: int = 5,
    test: int = 10,
    seed: int = 0,
    size: tuple[int, int] = (640, 512),
    progress: bool = True,
) -> Path:
    """Write pairs in the layout of DroneVehicle.

    `{split}/{split}{img,imgr,label,labelr}/`, images with a 100 px white border. Each
    camera has its own labels, some misspelled, most as polygons, some as boxes. The
    first file of each folder has one label without a shape and one in the border.

    Args:
        root: Folder to create. One that already holds the same scenes is kept.
        train: Number of pairs for training.
        val: Number of pairs for validation.
        test: Number of pairs for testing.
        seed: Random seed.
        size: Width and height in px inside the border.
        progress: Whether to show a progress bar.

    Returns:
        The folder.

    Raises:
        FileExistsError: The folder holds other files or other scenes.
    """
    outer = tuple(side + 2 * BORDER for side in size)

    def fill(folder: Path, split: str, scenes: Iterator[Scene]) -> None:
        """Write a split."""
        for k, scene in enumerate(scenes, 1):
            for end, image, modality in (
                ('', scene.rgb, 'rgb'),
                ('r', np.repeat(scene.thermal8[..., None], 3, 2), 'ir'),
            ):
                framed = np.full((*outer[::-1], 3), 255, np.uint8)
                framed[BORDER:-BORDER, BORDER:-BORDER] = image
                base = folder / split / split
                _write_image(Path(f'{base}img{end}/{k:05d}.jpg'), framed)
                objects = []
                for n, (name, (x, y, w, h)) in enumerate(drone_labels(scene, modality)):
                    draw = _diamond if n % 3 else edges
                    box = (x + BORDER, y + BORDER, w, h)
                    objects += objects_xml([(name, box)], draw)
                if k == 1:
                    objects += ['<name>car</name>']
                    objects += objects_xml([('car', (10, 20, 30, 40))], _diamond)
                path = Path(f'{base}label{end}/{k:05d}.xml')
                write_xml(path, f'{k:05d}.jpg', outer, objects)

    counts = {'train': train, 'val': val, 'test': test}
    writer = SplitWriter('dronevehicle', counts, seed, size, progress, baseline=0.12)
    return writer.write(root, fill)
