"""Small annotation files and images, with the quirks of the real ones."""

import json
from pathlib import Path

import cv2
import numpy as np

# FLIR v1.3 lists COCO's names under contiguous ids, so dog is 17 and not 18.
FLIR_NAMES = ('person', 'bicycle', 'car', 'motorcycle', 'airplane', 'bus', 'train')
FLIR_NAMES += ('truck', 'boat', 'traffic light', 'fire hydrant', 'stop sign')
FLIR_NAMES += ('parking meter', 'bench', 'bird', 'cat', 'dog', 'horse', 'sheep', 'cow')


def image(height=32, width=40, dtype=np.uint8, channels=None, seed=0):
    """Draw noise that is smooth enough to survive JPEG."""
    shape = (height, width) if channels is None else (height, width, channels)
    high = 256 if dtype == np.uint8 else 16384  # FLIR's sensors give 14 bits
    return np.random.default_rng(seed).integers(0, high, shape).astype(dtype)


def write_image(path, array=None):
    """Write an image, creating its folder."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), image() if array is None else array)
    return path


def coco_dict(boxes, names=('person', 'car'), size=(40, 32)):
    """Build a COCO dictionary; `boxes` lists (category id, box) per image."""
    images = [
        {'id': k, 'file_name': f'{k}.png', 'width': size[0], 'height': size[1]}
        for k in range(len(boxes))
    ]
    rows = [(k, *row) for k, image_rows in enumerate(boxes) for row in image_rows]
    annotations = [
        {'id': n, 'image_id': k, 'category_id': c, 'bbox': list(b), 'iscrowd': 0}
        for n, (k, c, b) in enumerate(rows, 1)
    ]
    categories = [{'id': k, 'name': name} for k, name in enumerate(names, 1)]
    return {'images': images, 'annotations': annotations, 'categories': categories}


def write_coco(folder, coco):
    """Write `ann.json` and the images of a COCO dictionary."""
    for entry in coco['images']:
        write_image(
            Path(folder) / entry['file_name'], image(entry['height'], entry['width'])
        )
    path = Path(folder) / 'ann.json'
    path.write_text(json.dumps(coco))
    return path


def write_flir_v13(root, splits=('train', 'val'), number=3, deep=False, labeled_rgb=0):
    """Write a v1.3 copy.

    File numbers run on over the splits while image ids start at 0 in each; every image
    has a person, a car and a dog; the first frame has no RGB partner.
    """
    for s, split in enumerate(splits):
        folder = Path(root) / split
        coco = {'info': {}, 'images': [], 'annotations': []}
        coco['categories'] = [
            {'id': k, 'name': n, 'supercategory': 'unknown'}
            for k, n in enumerate(FLIR_NAMES, 1)
        ]
        for k in range(number):
            stem = f'FLIR_{s * number + k + 1:05d}'
            entry = {'id': k, 'file_name': f'thermal_8_bit/{stem}.jpeg'}
            coco['images'].append({**entry, 'width': 40, 'height': 32})
            write_image(folder / entry['file_name'])
            if deep:
                raw = image(dtype=np.uint16, seed=k)
                write_image(folder / f'thermal_16_bit/{stem}.tiff', raw)
            if k:
                write_image(folder / f'RGB/{stem}.jpg', image(64, 72, channels=3))
            for category, x in ((1, 1), (3, 11), (17, 21)):
                coco['annotations'].append(
                    {
                        'id': len(coco['annotations']) + 1,
                        'image_id': k,
                        'category_id': category,
                        'bbox': [x + k, 2, 8, 12],
                        'area': 96,
                        'iscrowd': 0,
                        'segmentation': [],
                    }
                )
        (folder / 'thermal_annotations.json').write_text(json.dumps(coco))
        if labeled_rgb:
            rgb = {**coco, 'images': [], 'annotations': coco['annotations'][3:]}
            for entry in coco['images'][1:]:
                stem = Path(entry['file_name']).stem
                rgb['images'].append(
                    {**entry, 'file_name': f'RGB/{stem}.jpg', 'width': 72, 'height': 64}
                )
            (folder / 'rgb_annotations.json').write_text(json.dumps(rgb))
    return Path(root)


def write_flir_v10(root, number=2):
    """Write a v1.0 copy: one JSON file per image, ids of the full COCO list."""
    folder = Path(root) / 'training'
    for k in range(number):
        stem = f'FLIR_{k + 1:05d}'
        write_image(folder / f'PreviewData/{stem}.jpeg')
        write_image(folder / f'Data/{stem}.tiff', image(dtype=np.uint16, seed=k))
        content = {
            'annotation': [
                {'category_id': '1', 'bbox': [1, 2, 8, 12]},
                {'category_id': '18', 'bbox': [11, 2, 8, 12]},
                {'category_id': '91', 'bbox': [21, 2, 8, 12]},
            ],
            'image': {'file_name': stem, 'width': 40, 'height': 32},
        }
        path = folder / f'Annotations/{stem}.json'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    return Path(root)
