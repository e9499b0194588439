"""Check M3FD and write COCO files of its pairs.

    python tools/dataset_converters/m3fd.py data/M3FD --check
    python tools/dataset_converters/m3fd.py data/M3FD

ROOT holds Vis/, Ir/ and Annotation/. M3FD has no official split: ROOT/meta/train.txt
and val.txt are used if they exist. Otherwise a fraction (--val, 20 %) is drawn at
random with --seed. A random split puts frames of one recording on both sides, so its
results are optimistic, and comparable only for the same list. Writes
ROOT/coco/train.json and val.json for `mmir.M3FDDataset`.
"""

import argparse
from pathlib import Path

import numpy as np
from _detection import Converter, listed, paths, start
from _split import Record

from mmir.data.layouts.det import M3FD
from mmir.data.readers import read_names


def draw(keys: list[str], part: float, seed: int) -> dict[str, list[str]]:
    """Split names at random.

    Args:
        keys (list[str]): Names.
        part (float): Fraction for validation, in (0, 1).
        seed (int): Random seed.

    Returns:
        dict[str, list[str]]: 'train' and 'val', each sorted.

    Raises:
        ValueError: `part` is out of range.
    """
    if not 0 < part < 1:
        raise ValueError(f'--val {part} is not between 0 and 1')
    keys = sorted(keys)
    number = max(1, round(part * len(keys)))
    chosen = set(np.random.default_rng(seed).permutation(len(keys))[:number].tolist())
    return {
        'train': [key for k, key in enumerate(keys) if k not in chosen],
        'val': [key for k, key in enumerate(keys) if k in chosen],
    }


def records(
    root: Path, inner: str, split: str, labels: str, args: argparse.Namespace
) -> list[Record] | None:
    """List the pairs of a split.

    Args:
        root (Path): Root given by the user.
        inner (str): Folder below it that holds the data.
        split (str): 'train' or 'val'.
        labels (str): Modality of the labels.
        args (Namespace): With `val` and `seed`.

    Returns:
        list[Record] | None: The pairs, None if only the other split has a list.
    """
    folder = root / inner
    lists = {name: folder / 'meta' / f'{name}.txt' for name in M3FD.splits}
    if any(path.is_file() for path in lists.values()):
        keys = read_names(lists[split]) if lists[split].is_file() else None
    else:
        templates = [*M3FD.images.values(), M3FD.labels[labels]]
        every = set().union(*(listed(folder, t, split) for t in templates))
        keys = draw(list(every), args.val, args.seed)[split]
    if keys is None:
        return None
    return [paths(M3FD, inner, split, labels, key) for key in keys]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--val', type=float, default=0.2, help='fraction for validation without lists'
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of the random split')


CONVERTER = Converter(M3FD, records, add_options)

if __name__ == '__main__':
    start(CONVERTER, __doc__)
