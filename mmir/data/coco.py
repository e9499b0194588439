"""COCO detection files: writing, reading, and checks before training."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from mmir.data.check import (
    DAMAGED,
    DEGENERATE,
    ELSEWHERE,
    IRREGULAR,
    MISSING,
    OUTSIDE,
    UNREADABLE,
    Problem,
    Report,
    edge_note,
    examine_boxes,
)
from mmir.data.coco_entries import normalize_coco
from mmir.data.images import ImageReadError, read_image
from mmir.data.inside import outside
from mmir.data.jpeg_damage import damaged_jpegs
from mmir.utils.errors import AnnotationError
from mmir.utils.files import few, read_json


def read_coco(path: str | Path) -> dict:
    """Read a COCO detection file, check its structure and normalize its values.

    Args:
        path (str | Path): Annotation file.

    Returns:
        dict: COCO dictionary with 'images', 'annotations' and 'categories', in which
        all keys that mmir uses exist and have COCO's types; see
        :func:`mmir.data.coco_entries.normalize_coco`.

    Raises:
        FileNotFoundError: There is no such file.
        AnnotationError: It is not a COCO detection file; the entry is named.
    """
    coco = read_json(path)
    normalize_coco(coco, str(path))
    return coco


def plain_coco(
    images: Sequence[dict],
    rows: Sequence[tuple[int, int, Sequence[float], int]],
    names: Sequence[str],
) -> dict:
    """Assemble a COCO dictionary.

    Args:
        images (Sequence[dict]): COCO image entries.
        rows (Sequence[tuple]): Image id, label (0-based), box (left, top, width, height
            in pixels) and crowd flag of each object.
        names (Sequence[str]): Class names by label.

    Returns:
        dict: COCO dictionary; annotation and category ids count from 1.
    """
    annotations = [
        {
            'id': number,
            'image_id': image_id,
            'category_id': label + 1,
            'bbox': list(box),
            'area': box[2] * box[3],
            'iscrowd': crowd,
        }
        for number, (image_id, label, box, crowd) in enumerate(rows, 1)
    ]
    categories = [{'id': k, 'name': name} for k, name in enumerate(names, 1)]
    return {
        'images': list(images),
        'annotations': annotations,
        'categories': categories,
    }


def image_names(folder: str | Path, names: Iterable[str]) -> set[str]:
    """Find which images of a list are regular files, reading each folder only once.

    Args:
        folder (str | Path): Folder that the names are relative to.
        names (Iterable[str]): File names, possibly with subfolders.

    Returns:
        set[str]: The names that exist.
    """
    return {
        name
        for present, members in _listings(folder, names)
        for name in members
        if os.path.basename(name) in present
    }


def stored_names(folder: str | Path, names: Iterable[str]) -> dict[str, list[str]]:
    """Find files whose suffix may be written in another case (`.JPG`, `.XML`).

    Args:
        folder (str | Path): Folder that the names are relative to.
        names (Iterable[str]): File names, possibly with subfolders.

    Returns:
        dict[str, list[str]]: Name -> the names on disk, sorted, none or several.
    """
    found = {}
    for present, members in _listings(folder, names):
        stored: dict[str, list[str]] = {}
        for base in sorted(present):
            stored.setdefault(_lower_suffix(base), []).append(base)
        for name in members:
            base = os.path.basename(name)
            hits = stored.get(_lower_suffix(base), [])
            found[name] = [name.removesuffix(base) + hit for hit in hits]
    return found


def _listings(
    folder: str | Path, names: Iterable[str]
) -> Iterator[tuple[set[str], list[str]]]:
    """Yield the files of each folder that occurs in a list, and the names there."""
    by_folder: dict[Path, list[str]] = {}
    for name in names:
        by_folder.setdefault((Path(folder) / name).parent, []).append(name)
    for parent, members in by_folder.items():
        present: set[str] = set()
        if parent.is_dir():
            with os.scandir(parent) as entries:
                present = {entry.name for entry in entries if entry.is_file()}
        yield present, members


def _lower_suffix(name: str) -> str:
    """Write the suffix of a name in lowercase."""
    stem, suffix = os.path.splitext(name)
    return stem + suffix.lower()


def label_map(coco: dict, classes: Sequence[str], source: str) -> dict[int, int]:
    """Map the category ids of a file to labels by class name.

    Args:
        coco (dict): COCO dictionary.
        classes (Sequence[str]): Class names; label k is `classes[k]`.
        source (str): Name of the file, for error messages.

    Returns:
        dict[int, int]: Category id -> label, for the classes wanted.

    Raises:
        AnnotationError: A class is not among the categories, which are listed.
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
        Counter[str]: Boxes by category name; unlisted ids as 'id 7 (not listed)'.
    """
    names = {cat['id']: cat['name'] for cat in coco['categories']}
    return Counter(
        names.get(ann['category_id'], f'id {ann["category_id"]} (not listed)')
        for ann in coco['annotations']
    )


def _duplicates(coco: dict) -> Iterator[Problem]:
    """Find ids and file names that are used more than once."""
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
    return problems, edge_note(over)


def check_coco(
    coco: dict,
    source: str,
    image_folder: str | Path | None = None,
    classes: Sequence[str] | None = None,
    below: str | Path | None = None,
) -> Report:
    """Check a COCO dictionary without opening images.

    Args:
        coco (dict): COCO dictionary of valid structure (:func:`read_coco`).
        source (str): Its name, for error messages.
        image_folder (str | Path, optional): Folder in which the images must exist; None
            skips this check.
        classes (Sequence[str], optional): Classes that must be among the categories.
            Boxes of other categories are noted, not checked.
        below (str | Path, optional): Folder that may hold images too, such as the root
            of the dataset; '/' allows every file. Default: only `image_folder`.

    Returns:
        Report: Unknown or unlisted categories, boxes outside the image or without size,
        annotations of unknown images, duplicate ids, missing images, file names that
        lead out of the data.
    """
    report = Report(source, len(coco['images']), dict(count_boxes(coco)))
    report.notes += coco.get('notes', [])
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
        left_out = [item for item in report.labels.items() if item[0] in names]
        if left_out:
            names = ', '.join(f'{name} {n}' for name, n in left_out)
            report.notes.append(f'boxes of other categories, left out: {names}')
    images = {image['id']: image for image in coco['images']}
    problems, notes = _box_problems(coco, images)
    report.problems += problems
    report.notes += notes
    if image_folder is not None:
        names = [image['file_name'] for image in coco['images']]
        report.problems += _file_problems(names, image_folder, below)
    return report


def _file_problems(
    names: Sequence[str], folder: str | Path, below: str | Path | None
) -> list[Problem]:
    """Find files that are missing, no regular files, or outside the data."""
    where = os.path.join(str(folder), '')
    odd = dict.fromkeys(outside(names, folder, below))
    inside = [name for name in names if name not in odd]
    found = image_names(folder, inside)
    return [Problem(ELSEWHERE, name, f'not below {below or where}') for name in odd] + [
        Problem(
            IRREGULAR if os.path.exists(where + name) else MISSING,
            name,
            f'expected in {where}',
        )
        for name in inside
        if name not in found
    ]


def _open_problem(folder: str | Path, image: dict) -> Problem | None:
    """Decode one image and compare its size with the annotation."""
    path = os.path.join(str(folder), image['file_name'])
    try:
        height, width = read_image(path).shape[:2]
    except ImageReadError as error:
        return Problem(UNREADABLE, image['file_name'], str(error))
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
    below: str | Path | None = None,
) -> Report:
    """Check an annotation file and its images.

    Args:
        ann_file (str | Path): COCO detection file.
        image_folder (str | Path): Folder that its file names are relative to.
        classes (Sequence[str], optional): Classes that must be in the file.
        deep (bool): Also decode every image and compare its size.
        threads (int): Number of decoding threads.
        progress (bool): Show a progress bar while decoding.
        below (str | Path, optional): As in :func:`check_coco`.

    Returns:
        Report: Counts and all problems, each with the file concerned.

    Raises:
        FileNotFoundError: There is no such annotation file.
        AnnotationError: It is not a COCO detection file.
    """
    coco = read_coco(ann_file)
    report = check_coco(coco, str(ann_file), image_folder, classes, below)
    if deep:
        odd = {problem.name for problem in report.problems if problem.kind == ELSEWHERE}
        images = [image for image in coco['images'] if image['file_name'] not in odd]
        report.problems += open_images(images, image_folder, threads, progress)
    return report


def open_images(
    images: Sequence[dict],
    image_folder: str | Path,
    threads: int = 8,
    progress: bool = False,
) -> list[Problem]:
    """Decode every image that exists and compare its size with its entry.

    JPEG files with damaged data are found by :func:`damaged_jpegs`.

    Args:
        images (Sequence[dict]): COCO image entries.
        image_folder (str | Path): Folder that their file names are relative to.
        threads (int): Number of decoding threads (OpenCV releases the GIL).
        progress (bool): Show a progress bar.

    Returns:
        list[Problem]: Unreadable and damaged images, and size mismatches.
    """
    found = image_names(image_folder, (image['file_name'] for image in images))
    todo = [image for image in images if image['file_name'] in found]
    with ThreadPoolExecutor(threads) as pool:
        results = pool.map(lambda image: _open_problem(image_folder, image), todo)
        bar = tqdm(results, 'images', len(todo), disable=not progress, leave=False)
        problems = [problem for problem in bar if problem]
    bad = {problem.name for problem in problems}
    names = {
        os.path.join(str(image_folder), image['file_name']): image['file_name']
        for image in todo
        if image['file_name'] not in bad
    }
    damaged = damaged_jpegs(list(names), threads, progress)
    return problems + [
        Problem(DAMAGED, names[path], text) for path, text in damaged.items()
    ]
