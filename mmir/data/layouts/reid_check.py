"""Validation of re-identification data before training."""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from mmir.data.check import DAMAGED, UNREADABLE, Problem, Report
from mmir.data.images import ImageReadError, read_image
from mmir.data.jpeg_damage import damaged_jpegs
from mmir.data.layouts.reid import MODALITIES, PersonImage, ReIDLayout
from mmir.utils.files import few

ONE_SIDED = 'identity in one modality only'
LEAK = 'shared by train and test'


def check_reid(
    layout: ReIDLayout,
    root: str | os.PathLike[str],
    split: str,
    trial: int = 1,
    threads: int = 8,
    progress: bool = False,
) -> Report:
    """Check a split, opening every image.

    Args:
        layout (ReIDLayout): Layout of the dataset.
        root (str | PathLike): Root of the dataset.
        split (str): `train` or `test`.
        trial (int): Number of the split into train and test, from 1.
        threads (int): Number of decoding threads.
        progress (bool): Show a progress bar.

    Returns:
        Report: Images that cannot be read or are damaged, training identities without
        images in one of the modalities, images shared by train and test; and, as notes,
        such identities of the test split and the official counts.

    Raises:
        MissingFilesError: Files are missing.
        ValueError: Unknown split or trial, or a broken list.
    """
    images = layout.images(root, split, trial)
    name = f'{split}, trial {trial}' if layout.trials > 1 else split
    report = Report(f'{layout.title} ({name}) in {root}', len(images))
    report.details += _details(images)
    alone = _one_sided(images)
    if split == 'train':
        report.problems += alone
    elif alone:  # such queries are not counted
        report.notes.append(f'{len(alone)} of the identities in one modality only')
    report.problems += _shared(layout, root, split, trial, images)
    report.problems += _unreadable(images, Path(root), threads, progress)
    report.notes += _count_notes(layout, split, images)
    return report


def _details(images: Sequence[PersonImage]) -> list[str]:
    """Count images and identities by modality and camera."""
    lines = []
    for modality in MODALITIES:
        chosen = [image for image in images if image.modality == modality]
        cams = Counter(image.cam for image in chosen)
        parts = ', '.join(f'camera {cam}: {n}' for cam, n in sorted(cams.items()))
        ids = len({image.pid for image in chosen})
        lines.append(f'{modality}: {len(chosen)} images, {ids} identities ({parts})')
    return lines


def _one_sided(images: Sequence[PersonImage]) -> list[Problem]:
    """Find identities without images in one of the modalities."""
    ids = {m: {i.pid for i in images if i.modality == m} for m in MODALITIES}
    found = []
    for modality, other in (MODALITIES, MODALITIES[::-1]):
        found += [
            Problem(ONE_SIDED, f'identity {pid}', f'no {other} image')
            for pid in sorted(ids[modality] - ids[other])
        ]
    return found


def _shared(
    layout: ReIDLayout,
    root: str | os.PathLike[str],
    split: str,
    trial: int,
    images: Sequence[PersonImage],
) -> list[Problem]:
    """Find images that are also in the other split; quiet if that one is missing."""
    other = next(name for name in layout.counts if name != split)
    try:
        taken = {image.path for image in layout.images(root, other, trial)}
    except (FileNotFoundError, ValueError):
        return []
    return [Problem(LEAK, image.path) for image in images if image.path in taken]


def _unreadable(
    images: Sequence[PersonImage], root: Path, threads: int, progress: bool
) -> list[Problem]:
    """Decode every image."""
    paths = [image.path for image in images]

    def fault(path: str) -> str:
        try:
            read_image(str(root / path))
        except ImageReadError as error:
            return str(error)
        return ''

    with ThreadPoolExecutor(threads) as pool:
        results = pool.map(fault, paths)
        bar = tqdm(results, 'images', len(paths), disable=not progress, leave=False)
        bad = {path: text for path, text in zip(paths, bar, strict=True) if text}
    problems = [Problem(UNREADABLE, path, text) for path, text in bad.items()]
    rest = {str(root / path): path for path in paths if path not in bad}
    damaged = damaged_jpegs(sorted(rest), threads, progress)
    return problems + [Problem(DAMAGED, rest[p], text) for p, text in damaged.items()]


def _count_notes(
    layout: ReIDLayout, split: str, images: Sequence[PersonImage]
) -> list[str]:
    """Compare with the official size."""
    official = layout.counts[split]
    numbers = Counter(image.modality for image in images)
    found = (len({i.pid for i in images}), *(numbers[m] for m in MODALITIES))
    units = ('identities', 'RGB images', 'infrared images')
    wrong = [
        f'{have} {unit} instead of {want}'
        for have, want, unit in zip(found, official, units, strict=True)
        if have != want
    ]
    if not wrong:
        return []
    return [
        f'{few(wrong)}: results are not comparable to published ones. Unless this is a '
        'deliberate subset, unpack it again'
    ]
