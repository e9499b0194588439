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

import cv2
import numpy as np
from tqdm import tqdm

from mmir.data.check import (
    BAD_MAP,
    CLASSES,
    DAMAGED,
    DEGENERATE,
    EMPTY,
    FORMAT,
    MAP_SIZE,
    MISSING,
    OUTSIDE,
    SHARED,
    SIZES,
    UNREADABLE,
    Problem,
    Report,
    edge_note,
    examine_boxes,
)
from mmir.data.images import ImageFormatError, ImageReadError, read_image
from mmir.data.jpeg_damage import damaged_jpegs
from mmir.data.known_files import KnownFiles
from mmir.data.wrappers import leaf_datasets
from mmir.transforms import LoadPairedImages, LoadThermalImage

_SKIPPED = (MISSING, UNREADABLE, FORMAT, SIZES)
"""Problems that a loader with `on_error='skip'` skips."""

_OVER = 'box over the edge of its image'


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
    checker = _Checker(find_loader(dataset), dataset.metainfo, known)
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
    report.samples += len(infos)
    report.notes += edge_note([p.name for p in found if p.kind == _OVER])
    skips = getattr(checker.loader, 'on_error', 'raise') == 'skip'
    for problem in found:
        # the loader does not read labels, so it will not skip these
        skipped = skips and problem.kind in _SKIPPED
        if problem.kind != _OVER:
            (report.skipped if skipped else report.problems).append(problem)


@dataclass
class _Checker:
    """Checks single samples of a dataset."""

    loader: LoadPairedImages | LoadThermalImage | None
    metainfo: Mapping
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
            problems += self._check_map(info, size)
        return problems

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
        wanted = f'{load!r} {sorted(sample.items())}'
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
            self.known.put(path, wanted, size)
        return size

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

    def _check_map(self, info: Mapping, size: tuple[int, int]) -> list[Problem]:
        """Find a label map that is missing, unreadable, or of wrong size or classes."""
        path = info.get('seg_map_path')
        if path is None:
            return []
        wanted = f'labels {size} {info.get("label_map")} {self.metainfo.get("classes")}'
        if self.known.get(path, wanted):
            return []
        try:
            labels = read_image(path)
        except ImageReadError as error:
            return [Problem(BAD_MAP, path, str(error))]
        if labels.shape[:2] != size:
            height, width = labels.shape[:2]
            detail = f'{width}x{height}, its image {size[1]}x{size[0]}'
            return [Problem(MAP_SIZE, path, detail)]
        strange = _strange_labels(labels, info, self.metainfo)
        if strange:
            return [Problem(CLASSES, path, f'holds {strange}')]
        self.known.put(path, wanted, size)
        return []

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


def _strange_labels(labels: np.ndarray, info: Mapping, meta: Mapping) -> list[int]:
    """Values of a label map, as mmseg would read it, that are not classes."""
    classes = meta.get('classes')
    if classes is None or labels.ndim != 2 or labels.dtype != np.uint8:
        return []
    present = set(np.flatnonzero(cv2.calcHist([labels], [0], None, [256], [0, 256])))
    known = set(range(len(classes) + bool(info.get('reduce_zero_label')))) | {255}
    known |= set(info.get('label_map') or ())
    return sorted(int(value) for value in present - known)
