"""Validation of COCO detection data before anything is trained on it."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mmir.transforms.loading import ImageReadError, read_image
from mmir.utils.errors import AnnotationError
from mmir.utils.files import few

from .coco import count_boxes, examine_boxes, image_names, label_map, read_coco

DEGENERATE, OUTSIDE = 'box without a positive finite size', 'box outside the image'


@dataclass(frozen=True)
class Problem:
    """One fault of a data set.

    Attributes:
        kind (str): What is wrong, such as 'box outside the image'.
        name (str): The image file or entry it concerns.
        detail (str): The value found.
    """

    kind: str
    name: str
    detail: str = ''

    def __str__(self) -> str:
        """Write the fault on one line."""
        return f'{self.name}: {self.kind}' + (
            f' ({self.detail})' if self.detail else ''
        )


@dataclass
class Report:
    """What a check found.

    Attributes:
        source (str): The annotation file.
        images (int): Images listed.
        boxes (dict[str, int]): Boxes by category.
        problems (list[Problem]): Faults that make the data unusable as it is.
        notes (list[str]): What a user should know but can be handled.
    """

    source: str
    images: int
    boxes: dict[str, int]
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """bool: Whether there is no problem."""
        return not self.problems

    def text(self, limit: int = 20) -> str:
        """Write the report for people.

        Args:
            limit (int): How many problems of each kind to name.

        Returns:
            str: Several lines.
        """
        boxes = ', '.join(f'{name} {n}' for name, n in self.boxes.items()) or 'none'
        lines = [self.source, f'  images: {self.images}', f'  boxes: {boxes}']
        lines += [f'  note: {note}' for note in self.notes]
        for kind, total in Counter(p.kind for p in self.problems).items():
            lines.append(f'  PROBLEM: {kind}: {total}')
            named = [str(p) for p in self.problems if p.kind == kind]
            lines += [f'    {line}' for line in named[:limit]]
            if total > limit:
                lines.append(f'    ... and {total - limit} more')
        lines.append('  no problems' if self.ok else f'  {len(self.problems)} problems')
        return '\n'.join(lines)

    def raise_on_problems(self) -> None:
        """Stop if there is a problem.

        Raises:
            AnnotationError: With the counts and the first names of each kind.
        """
        if self.problems:
            raise AnnotationError(self.text(limit=3))


def _duplicates(coco: dict) -> Iterator[Problem]:
    """Find ids and file names that are used twice."""
    for part, key, kind in (
        ('images', 'id', 'image id used twice'),
        ('images', 'file_name', 'image listed twice'),
        ('annotations', 'id', 'annotation id used twice'),
        ('categories', 'id', 'category id used twice'),
    ):
        values = Counter(entry[key] for entry in coco[part] if key in entry)
        for value, times in values.items():
            if times > 1:
                yield Problem(kind, str(value), f'{times} times')


def _box_problems(coco: dict, images: dict) -> tuple[list[Problem], list[str]]:
    """Find unknown categories and images, and boxes that cannot be used."""
    listed = {cat['id'] for cat in coco['categories']}
    problems, known = [], []
    for ann in coco['annotations']:
        image = images.get(ann['image_id'])
        if image is None:
            name = f'annotation {ann.get("id")}'
            detail = f'image_id {ann["image_id"]}'
            problems.append(Problem('annotation of an image not listed', name, detail))
        elif ann['category_id'] not in listed:
            name, detail = image['file_name'], f'category_id {ann["category_id"]}'
            problems.append(Problem('category id not listed', name, detail))
        else:
            known.append((ann, image))
    sizes = np.array([(img['width'], img['height']) for _, img in known], float)
    boxes = examine_boxes([ann['bbox'] for ann, _ in known], sizes.reshape(-1, 2))
    for mask, kind in (
        (boxes.degenerate, DEGENERATE),
        (boxes.outside, OUTSIDE),
    ):
        for k in np.flatnonzero(mask):
            ann, image = known[k]
            detail = (
                f'annotation {ann.get("id")}, box {ann["bbox"]}, image '
                f'{image["width"]}x{image["height"]}'
            )
            problems.append(Problem(kind, image['file_name'], detail))
    over = [known[k][1]['file_name'] for k in np.flatnonzero(boxes.partly)]
    note = f'{len(over)} boxes reach over the edge of the image and are clipped'
    return problems, [f'{note}: {few(dict.fromkeys(over), 3)}'] if over else []


def check_coco(
    coco: dict,
    source: str,
    image_folder: str | Path | None = None,
    classes: Sequence[str] | None = None,
) -> Report:
    """Check what can be checked without opening images.

    Args:
        coco (dict): COCO dictionary of sound structure (:func:`read_coco`).
        source (str): Its name, for messages.
        image_folder (str | Path, optional): Where the images must exist; None does not
            look.
        classes (Sequence[str], optional): Classes that must be among the categories.
            Boxes of others are noted, not checked.

    Returns:
        Report: Unknown or unlisted categories, boxes outside the image or without size,
        annotations of unknown images, ids used twice, missing images.
    """
    report = Report(source, len(coco['images']), dict(count_boxes(coco)))
    report.problems += _duplicates(coco)
    if classes is not None:
        try:
            wanted = label_map(coco, classes, source)
        except AnnotationError as error:
            report.problems.append(Problem('unknown class', 'classes', str(error)))
            return report
        others = {cat['id'] for cat in coco['categories']} - set(wanted)
        kept = [a for a in coco['annotations'] if a['category_id'] not in others]
        coco = {**coco, 'annotations': kept}
        names = {cat['name'] for cat in coco['categories']} - set(classes)
        left_out = [item for item in report.boxes.items() if item[0] in names]
        if left_out:
            names = ', '.join(f'{name} {n}' for name, n in left_out)
            report.notes.append(f'boxes of other categories, left out: {names}')
    images = {image['id']: image for image in coco['images']}
    problems, notes = _box_problems(coco, images)
    report.problems += problems
    report.notes += notes
    if image_folder is not None:
        names = [image['file_name'] for image in coco['images']]
        found = image_names(image_folder, names)
        where = os.path.join(str(image_folder), '')
        report.problems += [
            Problem('image is missing', name, f'expected in {where}')
            for name in names
            if name not in found
        ]
    return report


def _open_problem(folder: str | Path, image: dict) -> Problem | None:
    """Decode one image and compare its size with the annotation."""
    path = os.path.join(str(folder), image['file_name'])
    try:
        height, width = read_image(path).shape[:2]
    except ImageReadError as error:
        return Problem('image cannot be read', image['file_name'], str(error))
    if (width, height) == (image['width'], image['height']):
        return None
    detail = f'file {width}x{height}, annotation {image["width"]}x{image["height"]}'
    return Problem('size differs from the annotation', image['file_name'], detail)


def validate_coco(
    ann_file: str | Path,
    image_folder: str | Path,
    classes: Sequence[str] | None = None,
    deep: bool = False,
    threads: int = 8,
    progress: bool = False,
) -> Report:
    """Check an annotation file and its images.

    Args:
        ann_file (str | Path): COCO detection file.
        image_folder (str | Path): What its file names are relative to.
        classes (Sequence[str], optional): Classes that must be in the file.
        deep (bool): Also decode every image and compare its size.
        threads (int): Threads that decode.
        progress (bool): Show a progress bar while decoding.

    Returns:
        Report: Counts and all problems, each with the name of its file.

    Raises:
        FileNotFoundError: There is no such annotation file.
        AnnotationError: It is no COCO detection file.
    """
    coco = read_coco(ann_file)
    report = check_coco(coco, str(ann_file), image_folder, classes)
    if deep:
        report.problems += open_images(coco['images'], image_folder, threads, progress)
    return report


def open_images(
    images: Sequence[dict],
    image_folder: str | Path,
    threads: int = 8,
    progress: bool = False,
) -> list[Problem]:
    """Decode every image that exists and compare its size with its entry.

    Args:
        images (Sequence[dict]): COCO image entries.
        image_folder (str | Path): What their file names are relative to.
        threads (int): Threads that decode (OpenCV releases the interpreter lock).
        progress (bool): Show a progress bar.

    Returns:
        list[Problem]: Unreadable images and sizes that differ.
    """
    found = image_names(image_folder, (image['file_name'] for image in images))
    todo = [image for image in images if image['file_name'] in found]
    with ThreadPoolExecutor(threads) as pool:
        results = pool.map(lambda image: _open_problem(image_folder, image), todo)
        bar = tqdm(results, 'images', len(todo), disable=not progress, leave=False)
        return [problem for problem in bar if problem]
