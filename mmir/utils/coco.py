"""COCO detection files: checked reading, boxes, classes."""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mmir.utils.errors import AnnotationError
from mmir.utils.files import few, read_json

_KEYS = {
    'images': ('id', 'file_name', 'width', 'height'),
    'annotations': ('image_id', 'category_id', 'bbox'),
    'categories': ('id', 'name'),
}


def read_coco(path: str | Path) -> dict:
    """Read a COCO detection file and check its structure.

    Args:
        path (str | Path): Annotation file.

    Returns:
        dict: With 'images', 'annotations' and 'categories', all keys that mmir uses
        present and every bbox four numbers.

    Raises:
        FileNotFoundError: There is no such file.
        AnnotationError: It is no COCO detection file; the entry is named.
    """
    coco = read_json(path)
    check_structure(coco, str(path))
    return coco


def check_structure(coco: object, source: str) -> None:
    """Check that a COCO dictionary has the entries and keys that mmir uses.

    Args:
        coco (object): Content of an annotation file.
        source (str): Its name, for messages.

    Raises:
        AnnotationError: Something is missing; the entry is named.
    """
    if not isinstance(coco, dict):
        raise AnnotationError(f'{source} holds a {type(coco).__name__}, no COCO data')
    for part, keys in _KEYS.items():
        entries = coco.get(part)
        if not isinstance(entries, list):
            raise AnnotationError(f"{source} has no list '{part}': no COCO data")
        for number, entry in enumerate(entries):
            known = entry if isinstance(entry, dict) else {}
            lost = [key for key in keys if known.get(key) is None]
            if lost:
                raise AnnotationError(
                    f'{source}: {part}[{number}] has no {few(map(repr, lost))}: '
                    f'{str(entry)[:200]}'
                )
    for image in coco['images']:
        size = image['width'], image['height']
        if not all(isinstance(v, int | float) and v > 0 for v in size):
            raise AnnotationError(
                f'{source}: image {image["file_name"]} has the size {size}'
            )
    for ann in coco['annotations']:
        box = ann['bbox']
        numbers = isinstance(box, list | tuple) and len(box) == 4
        if not numbers or not all(isinstance(v, int | float) for v in box):
            raise AnnotationError(
                f'{source}: annotation {ann.get("id")} of image {ann["image_id"]} has '
                f'no box of four numbers (x, y, width, height) but {box!r}'
            )


def image_names(folder: str | Path, names: Iterable[str]) -> set[str]:
    """Find which images of a list exist, listing each folder once.

    Args:
        folder (str | Path): What the names are relative to.
        names (Iterable[str]): File names, possibly with folders.

    Returns:
        set[str]: The names that exist.
    """
    by_folder: dict[Path, list[str]] = {}
    for name in names:
        by_folder.setdefault((Path(folder) / name).parent, []).append(name)
    found: set[str] = set()
    for parent, members in by_folder.items():
        present = set(os.listdir(parent)) if parent.is_dir() else set()
        found.update(name for name in members if os.path.basename(name) in present)
    return found


@dataclass
class Boxes:
    """The boxes of a COCO file and what is wrong with them.

    Attributes:
        clipped (np.ndarray): (N, 4) float64, x, y, width, height inside the image.
        degenerate (np.ndarray): (N,) bool, NaN, infinite, or no positive size.
        outside (np.ndarray): (N,) bool, no part of the box in the image.
        partly (np.ndarray): (N,) bool, reaches over the edge by more than a pixel.
    """

    clipped: np.ndarray
    degenerate: np.ndarray
    outside: np.ndarray
    partly: np.ndarray

    @property
    def bad(self) -> np.ndarray:
        """np.ndarray: (N,) bool, boxes that cannot be used."""
        return self.degenerate | self.outside


def examine_boxes(boxes: np.ndarray, sizes: np.ndarray) -> Boxes:
    """Clip boxes to their images and sort out the faulty ones.

    Args:
        boxes (np.ndarray): (N, 4) float, x, y, width, height in pixels.
        sizes (np.ndarray): (N, 2) float, width and height of the image of each box.

    Returns:
        Boxes: The clipped boxes and the faults.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    sizes = np.asarray(sizes, np.float64).reshape(-1, 2)
    finite = np.isfinite(boxes).all(1)
    degenerate = ~finite | ~(boxes[:, 2:] > 0).all(1)
    boxes = np.where(finite[:, None], boxes, 0.0)
    near, far = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    low, high = np.clip(near, 0, sizes), np.clip(far, 0, sizes)
    clipped = np.concatenate([low, high - low], 1)
    outside = ~degenerate & ~(clipped[:, 2:] > 0).all(1)
    over = np.maximum(-near, far - sizes).max(1, initial=-np.inf) > 1
    return Boxes(clipped, degenerate, outside, over & ~degenerate & ~outside)


def label_map(coco: dict, classes: Sequence[str], source: str) -> dict[int, int]:
    """Map the category ids of a file to labels, by name.

    Args:
        coco (dict): COCO dictionary.
        classes (Sequence[str]): Class names; label k is `classes[k]`.
        source (str): Name of the file, for messages.

    Returns:
        dict[int, int]: Label of each category id that is wanted.

    Raises:
        AnnotationError: A class is not among the categories, which are named.
    """
    labels = {name: label for label, name in enumerate(classes)}
    ids = {
        cat['id']: labels[cat['name']]
        for cat in coco['categories']
        if cat['name'] in labels
    }
    lost = [name for label, name in enumerate(classes) if label not in ids.values()]
    if lost:
        raise AnnotationError(
            f'{source} has no category {few(map(repr, lost))}; it has '
            f'{few((repr(cat["name"]) for cat in coco["categories"]), 100)}. Name the '
            'classes as the file does: metainfo=dict(classes=(...))'
        )
    return ids


def count_boxes(coco: dict) -> Counter[str]:
    """Count the boxes of each category.

    Args:
        coco (dict): COCO dictionary.

    Returns:
        Counter[str]: Boxes by category name; ids not listed as 'id 7 (not listed)'.
    """
    names = {cat['id']: cat['name'] for cat in coco['categories']}
    return Counter(
        names.get(ann['category_id'], f'id {ann["category_id"]} (not listed)')
        for ann in coco['annotations']
    )
