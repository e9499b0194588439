"""Convert YOLO labels (one text file per image, normalized boxes) to a COCO file.

    python tools/dataset_converters/yolo_to_coco.py images/train --names data.yaml \
        --check
    python tools/dataset_converters/yolo_to_coco.py images/train --labels labels/train \
        --names classes.txt --out train.json

A line is `class x_center y_center width height`, the last four relative to the image.
An image without a text file counts as an image without objects. Unless `--labels` is
set, the label folder is the image folder with `images` replaced by `labels`.
"""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import numpy as np
import yaml
from _common import add_output_arguments, finish, run
from tqdm import tqdm

from mmir.data.check import Problem
from mmir.data.coco import plain_coco
from mmir.data.images import ImageReadError, list_images, read_image
from mmir.data.readers import read_yolo, yolo_boxes
from mmir.utils.errors import AnnotationError
from mmir.utils.files import few, read_lines, read_text


def read_names(path: Path) -> list[str]:
    """Read class names.

    Args:
        path (Path): `data.yaml` with `names` (a list, or a mapping from class numbers),
            or a text file with one name per line.

    Returns:
        list[str]: Names by class number.

    Raises:
        AnnotationError: The file has no names, or numbers are missing.
    """
    if path.suffix.lower() not in ('.yaml', '.yml'):
        names = read_lines(path)
    else:
        try:
            content = yaml.safe_load(read_text(path))
        except yaml.YAMLError as error:
            raise AnnotationError(f'{path} is not valid YAML: {error}') from error
        names = content.get('names') if isinstance(content, dict) else None
        if isinstance(names, dict):
            if sorted(names) != list(range(len(names))):
                raise AnnotationError(f'{path}: names are not numbered 0, 1, 2, ...')
            names = [names[k] for k in range(len(names))]
    if not names or not isinstance(names, list):
        raise AnnotationError(f'{path} holds no class names')
    return [str(name) for name in names]


def default_labels(images: Path) -> Path:
    """Replace the last folder named `images` with `labels`.

    Args:
        images (Path): Folder of images.

    Returns:
        Path: Label folder; the same folder if none is named `images`.
    """
    parts = list(images.parts)
    for k in reversed(range(len(parts))):
        if parts[k] == 'images':
            parts[k] = 'labels'
            break
    return Path(*parts)


def find_labels(folder: Path) -> dict[Path, list[Path]]:
    """List the label files of a folder and its subfolders; the suffix in any case.

    Args:
        folder (Path): Folder of text files.

    Returns:
        dict[Path, list[Path]]: Name below the folder without suffix -> its files.
    """
    found: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob('*')):
        if path.suffix.lower() == '.txt' and path.name.lower() != 'classes.txt':
            found.setdefault(path.relative_to(folder).with_suffix(''), []).append(path)
    return found


def _matching(
    files: Sequence[Path], found: dict[Path, list[Path]], images: Path
) -> tuple[list[tuple[Path, Path | None]], list[Problem]]:
    """Pair images and labels by name; report names that are not unique."""
    by_name: dict[Path, list[Path]] = {}
    for file in files:
        by_name.setdefault(file.with_suffix(''), []).append(file)
    pairs, problems = [], []
    for name, labels in found.items():
        if name not in by_name:
            detail = f'expected in {images}'
            problems += [
                Problem('label without an image', str(label), detail)
                for label in labels
            ]
    for name, same in by_name.items():
        labels = found.get(name, [])
        if len(labels) > 1 or (labels and len(same) > 1):
            detail = few([*same, *labels])
            problems.append(Problem('several files of one name', str(name), detail))
        else:
            pairs += [(file, labels[0] if labels else None) for file in same]
    return pairs, problems


def _read_pair(image: Path, label: Path | None, num_classes: int) -> tuple | Problem:
    """Read the size of an image and its label rows, or report a problem."""
    try:
        height, width = read_image(str(image)).shape[:2]
        rows = read_yolo(label, num_classes) if label else np.zeros((0, 5))
    except (AnnotationError, ImageReadError) as error:
        return Problem('cannot be read', str(image), str(error))
    return width, height, rows


def convert_yolo(
    images: Path, labels: Path, names: Sequence[str], threads: int = 8
) -> tuple[dict, list[Problem]]:
    """Convert a folder of images with YOLO labels.

    Args:
        images (Path): Folder of images.
        labels (Path): Folder of text files, with the same subfolders.
        names (Sequence[str]): Class names.
        threads (int): Number of threads that read images (for their sizes).

    Returns:
        tuple[dict, list[Problem]]: COCO dictionary, and the problems by file.
    """
    files = list_images(images)
    matching, problems = _matching(files, find_labels(labels), images)
    entries, rows = [], []
    paths = [images / file for file, _ in matching]
    texts = [label for _, label in matching]
    with ThreadPoolExecutor(threads) as pool:
        pairs = pool.map(_read_pair, paths, texts, repeat(len(names)))
        pairs = list(tqdm(pairs, 'images', len(paths), leave=False))
    for (file, _), pair in zip(matching, pairs, strict=True):
        if isinstance(pair, Problem):
            problems.append(pair)
            continue
        width, height, lines = pair
        image_id = len(entries)
        entries.append(
            {
                'id': image_id,
                'file_name': file.as_posix(),
                'width': width,
                'height': height,
            }
        )
        boxes = yolo_boxes(lines[:, 1:], width, height).tolist()
        numbers = lines[:, 0].astype(int).tolist()
        rows += [(image_id, k, box, 0) for k, box in zip(numbers, boxes, strict=True)]
    return plain_coco(entries, rows, names), problems


def convert(args: argparse.Namespace) -> int:
    """Run with parsed arguments.

    Args:
        args (Namespace): See :func:`main`.

    Returns:
        int: Exit status.
    """
    labels = args.labels or default_labels(args.images)
    if not labels.is_dir() or not find_labels(labels):
        raise FileNotFoundError(f'no label files (.txt) in {labels}; set --labels')
    coco, problems = convert_yolo(args.images, labels, read_names(args.names))
    return finish(coco, problems, labels, args.images, args)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('images', type=Path, help='folder of images')
    parser.add_argument('--labels', type=Path, help='folder of text files')
    parser.add_argument(
        '--names', type=Path, required=True, help='data.yaml or classes.txt'
    )
    add_output_arguments(parser)
    return run(parser, convert, argv)


if __name__ == '__main__':
    sys.exit(main())
