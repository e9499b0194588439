"""Look at every file of a data set before a training meets it.

Each image is read once, as the pipeline's loader will read it, in threads and with a
progress bar; a file that was found right is not read again until it changes.
"""

import copy
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from mmir.transforms import (
    ImageReadError,
    LoadPairedImages,
    LoadThermalImage,
    read_image,
)
from mmir.utils.datasets import leaf_datasets
from mmir.utils.errors import AnnotationError
from mmir.utils.known_files import KnownFiles

KINDS = {
    'empty': 'data sets without samples',
    'missing': 'files that do not exist',
    'unreadable': 'files that are empty, truncated or no images',
    'format': 'images of another bit depth or size than expected',
    'sizes': 'pairs whose images differ in size',
    'duplicate': 'files that belong to several samples',
    'label': 'labels outside their image or of unknown classes',
    'label file': 'label files that are missing, unreadable or of another size',
}
"""What can be wrong, in the order of the report."""


_SKIPPED = ('missing', 'unreadable', 'format', 'sizes')
"""What a loader with `on_error='skip'` passes over."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: A key of :data:`KINDS`.
        text: What it is, with the name of the file.
    """

    kind: str
    text: str


@dataclass
class CheckReport:
    """What a check found.

    Attributes:
        samples: Number of samples looked at.
        problems: All problems.
        skippable: Problems the loader was told to skip (`on_error='skip'`).
    """

    samples: int = 0
    problems: list[Problem] = field(default_factory=list)
    skippable: list[Problem] = field(default_factory=list)

    def __str__(self) -> str:
        """Counts by kind with the first names of each."""
        lines = [f'{self.samples} samples checked']
        for title, found in (('', self.problems), ('skipped: ', self.skippable)):
            for kind, meaning in KINDS.items():
                texts = [problem.text for problem in found if problem.kind == kind]
                if texts:
                    lines.append(f'  {title}{len(texts)} {meaning}:')
                    lines += [f'    {text}' for text in texts[:5]]
                    lines += [f'    and {len(texts) - 5} more'] * (len(texts) > 5)
        if len(lines) == 1:
            lines.append('  no problems')
        return '\n'.join(lines)


class DatasetError(AnnotationError):
    """A data set is not fit for training; the message is the whole report."""


def find_loader(dataset: Any) -> LoadPairedImages | LoadThermalImage | None:
    """The transform of a data set that reads images, None if it is not ours."""
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    kinds = (LoadPairedImages, LoadThermalImage)
    return next((step for step in steps if isinstance(step, kinds)), None)


def check_dataset(
    dataset: Any,
    workers: int = 4,
    cache: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> CheckReport:
    """Check all samples of a data set, through its wrappers.

    Data sets whose pipeline reads images with a transform of a host only have their
    labels checked.

    Args:
        dataset (Any): Data set of mmengine, or a wrapper around some.
        workers (int): Threads that read.
        cache (str | PathLike, optional): JSON file that remembers what was found right,
            by path, size and time of change. Made if it is not there.
        progress (bool): Show a progress bar.

    Returns:
        CheckReport: What was found.
    """
    report, known = CheckReport(), KnownFiles(cache)
    for leaf in leaf_datasets(dataset):
        leaf.full_init()
        if not len(leaf):
            name = getattr(leaf, 'ann_file', '') or getattr(leaf, 'data_root', '')
            report.problems.append(
                Problem('empty', f'{type(leaf).__name__} of {name or "nowhere"}')
            )
            continue
        _check_leaf(leaf, report, known, workers, progress)
    known.save()
    return report


def _check_leaf(
    dataset: Any, report: CheckReport, known: KnownFiles, workers: int, progress: bool
) -> None:
    """Check one data set; adds to the report."""
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
    found += checker.duplicates(infos)
    report.samples += len(infos)
    skips = getattr(checker.loader, 'on_error', 'raise') == 'skip'
    for problem in found:
        # labels are not the loader's business, so it will not skip them
        skipped = skips and problem.kind in _SKIPPED
        (report.skippable if skipped else report.problems).append(problem)


@dataclass
class _Checker:
    """Checks single samples of a data set."""

    loader: LoadPairedImages | LoadThermalImage | None
    metainfo: Mapping
    known: KnownFiles

    def __post_init__(self) -> None:
        """Make a loader of one image raise, whatever it does in training."""
        self.single = copy.copy(self.loader)
        if self.single is not None:
            self.single.on_error = 'raise'

    def __call__(self, info: Mapping) -> list[Problem]:
        """All problems of a sample."""
        problems: list[Problem] = []
        sizes = {}
        for name, path in self.paths(info).items():
            if path is not None:
                sizes[name] = self._check_image(name, path, info, problems)
        shapes = {name: size for name, size in sizes.items() if size}
        equal = getattr(self.loader, 'sizes', 'any') == 'equal'
        if equal and len(set(shapes.values())) > 1:
            text = ', '.join(f'{n} {w}x{h}' for n, (h, w) in shapes.items())
            problems.append(Problem('sizes', f'{info.get("img_path")}: {text}'))
        lead = shapes.get(getattr(self.loader, 'reference', 'image'))
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
        """Check one image; its height and width if it can be read."""
        paired = isinstance(self.loader, LoadPairedImages)
        load = self.loader.loaders[name] if paired else self.single
        if '://' not in path and not os.path.exists(path):
            if not paired or self.loader.missing == 'raise':
                problems.append(Problem('missing', f'{path} ({name})'))
            return None
        sample = {'img_path': path}
        if not paired or name == self.loader.reference:
            sample |= {key: info[key] for key in ('height', 'width') if key in info}
        wanted = f'{load!r} {sorted(sample.items())}'
        size = self.known.get(path, wanted)
        if size is None:
            try:
                shown = load.transform(dict(sample))
            except ImageReadError as error:
                problems.append(Problem(_kind_of(path), str(error)))
                return None
            size = shown['img'].shape[:2]
            self.known.put(path, wanted, size)
        return size

    def _check_boxes(self, info: Mapping, size: tuple[int, int]) -> list[Problem]:
        """Boxes (x1, y1, x2, y2) that reach out of the image or have no area."""
        rows = [row['bbox'] for row in info.get('instances', ()) if 'bbox' in row]
        if not rows:
            return []
        boxes = np.asarray(rows, float)
        height, width = size
        limit = np.array([width, height, width, height])
        bad = ~np.isfinite(boxes).all(1)
        bad |= (boxes < -1).any(1) | (boxes > limit + 1).any(1)
        bad |= (boxes[:, 2:] <= boxes[:, :2]).any(1)
        return [
            Problem(
                'label',
                f'{info.get("img_path")}: box {rows[k]} of an image {width}x{height}',
            )
            for k in np.flatnonzero(bad)
        ]

    def _check_map(self, info: Mapping, size: tuple[int, int]) -> list[Problem]:
        """A label map that is missing, unreadable, of another size or class."""
        path = info.get('seg_map_path')
        if path is None:
            return []
        wanted = f'labels {size} {info.get("label_map")} {self.metainfo.get("classes")}'
        if self.known.get(path, wanted):
            return []
        try:
            labels = read_image(path)
        except ImageReadError as error:
            return [Problem('label file', str(error))]
        if labels.shape[:2] != size:
            height, width = labels.shape[:2]
            return [
                Problem(
                    'label file',
                    f'{path} is {width}x{height} (width x height), its image '
                    f'{size[1]}x{size[0]}',
                )
            ]
        strange = _strange_labels(labels, info, self.metainfo)
        if strange:
            return [Problem('label', f'{path} holds {strange}, which are no classes')]
        self.known.put(path, wanted, size)
        return []

    def duplicates(self, infos: Sequence[Mapping]) -> list[Problem]:
        """Files that are the image of the same modality in several samples."""
        counts = Counter(
            (name, path)
            for info in infos
            for name, path in self.paths(info).items()
            if path is not None
        )
        return [
            Problem('duplicate', f'{path} ({name} of {count} samples)')
            for (name, path), count in counts.items()
            if count > 1
        ]


def _kind_of(path: str) -> str:
    """Whether a file cannot be read at all or is only not what was expected."""
    try:
        read_image(path)
    except ImageReadError:
        return 'unreadable'
    return 'format'


def _strange_labels(labels: np.ndarray, info: Mapping, meta: Mapping) -> list[int]:
    """Values of a label map that are no class, as mmseg would read it."""
    classes = meta.get('classes')
    if classes is None or labels.ndim != 2 or labels.dtype != np.uint8:
        return []
    present = set(np.flatnonzero(cv2.calcHist([labels], [0], None, [256], [0, 256])))
    known = set(range(len(classes) + bool(info.get('reduce_zero_label')))) | {255}
    known |= set(info.get('label_map') or ())
    return sorted(int(value) for value in present - known)
