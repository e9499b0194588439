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
from _common import add_output_arguments, finish, plain_coco, run
from tqdm import tqdm

from mmir.data.check import Problem
from mmir.data.images import ImageReadError, list_images, read_image
from mmir.data.readers import read_yolo, yolo_boxes
from mmir.utils.errors import AnnotationError


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
    if path.suffix not in ('.yaml', '.yml'):
        lines = path.read_text(encoding='utf-8').splitlines()
        names = [line.strip() for line in lines if line.strip()]
    else:
        try:
            content = yaml.safe_load(path.read_text(encoding='utf-8'))
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


def _read_pair(image: Path, label: Path, num_classes: int) -> tuple | Problem:
    """Read the size of an image and its label rows, or report a problem."""
    try:
        height, width = read_image(str(image)).shape[:2]
        rows = read_yolo(label, num_classes) if label.is_file() else np.zeros((0, 5))
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
    problems, entries, rows = [], [], []
    stems = {path.with_suffix('') for path in files}
    for label in sorted(labels.rglob('*.txt')):
        stem = label.relative_to(labels).with_suffix('')
        if stem not in stems and label.name != 'classes.txt':
            detail = f'expected in {images}'
            problems.append(Problem('label without an image', str(label), detail))
    texts = [labels / file.with_suffix('.txt') for file in files]
    paths = [images / file for file in files]
    with ThreadPoolExecutor(threads) as pool:
        pairs = pool.map(_read_pair, paths, texts, repeat(len(names)))
        pairs = list(tqdm(pairs, 'images', len(files), leave=False))
    for file, pair in zip(files, pairs, strict=True):
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
    if not labels.is_dir() or not any(labels.rglob('*.txt')):
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
