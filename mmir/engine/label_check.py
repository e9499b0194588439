"""Check of the label maps of a dataset, as its pipeline reads them."""

import copy
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from mmcv.transforms import LoadAnnotations

from mmir.data.check import (
    BAD_MAP,
    CLASSES,
    COLORED,
    DEEP,
    MAP_SIZE,
    UNLEARNABLE,
    Problem,
)
from mmir.data.images import ImageReadError
from mmir.data.known_files import KnownFiles
from mmir.data.label_maps import (
    IGNORED,
    color_fault,
    depth_fault,
    read_label_map,
    strange_fault,
    unlearnable,
)
from mmir.utils.files import few


class LabelCheck:
    """Check of label maps: each is read by the label transform of the pipeline.

    What is judged is what training gets: after the cast to 8 bits, `reduce_zero_label`
    and `label_map`. Without such a transform, the maps only have to be readable.

    Args:
        dataset (Any): mmengine dataset with a pipeline.
        known (KnownFiles): Files that passed before.
    """

    def __init__(self, dataset: Any, known: KnownFiles) -> None:
        self.known = known
        self.classes = dataset.metainfo.get('classes')
        self.load = copy.copy(_label_transform(dataset))
        self._said = repr(self.load)  # before its first use, which may change it
        self._seen: dict[str, tuple[int, ...]] = {}

    def __call__(self, info: Mapping, size: tuple[int, int] | None) -> list[Problem]:
        """Check the label map of a sample.

        Args:
            info (Mapping): Data info of the sample.
            size (tuple[int, int], optional): Height and width that it must have, None
                if they are not known.

        Returns:
            list[Problem]: A map that is missing, unreadable, in color, of another size
            or with values that are no class.
        """
        path = info.get('seg_map_path')
        if path is None:
            return []
        wanted = (
            f'labels {size} {self._said} {info.get("label_map")} '
            f'{info.get("reduce_zero_label")} {self.classes}'
        )
        triples = self.known.get(path, wanted)
        if triples is None:
            try:
                triples = self._read(path, info, size)
            except ImageReadError as error:
                return [Problem(BAD_MAP, path, str(error))]
            if isinstance(triples, Problem):
                return [triples]
            self.known.put(path, wanted, triples)
        self._seen[path] = triples
        return []

    def _read(
        self, path: str, info: Mapping, size: tuple[int, int] | None
    ) -> tuple[int, ...] | Problem:
        """Read a map; get each value, its label and number of pixels, flat."""
        backend = getattr(self.load, 'imdecode_backend', 'pillow')
        args = getattr(self.load, 'backend_args', None)
        stored = read_label_map(path, backend, args)
        if size is not None and stored.shape[:2] != size:
            height, width = stored.shape[:2]
            detail = f'{width}x{height}, its image {size[1]}x{size[0]}'
            return Problem(MAP_SIZE, path, detail)
        if self.load is None:
            return ()
        labels = self._labels(info)
        if labels.ndim != 2:
            indices = read_label_map(path, backend_args=args).ndim == 2
            return Problem(COLORED, path, color_fault(stored, indices))
        # mmseg casts; a transform of the user may make labels of any values
        casts = type(self.load)._load_seg_map.__module__.startswith('mmseg.')
        if casts and (fault := depth_fault(stored)):
            return Problem(DEEP, path, fault)
        if stored.shape != labels.shape:
            stored = labels
        rows = _joint(stored.astype(np.int64), labels.astype(np.int64))
        if self.classes is not None:
            odd = (rows[:, 1] >= len(self.classes)) & (rows[:, 1] != IGNORED)
            if odd.any():
                count = len(self.classes) + bool(info.get('reduce_zero_label'))
                fault = strange_fault(rows[odd, 0], rows[odd, 2], count)
                return Problem(CLASSES, path, fault)
        return tuple(rows.ravel().tolist())

    def _labels(self, info: Mapping) -> np.ndarray:
        """Run the label transform."""
        results = {**info, 'seg_fields': []}
        try:
            self.load._load_seg_map(results)
        except OSError as error:
            raise ImageReadError(str(error)) from None
        return results['gt_seg_map']

    def summary(self) -> tuple[dict[str, int] | None, Problem | None]:
        """Summarize the maps without problems.

        Returns:
            tuple[dict[str, int] | None, Problem | None]: Pixels by class, None without
            maps or classes; the problem that nothing can be learned from them, if so.
        """
        values, by_label = set(), Counter()
        for flat in self._seen.values():
            for value, label, count in np.reshape(flat, (-1, 3)).tolist():
                values.add(value)
                by_label[label] += count
        if not values or self.classes is None:
            return None, None
        by_class = [by_label[k] for k in range(len(self.classes))]
        fault = unlearnable(values, by_class, by_label[IGNORED])
        problem = (
            Problem(UNLEARNABLE, few(sorted(self._seen), 3), fault) if fault else None
        )
        return dict(zip(self.classes, by_class, strict=True)), problem


def _label_transform(dataset: Any) -> Any:
    """Transform of a pipeline that reads label maps, None if there is none."""
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    found = (s for s in steps if isinstance(s, LoadAnnotations) and s.with_seg)
    return next(found, None)


def _joint(stored: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Count pairs of value and label: (N, 3), value, label, pixels."""
    span = int(labels.max()) + 1
    pairs = (stored * span + labels).ravel()
    if pairs.min() >= 0 and pairs.max() < 2**20:
        counts = np.bincount(pairs)
        codes = np.flatnonzero(counts)
        counts = counts[codes]
    else:
        codes, counts = np.unique(pairs, return_counts=True)
    return np.stack([codes // span, codes % span, counts], 1)
