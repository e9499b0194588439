"""Results of a data check: problems, the report, the rules for boxes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mmir.utils.errors import AnnotationError
from mmir.utils.files import few

EMPTY = 'no samples'
NO_LABELS = 'labels cannot be read'
MISSING = 'image is missing'
IRREGULAR = 'no regular file (a folder, pipe or device)'
UNREADABLE = 'image cannot be read'
DAMAGED = 'JPEG data is damaged'
FORMAT = 'unexpected image depth or size'
ELSEWHERE = 'file outside the data folder'
SIZES = 'sizes differ'
SHARED = 'image used by several samples'
DEGENERATE = 'box without a positive finite size'
OUTSIDE = 'box outside the image'
BAD_MAP = 'label map cannot be read'
MAP_SIZE = 'label map and image differ in size'
CLASSES = 'label outside the classes'
COLORED = 'label map in color'
DEEP = 'label map of more than 8 bits'
UNLEARNABLE = 'label maps without anything to learn'
NOT_FINITE = 'image holds NaN or infinite values'
RADIOMETRY = 'image is no temperatures'


@dataclass(frozen=True)
class Problem:
    """A problem in a dataset.

    Attributes:
        kind (str): What is wrong, such as :data:`OUTSIDE`.
        name (str): The image file or entry it concerns.
        detail (str): The value found.
    """

    kind: str
    name: str
    detail: str = ''

    def __str__(self) -> str:
        """Format the problem on one line."""
        return f'{self.name}: {self.kind}' + (
            f' ({self.detail})' if self.detail else ''
        )


@dataclass
class Report:
    """Report of a data check.

    Attributes:
        source (str): What was checked: an annotation file, a split.
        samples (int): Number of images or pairs checked.
        labels (dict[str, int], optional): Boxes or pixels by class.
        unit (str): What `labels` counts: 'boxes', or 'pixels', which are shown as
            percentages.
        details (list[str]): Further findings, one line each.
        problems (list[Problem]): Problems that make the data unusable as it is.
        skipped (list[Problem]): Problems that the loader was told to skip.
        notes (list[str]): Findings that a user should know about but that are handled.
    """

    source: str
    samples: int = 0
    labels: dict[str, int] | None = None
    unit: str = 'boxes'
    details: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    skipped: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """bool: Whether there is no problem."""
        return not self.problems

    def text(self, limit: int = 20) -> str:
        """Format the report.

        Args:
            limit (int): Number of problems of each kind to list.

        Returns:
            str: Several lines.
        """
        lines = [self.source, f'  samples: {self.samples}']
        if self.labels is not None:
            lines.append(f'  {self.unit}: {self._counts() or "none"}')
        lines += [f'  {line}' for line in self.details]
        lines += [f'  note: {note}' for note in self.notes]
        lines += _listed('skipped', self.skipped, limit)
        lines += _listed('PROBLEM', self.problems, limit)
        lines.append('  no problems' if self.ok else f'  {len(self.problems)} problems')
        return '\n'.join(lines)

    def raise_on_problems(self) -> None:
        """Raise an error if there is a problem.

        Raises:
            AnnotationError: With the counts and the first names of each kind.
        """
        if self.problems:
            raise AnnotationError(self.text(limit=3))

    def _counts(self) -> str:
        """Format the labels of each class."""
        counts = self.labels or {}
        if self.unit == 'boxes':
            return ', '.join(f'{name} {n}' for name, n in counts.items())
        total = max(sum(counts.values()), 1)
        return ', '.join(f'{name} {n / total:.2%}' for name, n in counts.items() if n)


def _listed(title: str, problems: Sequence[Problem], limit: int) -> list[str]:
    """Count problems by kind and name the first of each."""
    lines = []
    for kind, total in Counter(p.kind for p in problems).items():
        lines.append(f'  {title}: {kind}: {total}')
        named = [str(p) for p in problems if p.kind == kind]
        lines += [f'    {line}' for line in named[:limit]]
        lines += [f'    ... and {total - limit} more'] * (total > limit)
    return lines


@dataclass
class Boxes:
    """Clipped boxes and their faults; every check applies these rules.

    Attributes:
        clipped (np.ndarray): (N, 4) float64, x, y, width, height, clipped to the image.
        degenerate (np.ndarray): (N,) bool, NaN, infinite, or not of positive size.
        outside (np.ndarray): (N,) bool, completely outside the image.
        partly (np.ndarray): (N,) bool, extends past the edge by more than a pixel.
    """

    clipped: np.ndarray
    degenerate: np.ndarray
    outside: np.ndarray
    partly: np.ndarray

    @property
    def bad(self) -> np.ndarray:
        """np.ndarray: (N,) bool, boxes that cannot be used."""
        return self.degenerate | self.outside


def examine_boxes(boxes: np.ndarray, sizes: np.ndarray) -> Boxes:
    """Clip boxes to their images and mark the faulty ones.

    Args:
        boxes (np.ndarray): (N, 4) float, x, y, width, height in pixels.
        sizes (np.ndarray): (N, 2) float, width and height of the image of each box.

    Returns:
        Boxes: The clipped boxes and the faults.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    sizes = np.asarray(sizes, np.float64).reshape(-1, 2)
    finite = np.isfinite(boxes).all(1)
    degenerate = ~finite | ~(boxes[:, 2:] > 0).all(1)
    boxes = np.where(finite[:, None], boxes, 0.0)
    near, far = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    low, high = np.clip(near, 0, sizes), np.clip(far, 0, sizes)
    clipped = np.concatenate([low, high - low], 1)
    outside = ~degenerate & ~(clipped[:, 2:] > 0).all(1)
    over = np.maximum(-near, far - sizes).max(1, initial=-np.inf) > 1
    return Boxes(clipped, degenerate, outside, over & ~degenerate & ~outside)


def edge_note(names: Sequence[str]) -> list[str]:
    """Write a note about boxes that extend past the edge of their image.

    Args:
        names (Sequence[str]): The image of each such box.

    Returns:
        list[str]: One note, or none if there are no such boxes.
    """
    note = f'{len(names)} boxes extend past the edge of the image and are clipped'
    return [f'{note}: {few(dict.fromkeys(names), 3)}'] if names else []
