"""Check the FLIR ADAS thermal dataset, or convert it to plain COCO files.

    python tools/dataset_converters/flir.py data/FLIR_ADAS_1_3 --check
    python tools/dataset_converters/flir.py data/FLIR_ADAS_1_3 --out data/flir_coco

Versions 1.3 and 1.0 are recognized by their folders. `--out` writes one file per split,
with only person, bicycle and car, image ids unique across splits, and file names
relative to ROOT.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from _common import run

from mmir.data.check import NO_LABELS, Problem, Report, examine_boxes
from mmir.data.coco import check_coco, image_names, label_map, open_images, plain_coco
from mmir.data.layouts.flir import (
    FLIR_CLASSES,
    V10,
    V13,
    FlirLayout,
    missing_flir_message,
    read_flir,
)
from mmir.utils.errors import AnnotationError
from mmir.utils.files import write_json


def find_splits(root: Path) -> dict[str, tuple[Path, FlirLayout]]:
    """Find the splits of a copy.

    Args:
        root (Path): Folder with the splits.

    Returns:
        dict[str, tuple[Path, FlirLayout]]: Folder and layout of each split found.

    Raises:
        FileNotFoundError: There is none.
    """
    found = {}
    for layout in (V10, V13):
        for split, name in layout.splits.items():
            if (root / name / layout.annotations).exists():
                found[split] = (root / name, layout)
    if not found:
        raise FileNotFoundError(missing_flir_message(root))
    return dict(sorted(found.items()))


def quirks(coco: dict, layout: FlirLayout, folder: Path) -> list[str]:
    """Describe the peculiarities of a split that its readers must know.

    Args:
        coco (dict): Annotations of the split.
        layout (FlirLayout): Its layout.
        folder (Path): Folder of the split.

    Returns:
        list[str]: Lines of text.
    """
    stems = [PurePosixPath(image['file_name']).stem for image in coco['images']]
    ids = [image['id'] for image in coco['images']]
    lines = [
        f'layout of FLIR ADAS v{layout.version}; {len(coco["categories"])} categories '
        'listed, mapped by name',
        f'image ids {min(ids, default=0)} to {max(ids, default=0)}, first file '
        f'{coco["images"][0]["file_name"] if ids else "none"}',
    ]
    lines += [
        f'{cat["name"]} has the category id {cat["id"]}'
        for cat in coco['categories']
        if cat['name'] == 'dog'
    ]
    with_boxes = {ann['image_id'] for ann in coco['annotations']}
    lines.append(f'{len(set(ids) - with_boxes)} images without boxes')
    for what, pattern in (('RGB', layout.rgb), ('16-bit thermal', layout.ir16)):
        names = [pattern.format(stem) for stem in stems]
        lines.append(
            f'{len(image_names(folder, names))} images have a matching {what} file'
        )
    return lines


def check_split(folder: Path, layout: FlirLayout) -> Report:
    """Check one split, opening every image.

    Args:
        folder (Path): Folder of the split.
        layout (FlirLayout): Its layout.

    Returns:
        Report: Counts, peculiarities and problems.
    """
    ann_file = folder / layout.annotations
    try:
        coco, _ = read_flir(ann_file)
    except AnnotationError as error:
        return Report(str(ann_file), problems=[Problem(NO_LABELS, str(error))])
    report = check_coco(coco, str(ann_file), folder, FLIR_CLASSES)
    report.notes[:0] = quirks(coco, layout, folder)
    report.problems += open_images(coco['images'], folder, progress=True)
    return report


def to_plain(coco: dict, prefix: str, first_id: int) -> dict:
    """Reduce annotations to person, bicycle and car in plain COCO form.

    Args:
        coco (dict): FLIR annotations.
        prefix (str): Folder to put before the file names.
        first_id (int): Id of the first image.

    Returns:
        dict: Images numbered from `first_id`, categories from 1, boxes clipped, crowd
        flags kept.
    """
    labels = label_map(coco, FLIR_CLASSES, prefix)
    new_id = {image['id']: k for k, image in enumerate(coco['images'], first_id)}
    sizes = {img['id']: (img['width'], img['height']) for img in coco['images']}
    anns = [ann for ann in coco['annotations'] if ann['category_id'] in labels]
    boxes = examine_boxes(
        [ann['bbox'] for ann in anns], [sizes[ann['image_id']] for ann in anns]
    ).clipped.tolist()
    images = [
        {
            'id': new_id[image['id']],
            'file_name': f'{prefix}/{image["file_name"]}',
            'width': image['width'],
            'height': image['height'],
        }
        for image in coco['images']
    ]
    rows = [
        (
            new_id[ann['image_id']],
            labels[ann['category_id']],
            box,
            ann.get('iscrowd', 0),
        )
        for ann, box in zip(anns, boxes, strict=True)
    ]
    return plain_coco(images, rows, FLIR_CLASSES)


def convert(args: argparse.Namespace) -> int:
    """Run with parsed arguments.

    Args:
        args (Namespace): See :func:`main`.

    Returns:
        int: Exit status; 1 if there are problems, in which case nothing is written.
    """
    splits = find_splits(args.root)
    reports = []
    for folder, layout in splits.values():
        reports.append(check_split(folder, layout))
        print(reports[-1].text())
    sound = all(report.ok for report in reports)
    if sound and not args.check:
        first_id = 0
        for split, (folder, layout) in splits.items():
            coco, _ = read_flir(folder / layout.annotations)
            write_json(
                to_plain(coco, folder.name, first_id), args.out / f'{split}.json'
            )
            print(f'written: {args.out / split}.json')
            first_id += len(coco['images'])
    return int(not sound)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('root', type=Path, help='folder that holds train/ and val/')
    parser.add_argument('--out', type=Path, help='folder for plain COCO files')
    parser.add_argument('--check', action='store_true', help='check and report only')
    return run(parser, convert, argv)


if __name__ == '__main__':
    sys.exit(main())
