"""Check HIT-UAV and write COCO files of its infrared images.

    python tools/dataset_converters/hituav.py data/HIT-UAV --check
    python tools/dataset_converters/hituav.py data/HIT-UAV

ROOT is the owners' repository (its normal_json/ is read), or a folder with
{train,val,test}/ and either annotations/SPLIT.json or SPLIT.json. The owners' files
name two keys differently from COCO (`filename`, `annotation`); both spellings are read.
Writes ROOT/coco/SPLIT.json for `mmir.HITUAVDataset`. DontCare becomes a crowd box of
every class, which is ignored in training and evaluation.
"""

import argparse
from pathlib import Path

from _detection import Converter, paths, start
from _split import Record

from mmir.data.coco_entries import normalize_coco
from mmir.data.layouts.det import HIT_UAV
from mmir.data.readers import Labeled, without_suffix
from mmir.utils.errors import AnnotationError
from mmir.utils.files import read_json


def read_hituav(path: Path) -> dict:
    """Read a label file, with the owners' keys or COCO's.

    Args:
        path (Path): JSON file.

    Returns:
        dict: COCO dictionary of valid structure.

    Raises:
        AnnotationError: The file has neither structure.
    """
    content = read_json(path)
    if isinstance(content, dict):
        images = content.get('images')
        for image in images if isinstance(images, list) else ():
            if isinstance(image, dict) and 'filename' in image:
                image.setdefault('file_name', image['filename'])
        if 'annotation' in content:
            content.setdefault('annotations', content['annotation'])
    normalize_coco(content, str(path))
    return content


def records(
    root: Path, inner: str, split: str, labels: str, args: argparse.Namespace
) -> list[Record] | None:
    """List the images of a split.

    Args:
        root (Path): Root given by the user.
        inner (str): Folder below it that holds the data.
        split (str): 'train', 'val' or 'test'.
        labels (str): Modality of the labels.
        args (Namespace): Unused.

    Returns:
        list[Record] | None: The images with their labels, None if there is no file.

    Raises:
        AnnotationError: A box refers to an image or category that is not listed, or an
            image id is used twice.
    """
    places = [
        root / inner / f'annotations/{split}.json',
        root / inner / f'{split}.json',
    ]
    path = next((path for path in places if path.is_file()), None)
    if path is None:
        return None
    coco = read_hituav(path)
    for note in coco['notes']:
        print(f'{path}: {note}')
    classes = {cat['id']: cat['name'] for cat in coco['categories']}
    by_id = {}
    for image in coco['images']:
        key = without_suffix(image['file_name'])
        record = paths(HIT_UAV, inner, split, labels, key)
        record.label, record.size = '', (image['width'], image['height'])
        if image['id'] in by_id:
            raise AnnotationError(f'{path}: image id {image["id"]} is used twice')
        by_id[image['id']] = record
    for ann in coco['annotations']:
        image, category = ann['image_id'], ann['category_id']
        if image not in by_id or category not in classes:
            raise AnnotationError(
                f'{path}: annotation {ann.get("id")} has image_id {image} and '
                f'category_id {category}, one of which is not listed'
            )
        thing = Labeled(classes[category], tuple(ann['bbox']), bool(ann.get('iscrowd')))
        by_id[image].objects.append(thing)
    return list(by_id.values())


CONVERTER = Converter(HIT_UAV, records)

if __name__ == '__main__':
    start(CONVERTER, __doc__)
