"""Check every file of a dataset before training.

Each image is read once, in the way the pipeline's loader will read it, in threads and
with a progress bar. A good file is not read again until it changes.
"""

import copy
import os
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from mmir.data.byte_order import bytes_swapped
from mmir.data.check import (
    DAMAGED,
    DEGENERATE,
    EMPTY,
    FORMAT,
    MISSING,
    NOT_FINITE,
    OUTSIDE,
    RADIOMETRY,
    SHARED,
    SIZES,
    UNREADABLE,
    Problem,
    Report,
    edge_note,
    examine_boxes,
)
from mmir.data.images import ImageFormatError, ImageReadError
from mmir.data.jpeg_damage import damaged_jpegs
from mmir.data.known_files import KnownFiles
from mmir.data.wrappers import leaf_datasets
from mmir.engine.label_check import LabelCheck
from mmir.transforms import (
    LoadPairedImages,
    LoadThermalImage,
    OnModality,
    RadiometricScale,
)
from mmir.utils.files import few

_SKIPPED = (MISSING, UNREADABLE, FORMAT, SIZES)
"""Problems that a loader with `on_error='skip'` skips."""

_OVER = 'box over the edge of its image'
_SWAPPED = (
    'images seem to have the two bytes of their values in the wrong order: they are '
    'smoother with the bytes swapped'
)
_CONSTANT = 'images have one value in all pixels'
_HOLES = (
    'images of more than 8 bits have value 0 in over 1 % of their pixels, which spoils '
    'percentiles, means and temperatures if these are holes'
)
_NOTED = (_OVER, _SWAPPED, _CONSTANT, _HOLES)


def find_loader(dataset: Any) -> LoadPairedImages | LoadThermalImage | None:
    """Transform of a dataset that loads images; None if it is not one of mmir."""
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    kinds = (LoadPairedImages, LoadThermalImage)
    return next((step for step in steps if isinstance(step, kinds)), None)


def check_dataset(
    dataset: Any,
    workers: int = 4,
    cache: str | os.PathLike[str] | None = None,
    progress: bool = True,
    source: str = 'data',
) -> Report:
    """Check all samples of a dataset, including those inside dataset wrappers.

    If the pipeline loads images with a transform of a host, only the labels are
    checked.

    Args:
        dataset (Any): mmengine dataset or dataset wrapper.
        workers (int): Number of reader threads.
        cache (str | PathLike, optional): JSON file that lists the good files by path,
            size and modification time. Created if it does not exist.
        progress (bool): Whether to show a progress bar.
        source (str): Name of the data in the report.

    Returns:
        Report: The problems. Those the loader is configured to skip
        (`on_error='skip'`) are in `skipped`.
    """
    report, known = Report(source), KnownFiles(cache)
    for leaf in leaf_datasets(dataset):
        leaf.full_init()
        if not len(leaf):
            name = getattr(leaf, 'ann_file', '') or getattr(leaf, 'data_root', '')
            report.problems.append(
                Problem(EMPTY, f'{type(leaf).__name__} of {name or "nowhere"}')
            )
            continue
        _check_leaf(leaf, report, known, workers, progress)
    known.save()
    return report


def _check_leaf(
    dataset: Any, report: Report, known: KnownFiles, workers: int, progress: bool
) -> None:
    """Check one dataset and add to the report."""
    labels = LabelCheck(dataset, known)
    checker = _Checker(find_loader(dataset), labels, _scales(dataset), known)
    infos = [dataset.get_data_info(k) for k in range(len(dataset))]
    with ThreadPoolExecutor(workers) as pool:
        bar = tqdm(
            pool.map(checker, infos),
            total=len(infos),
            desc=f'checking {type(dataset).__name__}',
            disable=not progress,
        )
        found = [problem for problems in bar for problem in problems]
    bad = {problem.name for problem in found}
    found += checker.damaged(infos, bad, workers, progress)
    found += checker.duplicates(infos)
    counts, problem = labels.summary()
    found += [] if problem is None else [problem]
    report.samples += len(infos)
    report.notes += edge_note([p.name for p in found if p.kind == _OVER])
    for kind in (_SWAPPED, _CONSTANT, _HOLES):
        if names := [p.name for p in found if p.kind == kind]:
            report.notes.append(f'{len(names)} {kind}: {few(names, 3)}')
    if counts is not None:
        report.unit = 'pixels'
        report.labels = dict(Counter(report.labels) + Counter(counts))
        if absent := [name for name, count in counts.items() if not count]:
            report.notes.append(f'no pixel is labeled {few(absent)}')
    skips = getattr(checker.loader, 'on_error', 'raise') == 'skip'
    for problem in found:
        # the loader does not read labels, so it will not skip these
        skipped = skips and problem.kind in _SKIPPED
        if problem.kind not in _NOTED:
            (report.skipped if skipped else report.problems).append(problem)


def _scales(dataset: Any) -> dict[str, list[RadiometricScale]]:
    """Radiometric transforms of a pipeline by modality ('image' of single ones)."""
    found: dict[str, list[RadiometricScale]] = {}
    for step in getattr(getattr(dataset, 'pipeline', None), 'transforms', ()):
        on = step.modality if isinstance(step, OnModality) else 'image'
        inner = step.transforms if isinstance(step, OnModality) else [step]
        scales = [scale for scale in inner if isinstance(scale, RadiometricScale)]
        if scales:
            found.setdefault(on, []).extend(scales)
    return found


@dataclass
class _Checker:
    """Checks single samples of a dataset."""

    loader: LoadPairedImages | LoadThermalImage | None
    labels: LabelCheck
    scales: Mapping[str, Sequence[RadiometricScale]]
    known: KnownFiles

    def __post_init__(self) -> None:
        """Copy the loader; the copy raises on errors even if training skips them."""
        self.single = copy.copy(self.loader)
        if self.single is not None:
            self.single.on_error = 'raise'

    def __call__(self, info: Mapping) -> list[Problem]:
        """List all problems of a sample."""
        problems: list[Problem] = []
        sizes = {}
        for name, path in self.paths(info).items():
            if path is not None:
                sizes[name] = self._check_image(name, path, info, problems)
        shapes = {name: size for name, size in sizes.items() if size}
        equal = getattr(self.loader, 'sizes', 'any') == 'equal'
        if equal and len(set(shapes.values())) > 1:
            text = ', '.join(f'{n} {w}x{h}' for n, (h, w) in shapes.items())
            problems.append(Problem(SIZES, str(info.get('img_path')), text))
        paired = isinstance(self.loader, LoadPairedImages)
        lead = shapes.get(self.loader.reference_of(info) if paired else 'image')
        size = lead or (info.get('height'), info.get('width'))
        if None not in size:
            problems += self._check_boxes(info, size)
        # a pipeline with the loader of a host leaves the size unknown
        return problems + self.labels(info, None if None in size else size)

    def paths(self, info: Mapping) -> dict[str, str | None]:
        """Files of a sample by modality."""
        if isinstance(self.loader, LoadPairedImages):
            return self.loader.paths(info)
        if self.loader is None:
            return {}
        return {'image': info['img_path']}

    def _check_image(
        self, name: str, path: str, info: Mapping, problems: list[Problem]
    ) -> tuple[int, int] | None:
        """Check one image; return its height and width if it can be read."""
        paired = isinstance(self.loader, LoadPairedImages)
        load = self.loader.loaders[name] if paired else self.single
        if '://' not in path and not os.path.exists(path):
            if not paired or self.loader.missing == 'raise':
                problems.append(Problem(MISSING, path, name))
            return None
        sample = {'img_path': path}
        if not paired or name == self.loader.reference_of(info):
            sample |= {key: info[key] for key in ('height', 'width') if key in info}
        scales = self.scales.get(name, '')
        wanted = f'{load!r} {sorted(sample.items())} {scales}'
        size = self.known.get(path, wanted)
        if size is None:
            try:
                shown = load.transform(dict(sample))
            except ImageReadError as error:
                odd = isinstance(error, ImageFormatError)
                problems.append(
                    Problem(FORMAT if odd else UNREADABLE, path, str(error))
                )
                return None
            size = shown['img'].shape[:2]
            faults = self._check_pixels(shown['img'], name, path, info)
            problems += faults
            if not faults:
                self.known.put(path, wanted, size)
        return size

    def _check_pixels(
        self, img: np.ndarray, name: str, path: str, info: Mapping
    ) -> list[Problem]:
        """Find values that training would refuse, or learn nothing from."""
        if img.dtype.kind == 'f' and not np.isfinite(img).all():
            return [Problem(NOT_FINITE, path, name)]
        for scale in self.scales.get(name, ()):
            try:
                scale.transform({**info, 'img': img, 'img_path': path})
            except (ValueError, KeyError) as error:
                return [Problem(RADIOMETRY, path, str(error.args[0]))]
        if bytes_swapped(img):
            return [Problem(_SWAPPED, path)]
        if img.min() == img.max():
            return [Problem(_CONSTANT, path)]
        holes = img.dtype != np.uint8 and np.count_nonzero(img) < 0.99 * img.size
        return [Problem(_HOLES, path)] if holes else []

    def _check_boxes(self, info: Mapping, size: tuple[int, int]) -> list[Problem]:
        """Find boxes (x1, y1, x2, y2) that are degenerate or leave the image."""
        rows = [row['bbox'] for row in info.get('instances', ()) if 'bbox' in row]
        corners = np.asarray(rows, float).reshape(-1, 4)
        height, width = size
        boxes = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], 1)
        found = examine_boxes(boxes, np.full((len(rows), 2), (width, height)))
        return [
            Problem(
                kind,
                str(info.get('img_path')),
                f'box {rows[k]} of an image {width}x{height}',
            )
            for kind, mask in (
                (DEGENERATE, found.degenerate),
                (OUTSIDE, found.outside),
                (_OVER, found.partly),
            )
            for k in np.flatnonzero(mask)
        ]

    def damaged(
        self,
        infos: Sequence[Mapping],
        bad: Container[str],
        workers: int,
        progress: bool,
    ) -> list[Problem]:
        """Find JPEG files with damaged data among those not known to be bad."""
        paths = {path for info in infos for path in self.paths(info).values() if path}
        todo = sorted(
            path
            for path in paths
            if path not in bad and self.known.get(path, DAMAGED) is None
        )
        found = damaged_jpegs(todo, workers, progress)
        for path in todo:
            if path not in found:
                self.known.put(path, DAMAGED, (0, 0))
        return [Problem(DAMAGED, path, text) for path, text in found.items()]

    def duplicates(self, infos: Sequence[Mapping]) -> list[Problem]:
        """Find files used for the same modality in several samples."""
        counts = Counter(
            (name, path)
            for info in infos
            for name, path in self.paths(info).items()
            if path is not None
        )
        return [
            Problem(SHARED, path, f'{name} of {count} samples')
            for (name, path), count in counts.items()
            if count > 1
        ]
