"""Check FLIR-aligned and write COCO files of its pairs.

    python tools/dataset_converters/flir_aligned.py data/flir_aligned --check
    python tools/dataset_converters/flir_aligned.py data/flir_aligned

ROOT, or the folder `align` in it, holds JPEGImages/, Annotations/ and the lists
align_train.txt and align_validation.txt, in ImageSets/Main/ or next to the image
folder. Writes ROOT/coco/train.json and val.json for `mmir.FLIRAlignedDataset`.
"""

import argparse
from pathlib import Path

from _detection import Converter, paths, start
from _split import Record

from mmir.data.layouts.det import FLIR_ALIGNED
from mmir.data.readers import read_names

LISTS = {'train': 'align_train.txt', 'val': 'align_validation.txt'}
PLACES = ('ImageSets/Main', '.')


def records(
    root: Path, inner: str, split: str, labels: str, args: argparse.Namespace
) -> list[Record] | None:
    """List the pairs of a split.

    Args:
        root (Path): Root given by the user.
        inner (str): Folder below it that holds the data.
        split (str): 'train' or 'val'.
        labels (str): Modality of the labels.
        args (Namespace): Unused.

    Returns:
        list[Record] | None: The pairs, None if there is no list.
    """
    for place in PLACES:
        path = root / inner / place / LISTS[split]
        if path.is_file():
            stems = [key.removesuffix('_PreviewData') for key in read_names(path)]
            return [paths(FLIR_ALIGNED, inner, split, labels, key) for key in stems]
    return None


CONVERTER = Converter(FLIR_ALIGNED, records)

if __name__ == '__main__':
    start(CONVERTER, __doc__)
