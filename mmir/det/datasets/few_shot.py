"""Selection of few-shot subsets."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from mmir.utils.errors import AnnotationError
from mmir.utils.files import few, read_json, read_lines


def subset_order(
    names: Sequence[str], labels: Sequence[Collection[int]], seed: int
) -> list[int]:
    """Order images so that every prefix is a fair few-shot subset.

    The images are sorted by name, so the order of the annotation file does not matter,
    and shuffled with `seed`. The first image of the shuffle that shows the rarest class
    moves to the front, then the first one that shows the next rarest class not yet
    covered, and so on. Subsets of one seed are therefore nested, and every class occurs
    once the subset is at least as large as this front (at most the number of classes).

    Args:
        names (Sequence[str]): File names.
        labels (Sequence[Collection[int]]): Classes present in each image.
        seed (int): Seed of the shuffle.

    Returns:
        list[int]: All indices of `names`, in the order of selection.
    """
    by_name = sorted(range(len(names)), key=lambda k: names[k])
    shuffle = np.random.default_rng(seed).permutation(len(names))
    shuffled = [by_name[k] for k in shuffle]
    showing: dict[int, list[int]] = {}
    for k in shuffled:
        for label in set(labels[k]):
            showing.setdefault(label, []).append(k)
    front: list[int] = []
    shown: set[int] = set()
    for label in sorted(showing, key=lambda label: (len(showing[label]), label)):
        if label not in shown:
            front.append(showing[label][0])
            shown.update(labels[front[-1]])
    chosen = set(front)
    return front + [k for k in shuffled if k not in chosen]


def _read_list(files: str | Path | Sequence[str]) -> list[str]:
    """Read file names from a list, a text file, or a `subset_*.json` of a run."""
    if not isinstance(files, str | Path):
        return list(files)
    if Path(files).suffix.lower() == '.json':
        content = read_json(files)
        names = content.get('files') if isinstance(content, dict) else content
        if not isinstance(names, list):
            raise AnnotationError(f"{files} holds no list of names, nor one at 'files'")
        return names
    if not Path(files).is_file():
        raise FileNotFoundError(f'subset list not found: {files}')
    return read_lines(files)


def choose_subset(
    names: Sequence[str],
    labels: Sequence[Collection[int]],
    source: str,
    num: int | None = None,
    frac: float | None = None,
    seed: int = 0,
    files: str | Path | Sequence[str] | None = None,
) -> list[int]:
    """Choose images by number, by fraction, or from a list.

    Args:
        names (Sequence[str]): File names, as in the annotation file.
        labels (Sequence[Collection[int]]): Classes present in each image.
        source (str): Name of the annotation file, for error messages.
        num (int, optional): Number of images.
        frac (float, optional): Fraction of the images, rounded down to at least one.
        seed (int): Random seed. Subsets of one seed are nested
            (:func:`subset_order`).
        files (str | Path | Sequence[str], optional): File names, or a file that lists
            them: a text file with one name per line, or a `subset_train.json`.

    Returns:
        list[int]: Indices in ascending order.

    Raises:
        ValueError: Not exactly one of `num`, `frac` and `files` is given, or it is out
            of range.
        AnnotationError: A listed name is not in the annotation file.
    """
    given = [key for key in (num, frac, files) if key is not None]
    if len(given) != 1:
        raise ValueError(
            'subset needs exactly one of num, frac and files, such as '
            f'dict(num=62, seed=0); got num={num}, frac={frac}, files={files}'
        )
    if files is not None:
        wanted = _read_list(files)
        index = {name: k for k, name in enumerate(names)}
        lost = [name for name in wanted if name not in index]
        if lost:
            raise AnnotationError(
                f'{len(lost)} of {len(wanted)} images of the subset are not in '
                f'{source}: {few(lost)}'
            )
        return sorted({index[name] for name in wanted})
    if frac is not None:
        if not 0 < frac <= 1:
            raise ValueError(f'subset: frac={frac} is not in (0, 1]')
        # 0.29 * 100 is 28.999...: rounding down must not lose an image.
        num = max(1, int(frac * len(names) + 1e-9))
    if not 1 <= num <= len(names):
        raise ValueError(
            f'subset: num={num}, but {source} has {len(names)} images (after '
            'filter_cfg)'
        )
    return sorted(subset_order(names, labels, seed)[:num])
