"""Check KAIST Multispectral Pedestrian and write COCO files of its pairs.

    python tools/dataset_converters/kaist.py data/kaist --check
    python tools/dataset_converters/kaist.py data/kaist
    python tools/dataset_converters/kaist.py data/kaist --train-list train-all-04 \\
        --labels annotations-xml-15

ROOT holds images/setXX/VYYY/{visible,lwir}/, imageSets/ and label folders. Writes
ROOT/coco/train.json and test.json for `mmir.KAISTDataset`, with person only. people,
cyclist and person? become crowd boxes, which are ignored in training and evaluation.
"""

import argparse
from pathlib import Path

from _detection import Converter, paths, start
from _split import Record

from mmir.data.layouts.det import KAIST
from mmir.data.readers import read_names

FOLDERS = (
    'annotations-xml-new-sanitized',
    'annotations-xml-new',
    'annotations-xml-15',
    'annotations',
)
"""Label folders of the releases, by preference; the last one holds text files."""


def label_folder(folder: Path, wanted: str | None) -> str:
    """Choose the label folder.

    Args:
        folder (Path): Folder of the data.
        wanted (str, optional): Folder requested by the user.

    Returns:
        str: Name of the label folder.

    Raises:
        FileNotFoundError: The requested folder, or any, is missing.
    """
    names = FOLDERS if wanted is None else (wanted,)
    for name in names:
        if (folder / name).is_dir():
            return name
    raise FileNotFoundError(
        f'no label folder in {folder}; looked for {", ".join(names)}'
    )


def records(
    root: Path, inner: str, split: str, labels: str, args: argparse.Namespace
) -> list[Record] | None:
    """List the pairs of a split.

    Args:
        root (Path): Root given by the user.
        inner (str): Folder below it that holds the data.
        split (str): 'train' or 'test'.
        labels (str): Modality of the labels.
        args (Namespace): With `train_list`, `test_list` and `labels`.

    Returns:
        list[Record] | None: The pairs, None if there is no list.
    """
    folder = root / inner
    names = folder / 'imageSets' / f'{getattr(args, f"{split}_list")}.txt'
    if not names.is_file():
        print(f'{names} not found')
        return None
    place = label_folder(folder, args.labels)
    found = []
    for key in read_names(names):
        record = paths(KAIST, inner, split, labels, key)
        record.label = f'{inner}{place}/{key}.xml'
        if place == FOLDERS[-1]:
            record.label = f'{inner}{place}/{key}.txt'
        found.append(record)
    return found


def add_options(parser: argparse.ArgumentParser) -> None:
    for split, name in (('train', 'train-all-02'), ('test', 'test-all-20')):
        parser.add_argument(
            f'--{split}-list',
            default=name,
            help='list in imageSets/ (default: %(default)s)',
        )
    parser.add_argument(
        '--labels', help=f'label folder (default: the first of {", ".join(FOLDERS)})'
    )


CONVERTER = Converter(KAIST, records, add_options)

if __name__ == '__main__':
    start(CONVERTER, __doc__)
