"""Convert Pascal VOC labels (one XML file per image) to a COCO file.

    python tools/dataset_converters/voc_to_coco.py Annotations --images JPEGImages \
        --check
    python tools/dataset_converters/voc_to_coco.py Annotations --images JPEGImages \
        --list ImageSets/Main/train.txt --classes person car --out train.json

VOC counts pixels from 1 and includes the last one: a box (xmin, ymin, xmax, ymax)
becomes x = xmin - 1, y = ymin - 1, width = xmax - x, height = ymax - y. `difficult`
objects become crowd boxes, which are ignored in training and evaluation, as in VOC.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from _common import add_output_arguments, finish, plain_coco, run
from tqdm import tqdm

from mmir.data.check import Problem
from mmir.data.images import ImageReadError, list_images, read_image
from mmir.data.readers import read_voc
from mmir.utils.errors import AnnotationError


def _find_image(name: str | None, xml: Path, images: dict[str, str]) -> str | None:
    """Find the image by the name in the XML file, else by the name of that file."""
    for stem in (Path(name or '').stem, xml.stem):
        if stem in images:
            return images[stem]
    return None


def convert_voc(
    files: Sequence[Path], image_folder: Path, classes: Sequence[str] | None = None
) -> tuple[dict, list[Problem]]:
    """Convert VOC files.

    Args:
        files (Sequence[Path]): XML files.
        image_folder (Path): Folder of the images.
        classes (Sequence[str], optional): Class names in the order wanted. Default: all
            names found, sorted.

    Returns:
        tuple[dict, list[Problem]]: COCO dictionary, and the problems by file.
    """
    by_stem = {path.stem: path.as_posix() for path in list_images(image_folder)}
    problems, found, entries = [], [], []
    for xml in tqdm(files, 'labels', leave=False):
        try:
            name, size, objects = read_voc(xml)
            image = _find_image(name, xml, by_stem)
            if image is None:
                detail = f'{name or xml.stem}, expected in {image_folder}'
                problems.append(Problem('image is missing', str(xml), detail))
                continue
            if size is None:
                height, width = read_image(str(image_folder / image)).shape[:2]
                size = width, height
        except (AnnotationError, ImageReadError) as error:
            problems.append(Problem('cannot be read', str(xml), str(error)))
            continue
        found += [(len(entries), str(xml), obj) for obj in objects]
        width, height = size
        entries.append(
            {'id': len(entries), 'file_name': image, 'width': width, 'height': height}
        )
    names = list(classes or sorted({obj['name'] for _, _, obj in found}))
    problems += [
        Problem('unknown class', xml_name, obj['name'])
        for _, xml_name, obj in found
        if obj['name'] not in names
    ]
    rows = [
        (image_id, names.index(obj['name']), obj['bbox'], obj['iscrowd'])
        for image_id, _, obj in found
        if obj['name'] in names
    ]
    return plain_coco(entries, rows, names), problems


def convert(args: argparse.Namespace) -> int:
    """Run with parsed arguments.

    Args:
        args (Namespace): See :func:`main`.

    Returns:
        int: Exit status.
    """
    if not args.annotations.is_dir():
        raise FileNotFoundError(f'label folder not found: {args.annotations}')
    files = sorted(args.annotations.glob('*.xml'))
    if args.list:
        stems = args.list.read_text(encoding='utf-8').split()
        files = [args.annotations / f'{stem}.xml' for stem in stems]
        lost = [path for path in files if not path.is_file()]
        if lost:
            raise FileNotFoundError(f'{args.list} lists {lost[0]}, which is missing')
    if not files:
        raise FileNotFoundError(f'no .xml files in {args.annotations}')
    coco, problems = convert_voc(files, args.images, args.classes)
    return finish(coco, problems, args.annotations, args.images, args)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('annotations', type=Path, help='folder of XML files')
    parser.add_argument('--images', type=Path, required=True, help='folder of images')
    parser.add_argument('--list', type=Path, help='text file with the names of a split')
    parser.add_argument('--classes', nargs='+', help='class names, in this order')
    add_output_arguments(parser)
    return run(parser, convert, argv)


if __name__ == '__main__':
    sys.exit(main())
