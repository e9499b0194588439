"""What a check of data finds: problems, the report on them, the rule for boxes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mmir.utils.errors import AnnotationError
from mmir.utils.files import few

EMPTY = 'no samples'
MISSING = 'image is missing'
UNREADABLE = 'image cannot be read'
FORMAT = 'image of another depth or size than expected'
SIZES = 'sizes differ'
SHARED = 'image of several samples'
DEGENERATE = 'box without a positive finite size'
OUTSIDE = 'box outside the image'
BAD_MAP = 'label map cannot be read'
MAP_SIZE = 'label map of another size than its image'
CLASSES = 'label outside the classes'


@dataclass(frozen=True)
class Problem:
    """One fault of a data set.

    Attributes:
        kind (str): What is wrong, such as :data:`OUTSIDE`.
        name (str): The image file or entry it concerns.
        detail (str): The value found.
    """

    kind: str
    name: str
    detail: str = ''

    def __str__(self) -> str:
        """Write the fault on one line."""
        return f'{self.name}: {self.kind}' + (
            f' ({self.detail})' if self.detail else ''
        )


@dataclass
class Report:
    """What a check found.

    Attributes:
        source (str): What was checked: an annotation file, a split.
        samples (int): Images or pairs looked at.
        labels (dict[str, int], optional): Boxes or pixels by class.
        unit (str): What `labels` counts: 'boxes', or 'pixels', which are written as
            shares.
        details (list[str]): What else was found out, a line each.
        problems (list[Problem]): Faults that make the data unusable as it is.
        skipped (list[Problem]): Faults that the loader was told to skip.
        notes (list[str]): What a user should know but can be handled.
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
        """Write the report for people.

        Args:
            limit (int): How many problems of each kind to name.

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
        """Stop if there is a problem.

        Raises:
            AnnotationError: With the counts and the first names of each kind.
        """
        if self.problems:
            raise AnnotationError(self.text(limit=3))

    def _counts(self) -> str:
        """Write the labels of each class."""
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
    """Boxes and what is wrong with them: the rule of every check.

    Attributes:
        clipped (np.ndarray): (N, 4) float64, x, y, width, height inside the image.
        degenerate (np.ndarray): (N,) bool, NaN, infinite, or no positive size.
        outside (np.ndarray): (N,) bool, no part of the box in the image.
        partly (np.ndarray): (N,) bool, reaches over the edge by more than a pixel.
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
    """Clip boxes to their images and sort out the faulty ones.

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
    """Note that boxes reach over the edge of their image, if there are any.

    Args:
        names (Sequence[str]): The image of each such box.

    Returns:
        list[str]: One note or none.
    """
    note = f'{len(names)} boxes reach over the edge of the image and are clipped'
    return [f'{note}: {few(dict.fromkeys(names), 3)}'] if names else []
