"""Validation of paired segmentation data before training."""

import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from mmir.data.check import (
    BAD_MAP,
    CLASSES,
    COLORED,
    DAMAGED,
    DEEP,
    SIZES,
    UNLEARNABLE,
    UNREADABLE,
    Problem,
    Report,
)
from mmir.data.images import ImageReadError, read_image
from mmir.data.jpeg_damage import damaged_jpegs
from mmir.data.label_maps import (
    IGNORED,
    color_fault,
    depth_fault,
    gray_mask,
    read_label_map,
    strange_fault,
    unlearnable,
)
from mmir.data.layouts.seg import (
    LABEL,
    Matches,
    MissingFilesError,
    Sample,
    SegLayout,
    listed_names,
    match_files,
    no_data_message,
)

_MIDDLE = slice(16, 240)  # gray levels of a mask that JPEG noise does not explain


@dataclass
class _Seen:
    """Findings from opening the files of one sample."""

    problems: list[Problem] = field(default_factory=list)
    formats: list[tuple] = field(default_factory=list)
    values: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    mode: str = ''  # Pillow's mode of the label map


def find_samples(
    layout: SegLayout, root: str | Path, split: str, modalities: Sequence[str]
) -> tuple[Matches, list[str]]:
    """Find the files of a split.

    Args:
        layout (SegLayout): Layout of the dataset.
        root (str | Path): Root of the dataset.
        split (str): Name of a split.
        modalities (Sequence[str]): Modalities to look for.

    Returns:
        tuple[Matches, list[str]]: Samples and the files they lack; names left out
        because they are mirrored copies.

    Raises:
        MissingFilesError: No files are found; the message says what is expected.
        ValueError: Unknown split, or a broken list.
    """
    prefixes = layout.prefixes(root, split)
    folders = {
        key: os.path.normpath(os.path.join(root, prefixes[key]))
        for key in (*modalities, LABEL)
    }
    names, copies = None, []
    if layout.listed is not None:
        path = os.path.join(root, layout.list_file(split))
        if not os.path.isfile(path):
            raise MissingFilesError(no_data_message(layout, root, split))
        names, copies = listed_names(path, folders[LABEL], layout.entry, layout.copies)
    matches = match_files(folders, names, layout.rules, root)
    if not any(chain.from_iterable(s.paths.values() for s in matches.samples)):
        raise MissingFilesError(no_data_message(layout, root, split))
    return matches, copies


def check_seg(
    layout: SegLayout,
    root: str | Path,
    split: str,
    modalities: Sequence[str] = ('rgb', 'ir'),
    threads: int = 8,
    progress: bool = False,
) -> Report:
    """Check a split, opening every file.

    Args:
        layout (SegLayout): Layout of the dataset.
        root (str | Path): Root of the dataset.
        split (str): Name of a split.
        modalities (Sequence[str]): Modalities to check.
        threads (int): Number of decoding threads.
        progress (bool): Show a progress bar.

    Returns:
        Report: Missing, ambiguous, unreadable or damaged files; sizes that differ
        within a sample; label maps in color or with values beyond 8 bits; values
        outside the classes; maps that hold nothing to learn; and, as notes, the
        official count and other findings.

    Raises:
        MissingFilesError: There is nothing to check.
        ValueError: Unknown split, or a broken list.
    """
    matches, copies = find_samples(layout, root, split, modalities)
    report = Report(
        f'{layout.title} ({split}) in {root}', len(matches.samples), {}, 'pixels'
    )
    for faults, kind in (
        (matches.lacking, '{} is missing'),
        (matches.twice, '{} exists more than once'),
    ):
        for key, names in faults.items():
            kind_of = kind.format('label map' if key == LABEL else f'{key} image')
            where = layout.prefixes(root, split)[key]
            report.problems += [Problem(kind_of, name, where) for name in names]
    look = partial(_open_sample, layout=layout, root=root)
    with ThreadPoolExecutor(threads) as pool:
        results = pool.map(look, matches.samples)
        bar = tqdm(
            results, 'samples', len(matches.samples), disable=not progress, leave=False
        )
        seen = list(bar)
    report.problems += chain.from_iterable(one.problems for one in seen)
    report.problems += _damaged(matches.samples, root, report, threads, progress)
    report.details += _formats(seen)
    values = sum((one.values for one in seen), np.zeros(256, np.int64))
    report.labels = _by_class(layout, values)
    report.problems += _unlearnable(layout, values, report.labels)
    report.notes += _notes(layout, split, report.samples, len(copies))
    report.notes += _map_notes(layout, [one.mode for one in seen], values)
    return report


def _damaged(
    samples: Sequence[Sample],
    root: str | Path,
    report: Report,
    threads: int,
    progress: bool,
) -> list[Problem]:
    """Find JPEG files with damaged data among those not known to be bad."""
    bad = {problem.name for problem in report.problems}
    paths = {
        path
        for sample in samples
        for path in sample.paths.values()
        if path is not None and os.path.relpath(path, root) not in bad
    }
    found = damaged_jpegs(sorted(paths), threads, progress)
    return [Problem(DAMAGED, os.path.relpath(p, root), t) for p, t in found.items()]


def _formats(seen: Sequence[_Seen]) -> list[str]:
    """Count the images by modality, size, dtype and planes."""
    formats = Counter(chain.from_iterable(one.formats for one in seen))
    return [
        f'{name}: {size} {kind}, {planes} plane{"s" * (planes > 1)} ({count})'
        for (name, size, kind, planes), count in sorted(formats.items())
    ]


def _notes(layout: SegLayout, split: str, count: int, copies: int) -> list[str]:
    """Compare with the official count, and note what was left out."""
    notes = []
    official = layout.split(split).count
    if official not in (None, count):
        notes.append(
            f'{count} pairs, officially {official}: results are not comparable to '
            'published ones. Unless this is a deliberate subset, unpack it again'
        )
    if copies:
        notes.append(
            f'{copies} mirrored copies (*{layout.copies}) in the list are left out'
        )
    return notes


def _unlearnable(
    layout: SegLayout, values: np.ndarray, labels: dict[str, int]
) -> list[Problem]:
    """Find that no map holds anything to learn."""
    if layout.binary:
        return []
    there = np.flatnonzero(values)
    left_out = values[0] if layout.reduce_zero_label else 0
    ignored = int(values[IGNORED] + left_out)
    fault = unlearnable(there.tolist(), list(labels.values()), ignored)
    return [Problem(UNLEARNABLE, 'all label maps', fault)] if fault else []


def _map_notes(
    layout: SegLayout, modes: Sequence[str], values: np.ndarray
) -> list[str]:
    """Note peculiarities of the label maps."""
    notes = []
    if layout.binary:
        if other := sum(mode not in ('L', '') for mode in modes):
            notes.append(
                f'{other} masks are not 8-bit grayscale (color, palette, 1 bit): '
                'LoadSaliencyMask reads them, LoadAnnotations reads something else'
            )
    elif palettes := modes.count('P'):
        notes.append(
            f'{palettes} label maps have a palette: LoadAnnotations reads their '
            "indices only with its default imdecode_backend='pillow'"
        )
    if layout.binary and (middle := values[_MIDDLE].sum()):
        notes.append(
            f'{middle / values.sum():.3%} of the mask pixels are gray (16 to 239); '
            'those of 128 and above count as salient'
        )
    return notes


def _by_class(layout: SegLayout, values: np.ndarray) -> dict[str, int]:
    """Count pixels by class."""
    if layout.binary:
        counts = [values[:128].sum(), values[128:].sum()]
    else:
        first = int(layout.reduce_zero_label)
        counts = values[first : first + len(layout.classes)]
    return dict(zip(layout.classes, map(int, counts), strict=True))


def _open_sample(sample: Sample, layout: SegLayout, root: str | Path) -> _Seen:
    """Decode the files of a sample and compare them."""
    seen, sizes = _Seen(), {}
    images: dict[str, np.ndarray | None] = {}
    for key, path in sample.paths.items():
        if path is None:
            continue
        if key == LABEL:
            sizes[key] = _open_label(path, layout, root, seen)
            continue
        if path not in images:  # a file may hold several modalities
            images[path] = _open_image(path, layout, root, seen)
        if images[path] is not None:
            img = images[path]
            planes = img.shape[2] if img.ndim == 3 else 1
            sizes[key] = f'{img.shape[1]}x{img.shape[0]}'
            seen.formats.append((key, sizes[key], str(img.dtype), planes))
    known = {key: size for key, size in sizes.items() if size is not None}
    if len(set(known.values())) > 1:
        detail = ', '.join(
            f'{"label map" if key == LABEL else key} {size}'
            for key, size in known.items()
        )
        seen.problems.append(Problem(SIZES, sample.name, detail))
    return seen


def _open_image(
    path: str, layout: SegLayout, root: str | Path, seen: _Seen
) -> np.ndarray | None:
    """Decode an image; None if that fails."""
    name = os.path.relpath(path, root)
    try:
        img = read_image(path)
    except ImageReadError as error:
        seen.problems.append(Problem(UNREADABLE, name, str(error)))
        return None
    planes = img.shape[2] if img.ndim == 3 else 1
    if layout.planes not in (None, planes):
        detail = f'{planes} planes, expected {layout.planes}'
        seen.problems.append(Problem('image lacks planes', name, detail))
    return img


def _open_label(
    path: str, layout: SegLayout, root: str | Path, seen: _Seen
) -> str | None:
    """Decode a label map as training does; get its size or None."""
    name = os.path.relpath(path, root)
    try:
        label = read_image(path) if layout.binary else read_label_map(path)
        with Image.open(path) as picture:
            seen.mode = picture.mode
    except OSError as error:
        seen.problems.append(Problem(BAD_MAP, name, str(error)))
        return None
    size = f'{label.shape[1]}x{label.shape[0]}'
    fault = _mask_fault(label) if layout.binary else _map_fault(label, layout)
    if fault is not None:
        seen.problems.append(Problem(fault[0], name, fault[1]))
    if fault is None or fault[0] == CLASSES:
        label = gray_mask(label) if layout.binary else label.astype(np.uint8)
        seen.values += np.bincount(label.ravel(), minlength=256)
    return size


def _map_fault(label: np.ndarray, layout: SegLayout) -> tuple[str, str] | None:
    """Find what is wrong with a map of class indices: kind and detail."""
    if label.ndim > 2:
        return COLORED, color_fault(label)
    if fault := depth_fault(label):
        return DEEP, fault
    values, counts = np.unique(label, return_counts=True)
    highest = len(layout.classes) + layout.reduce_zero_label
    odd = (values >= highest) & (values != IGNORED)
    if odd.any():
        return CLASSES, strange_fault(values[odd], counts[odd], highest)
    return None


def _mask_fault(label: np.ndarray) -> tuple[str, str] | None:
    """Find what is wrong with a mask for `LoadSaliencyMask`: kind and detail."""
    if label.dtype != np.uint8:
        return DEEP, f'{label.dtype}: store masks in 8 bits, 0 to 255'
    if gray_mask(label).max() == 1:
        return 'mask is not 0 to 255', 'values 0 and 1: store 0 and 255'
    return None
