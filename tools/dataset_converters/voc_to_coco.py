"""Convert Pascal VOC labels (one XML file per image) to a COCO file.

    python tools/dataset_converters/voc_to_coco.py Annotations --images JPEGImages \
        --check
    python tools/dataset_converters/voc_to_coco.py Annotations --images JPEGImages \
        --list ImageSets/Main/train.txt --classes person car --out train.json

VOC counts pixels from 1 and includes the last one: a box (xmin, ymin, xmax, ymax)
becomes x = xmin - 1, y = ymin - 1, width = xmax - x, height = ymax - y. `difficult`
objects become crowd boxes, which are ignored in training and evaluation, as in VOC.
An image has the name of its label file; failing that, the name in `<filename>`.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from _common import add_output_arguments, finish, run
from tqdm import tqdm

from mmir.data.check import MISSING, Problem
from mmir.data.coco import plain_coco
from mmir.data.images import ImageReadError, list_images, read_image
from mmir.data.readers import read_names, read_voc, without_suffix
from mmir.utils.errors import AnnotationError
from mmir.utils.files import few


class Images:
    """Images of a folder, found by the names that label files give them.

    Args:
        folder (Path): Folder of the images, with any subfolders.

    Raises:
        FileNotFoundError: There is no such folder, or no image in it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._paths: dict[str, set[str]] = {}  # with the subfolder; it goes first
        self._names: dict[str, set[str]] = {}
        for path in list_images(folder):
            for name in (path, path.with_suffix('')):
                self._paths.setdefault(name.as_posix(), set()).add(path.as_posix())
                self._names.setdefault(name.name, set()).add(path.as_posix())

    def find(self, label: Path, written: str | None) -> tuple[set[str], set[str]]:
        """Find the image of a label file.

        VOC names an image and its labels alike. `<filename>` often still holds the name
        that an image had before it was renamed, or converted to another format. So it
        decides only between images that share the name of the label file, or if there
        is none.

        Args:
            label (Path): Label file, relative to its folder.
            written (str, optional): Its `<filename>`, possibly a path of another
                system.

        Returns:
            tuple[set[str], set[str]]: The image, none or several; other images that
            `<filename>` names.
        """
        path = (written or '').strip().replace('\\', '/')
        name = path.rpartition('/')[2]
        said = self._paths.get(path) or self._names.get(name)
        said = said or self._names.get(without_suffix(name), set())
        stem = label.with_suffix('')
        own = self._paths.get(stem.as_posix()) or self._names.get(stem.name, set())
        found = (own & said or own) or said
        return found, said - found


def _read(
    xml: Path, folder: Path, images: Images
) -> tuple[dict, list[dict], set[str]] | Problem:
    """Read the image entry and objects of a label file, and other images it names."""
    try:
        written, size, objects = read_voc(xml)
        found, others = images.find(xml.relative_to(folder), written)
        if not found:
            detail = f'{written or xml.stem}, expected in {images.folder}'
            return Problem(MISSING, str(xml), detail)
        if len(found) > 1:
            detail = f'{few(sorted(found))}; set --images to the folder of one camera'
            return Problem('several images of its name', str(xml), detail)
        (image,) = found
        if size is None:
            size = read_image(str(images.folder / image)).shape[1::-1]
    except (AnnotationError, ImageReadError) as error:
        return Problem('cannot be read', str(xml), str(error))
    entry = {'file_name': image, 'width': size[0], 'height': size[1]}
    return entry, objects, others


def convert_voc(
    files: Sequence[Path],
    folder: Path,
    image_folder: Path,
    classes: Sequence[str] | None = None,
) -> tuple[dict, list[Problem], list[str]]:
    """Convert VOC files.

    Args:
        files (Sequence[Path]): XML files.
        folder (Path): Folder that holds them.
        image_folder (Path): Folder of the images.
        classes (Sequence[str], optional): Class names in the order wanted. Default: all
            names found, sorted.

    Returns:
        tuple[dict, list[Problem], list[str]]: COCO dictionary, the problems by file,
        and a note if names disagree.
    """
    images = Images(image_folder)
    problems, found, entries, stale = [], [], [], []
    for xml in tqdm(files, 'labels', leave=False):
        read = _read(xml, folder, images)
        if isinstance(read, Problem):
            problems.append(read)
            continue
        entry, objects, others = read
        found += [(len(entries), str(xml), obj) for obj in objects]
        entries.append({'id': len(entries), **entry})
        stale += [f'{xml.name} ({few(sorted(others))})'] if others else []
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
    note = (
        f'{len(stale)} files whose <filename> is another image than that of their own '
        f'name, which is used: {few(stale, 3)}'
    )
    return plain_coco(entries, rows, names), problems, [note] * bool(stale)


def convert(args: argparse.Namespace) -> int:
    """Run with parsed arguments.

    Args:
        args (Namespace): See :func:`main`.

    Returns:
        int: Exit status.
    """
    if not args.annotations.is_dir():
        raise FileNotFoundError(f'label folder not found: {args.annotations}')
    by_name: dict[str, list[Path]] = {}
    for path in sorted(args.annotations.rglob('*')):
        if path.suffix.lower() == '.xml' and path.is_file():
            name = path.relative_to(args.annotations).with_suffix('').as_posix()
            by_name.setdefault(name, []).append(path)
    if not by_name:
        raise FileNotFoundError(f'no .xml files in {args.annotations}')
    names = read_names(args.list) if args.list else list(by_name)
    files = [path for name in names for path in by_name.get(name, ())]
    found = convert_voc(files, args.annotations, args.images, args.classes)
    coco, problems, notes = found
    lost = [name for name in names if name not in by_name]
    problems[:0] = [
        Problem('listed, but has no label file', name, str(args.list)) for name in lost
    ]
    return finish(coco, problems, args.annotations, args.images, args, notes)


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
