"""Rows of crop with weeds between them, in a red and a near-infrared image.

Leaves absorb red light and reflect near infrared, and soil is alike in both. Weeds are
smaller than crop and stand anywhere.
"""

import os
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from .disk import _write_image, _write_once

FIELD_CLASSES = 'soil', 'crop', 'weed'
RED = 60.0, 50.0  # leaves of crop, of weed
NEAR_INFRARED = 200.0, 180.0
SOIL = 110.0, 105.0  # red, near infrared


def render_field(
    seed: int | tuple[int, ...], size: tuple[int, int] = (640, 480)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Render a field from above.

    Args:
        seed: Seed of all random numbers.
        size: Width and height in px.

    Returns:
        Red image, near-infrared image, and labels: 0 soil, 1 crop, 2 weed. Each is
        (H, W) uint8.
    """
    rng = np.random.default_rng(seed)
    width, height = size
    soil = cv2.GaussianBlur(rng.normal(0, 1, (height, width)), (0, 0), width / 80)
    soil *= 15 / soil.std()
    red, nir = (level + soil for level in SOIL)
    labels = np.zeros((height, width), np.uint8)
    spacing, unit = height / 3, height / 7  # between rows; length of a leaf of crop
    for _ in range(rng.integers(8, 20)):
        place = rng.uniform(0, width), rng.uniform(0, height)
        _plant(rng, labels, place, unit * rng.uniform(0.2, 0.5), 2)
    for row in range(3):
        for x in np.arange(rng.uniform(0, spacing), width, spacing):
            y = spacing * (row + 0.5) + rng.normal(0, unit / 4)
            _plant(rng, labels, (x, y), unit * rng.uniform(0.7, 1.1), 1)
    for label in (1, 2):
        for image, levels in ((red, RED), (nir, NEAR_INFRARED)):
            leaf = labels == label
            image[leaf] = levels[label - 1] + soil[leaf] / 2
    noisy = (image + rng.normal(0, 4, image.shape) for image in (red, nir))
    red, nir = (np.clip(np.rint(image), 0, 255).astype(np.uint8) for image in noisy)
    return red, nir, labels


def _plant(
    rng: np.random.Generator,
    labels: np.ndarray,
    place: tuple[float, float],
    length: float,
    label: int,
) -> None:
    """Draw the leaves of a plant around a place, in place."""
    count, turn = rng.integers(4, 7), rng.uniform(0, 360)
    for k in range(count):
        angle = turn + 360 * k / count
        unit = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        middle = tuple(
            int(v) for v in np.rint(np.add(place, length / 2 * np.array(unit)))
        )
        axes = max(1, round(length / 2)), max(1, round(length / 4))
        cv2.ellipse(labels, middle, axes, angle, 0, 360, label, -1)


def write_field(
    root: str | os.PathLike[str],
    train: int = 20,
    test: int = 10,
    seed: int = 0,
    size: tuple[int, int] = (640, 480),
    progress: bool = True,
) -> Path:
    """Write fields as `{red,nir,label}/0001.png` with `train.txt` and `test.txt`.

    Args:
        root: Folder to create. One that already holds the same fields is kept.
        train: Number of pairs for training.
        test: Number of pairs for testing.
        seed: Random seed.
        size: Width and height in px.
        progress: Whether to show a progress bar.

    Returns:
        The folder.

    Raises:
        FileExistsError: The folder holds other files or other fields.
    """
    names = [f'{k + 1:04d}' for k in range(train + test)]

    def render_into(folder: Path) -> None:
        """Render both splits."""
        for k, name in enumerate(tqdm(names, 'rendering field', disable=not progress)):
            pictures = render_field((seed, k), size)
            for kind, picture in zip(('red', 'nir', 'label'), pictures, strict=True):
                _write_image(folder / kind / f'{name}.png', picture)
        for split, part in (('train', names[:train]), ('test', names[train:])):
            text = '\n'.join([*part, ''])
            (folder / f'{split}.txt').write_text(text, encoding='utf-8')

    marks = dict(layout='field', train=train, test=test, seed=seed, size=size)
    return _write_once(Path(root), marks, render_into)
