"""Entries of COCO detection files: their structure, and values as tools write them."""

import math
from collections import Counter

from mmir.data.readers import to_flag, to_number
from mmir.utils.errors import AnnotationError
from mmir.utils.files import few

_KEYS = {
    'images': ('id', 'file_name', 'width', 'height'),
    'annotations': ('image_id', 'category_id', 'bbox'),
    'categories': ('id', 'name'),
}


def normalize_coco(coco: object, source: str) -> None:
    """Check the structure of a COCO dictionary and give its values COCO's types.

    Several tools write values that a strict reader loses or misreads: mmdet leaves out
    boxes with `ignore` or an area of 0 or less without a word, and takes `iscrowd='0'`
    for a crowd. In place:

    - Numbers written as text become numbers.
    - `iscrowd` becomes 0 or 1. `ignore=1` becomes `iscrowd=1`, a region that is neither
      trained on nor evaluated, as in the converters.
    - An area that is missing or not positive becomes that of the box.
    - An `image_id` or `category_id` that differs from a listed id only in type (7, '7')
      becomes the listed one.

    What was changed is counted in the list `coco['notes']`; a missing `iscrowd` or
    area is not, since nothing else could be meant.

    Args:
        coco (object): Content of an annotation file.
        source (str): Name of the file, for error messages.

    Raises:
        AnnotationError: Something is missing or has no usable value; it is named.
    """
    if not isinstance(coco, dict):
        raise AnnotationError(f'{source} holds a {type(coco).__name__}, not COCO data')
    for part, keys in _KEYS.items():
        _require_keys(coco.get(part), part, keys, source)
    for category in coco['categories']:
        if not isinstance(category['name'], str):
            raise AnnotationError(f'{source}: category {category} has no name of text')
    changed: Counter[str] = Counter()
    for image in coco['images']:
        _settle_image(image, source, changed)
    for ann in coco['annotations']:
        try:
            _settle_annotation(ann, changed)
        except ValueError as error:
            raise AnnotationError(
                f'{source}: annotation {ann.get("id")} of image {ann["image_id"]} '
                f'{error}'
            ) from None
    for key, part in (('image_id', 'images'), ('category_id', 'categories')):
        _match_ids(coco['annotations'], key, coco[part], changed)
    coco['notes'] = [f'{number} {what}' for what, number in changed.items()]


def _require_keys(
    entries: object, part: str, keys: tuple[str, ...], source: str
) -> None:
    """Check that a part is a list of entries with these keys, and ids with values."""
    if not isinstance(entries, list):
        raise AnnotationError(f"{source} has no list '{part}': not COCO data")
    for number, entry in enumerate(entries):
        known = entry if isinstance(entry, dict) else {}
        lost = [key for key in keys if known.get(key) is None]
        lost += [
            key
            for key in (*keys, 'id')
            if key.endswith('id') and isinstance(known.get(key), list | dict)
        ]
        if lost:
            raise AnnotationError(
                f'{source}: {part}[{number}] has no {few(map(repr, lost))}: '
                f'{str(entry)[:200]}'
            )


def _settle_image(image: dict, source: str, changed: Counter[str]) -> None:
    """Require a name and a size in pixels."""
    name, size = image['file_name'], (image['width'], image['height'])
    if not isinstance(name, str):
        raise AnnotationError(f'{source}: an image has the file_name {name!r}')
    try:
        width, height = map(to_number, size)
        good = 0 < width < math.inf and 0 < height < math.inf
    except ValueError:
        good = False
    if not good:
        raise AnnotationError(f'{source}: image {name} has the size {size}')
    if any(isinstance(side, str) for side in size):
        image['width'], image['height'] = width, height
        changed['images with their size as text, read as numbers'] += 1


def _settle_annotation(ann: dict, changed: Counter[str]) -> None:
    """Give box, area and flags their types; ValueError says what has no value."""
    box = ann['bbox']
    try:
        if not isinstance(box, list | tuple) or len(box) != 4:
            raise ValueError
        ann['bbox'] = [to_number(side) for side in box]
    except ValueError:
        raise ValueError(
            f'has no box of four numbers (x, y, width, height): {box!r}'
        ) from None
    if any(isinstance(side, str) for side in box):
        changed['boxes written as text, read as numbers'] += 1
    _settle_flags(ann, changed)
    area = ann.get('area')
    try:
        value = math.nan if area is None else to_number(area)
    except ValueError:
        value = math.nan
    if isinstance(area, str) and value > 0:
        changed['areas written as text, read as numbers'] += 1
    elif area is not None and not value > 0:
        changed['areas that are not positive, replaced with that of the box'] += 1
    ann['area'] = value if value > 0 else ann['bbox'][2] * ann['bbox'][3]


def _settle_flags(ann: dict, changed: Counter[str]) -> None:
    """Join `iscrowd` and `ignore` in one flag."""
    flags = {}
    for key in ('iscrowd', 'ignore'):
        given = ann.pop(key, None)
        try:
            flags[key] = given is not None and to_flag(given)
        except ValueError as error:
            raise ValueError(f'has {key}={error}') from None
        if isinstance(given, str):
            changed[f'boxes with {key} as text, read as a flag'] += 1
    if flags['ignore'] and not flags['iscrowd']:
        changed['boxes with ignore=1, neither trained on nor evaluated'] += 1
    ann['iscrowd'] = int(any(flags.values()))


def _match_ids(
    anns: list[dict], key: str, entries: list[dict], changed: Counter[str]
) -> None:
    """Replace ids that differ from a listed one only in type."""
    listed = {entry['id'] for entry in entries}
    by_text = {str(number): number for number in listed}
    for ann in anns:
        if ann[key] not in listed and str(ann[key]) in by_text:
            ann[key] = by_text[str(ann[key])]
            changed[f'annotations with {key} of another type than the list'] += 1
