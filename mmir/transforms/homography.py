"""Homographies: reading and checking them, warping images by them.

A 3x3 matrix maps a pixel (x, y) of the source to the target, up to scale; centers of
pixels are at whole numbers.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from mmir.structures import PairError
from mmir.utils.errors import AnnotationError
from mmir.utils.files import read_json

BORDERS = {'reflect': cv2.BORDER_REFLECT_101, 'constant': cv2.BORDER_CONSTANT}
"""What pixels without source show, as cv2 calls it."""


def as_homography(value: Sequence[Sequence[float]], source: str) -> np.ndarray:
    """Check a homography.

    Args:
        value (Sequence): 3 rows of 3 numbers.
        source (str): Where it stands, for messages.

    Returns:
        np.ndarray: (3, 3) float64, its largest number 1 or -1.

    Raises:
        ValueError: Another shape, not numbers, not finite, or singular; says where.
    """
    try:
        matrix = np.array(value, np.float64)
    except (TypeError, ValueError):
        matrix = np.empty(0)
    if matrix.shape != (3, 3):
        raise ValueError(f'{source} must be 3 rows of 3 numbers, got {value!r}')
    if not np.isfinite(matrix).all():
        raise ValueError(f'{source} holds NaN or infinite values: {plain(matrix)}')
    largest = np.abs(matrix).max()
    # Rows and columns have units of their own, so only each row's direction counts.
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    if not lengths.all() or abs(np.linalg.det(matrix / lengths)) < 1e-12:
        raise ValueError(
            f'{source} is singular, it maps the image onto a line: {plain(matrix)}'
        )
    return matrix / largest


def read_homographies(
    path: str | Path,
) -> tuple[np.ndarray | None, dict[str, np.ndarray]]:
    """Read homographies for a set of images from a JSON file.

    Args:
        path (str | Path): File with `default`, a matrix, `images`, file stem ->
            matrix, or both.

    Returns:
        tuple: The default or None, and the matrices (3, 3) by stem.

    Raises:
        FileNotFoundError: There is no such file.
        AnnotationError: It has another form; a matrix in it is misshapen or singular.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'file of homographies not found: {path}')
    content = read_json(path)
    keys = {'default', 'images'}
    if not isinstance(content, dict) or not content or content.keys() - keys:
        raise AnnotationError(
            f"{path} must hold an object with 'default' (a matrix), 'images' (file "
            f'stem -> matrix) or both'
        )
    images = content.get('images', {})
    if not isinstance(images, dict):
        raise AnnotationError(f"{path}: 'images' must map file stems to matrices")
    try:
        by_stem = {
            stem: as_homography(value, f'{path}: images[{stem!r}]')
            for stem, value in images.items()
        }
        default = content.get('default')
        if default is not None:
            default = as_homography(default, f"{path}: 'default'")
    except ValueError as error:
        raise AnnotationError(str(error)) from None
    return default, by_stem


def covered_share(
    matrix: np.ndarray, size: tuple[int, int], target: tuple[int, int], source: str
) -> float:
    """Compute which share of the target an image covers, and check the mapping.

    Args:
        matrix (np.ndarray): (3, 3), image to target.
        size (tuple[int, int]): Width and height of the image.
        target (tuple[int, int]): Width and height of the target.
        source (str): What to call the matrix in messages.

    Returns:
        float: Over 0, up to 1.

    Raises:
        PairError: The image is torn (part of it is mapped through infinity), or does
            not meet the target.
    """
    ends = _outline(size) @ matrix[:, :2].T + matrix[:, 2]
    if not (ends[:, 2] > 0).all() and not (ends[:, 2] < 0).all():
        raise PairError(
            f'{source} tears an image of {size[0]}x{size[1]} (width x height): its '
            f'horizon crosses the image. {plain(matrix)}'
        )
    quad = (ends[:, :2] / ends[:, 2:]).astype(np.float32)
    frame = _outline(target).astype(np.float32)
    area, _ = cv2.intersectConvexConvex(quad, frame)
    if area <= 0:
        low, high = quad.min(0).round(1).tolist(), quad.max(0).round(1).tolist()
        raise PairError(
            f'{source} maps an image of {size[0]}x{size[1]} (width x height) to x '
            f'{low[0]}..{high[0]}, y {low[1]}..{high[1]}, outside the {target[0]}x'
            f'{target[1]} of the reference. It must map the source to the reference, '
            'not back'
        )
    return min(float(area) / (target[0] * target[1]), 1.0)


def shrink_first(img: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shrink an image that a homography makes less than half as large.

    Interpolation reads 2x2 pixels only; those between would be skipped, and fine
    patterns turn into false ones.

    Args:
        img (np.ndarray): (H, W, C).
        matrix (np.ndarray): (3, 3), from the image to the target.

    Returns:
        tuple[np.ndarray, np.ndarray]: Image and matrix that do the same; those given
        if there is nothing to shrink.
    """
    height, width, channels = img.shape
    ends = _outline((width, height)) @ matrix[:, :2].T + matrix[:, 2]
    area = abs(cv2.contourArea((ends[:, :2] / ends[:, 2:]).astype(np.float32)))
    scale = np.sqrt(area / (width * height))
    if scale >= 0.5:
        return img, matrix
    new = np.maximum(np.rint(np.array((width, height)) * scale), 1).astype(int)
    small = cv2.resize(img, new.tolist(), interpolation=cv2.INTER_AREA)
    factor = np.array((width, height)) / new
    # the corners of the picture, half a pixel outside, stay where they are
    grow = np.diag((*factor, 1.0))
    grow[:2, 2] = (factor - 1) / 2
    return small.reshape(*small.shape[:2], channels), matrix @ grow


def warp(
    img: np.ndarray,
    matrix: np.ndarray,
    size: tuple[int, int],
    border: Literal['reflect', 'constant'],
    fill: float,
) -> np.ndarray:
    """Warp an image, bilinear.

    Args:
        img (np.ndarray): (H, W, C) of uint8, uint16 or float32, C up to 4.
        matrix (np.ndarray): (3, 3), from the image to the result.
        size (tuple[int, int]): Width and height of the result.
        border (str): Pixels without source: 'reflect' or 'constant'.
        fill (float): Value of a constant border.

    Returns:
        np.ndarray: (height, width, C), same dtype.
    """
    out = cv2.warpPerspective(
        img,
        matrix,
        size,
        flags=cv2.INTER_LINEAR,
        borderMode=BORDERS[border],
        borderValue=(fill,) * 4,
    )
    return out.reshape(*size[::-1], img.shape[2])


def plain(matrix: np.ndarray) -> tuple[tuple[float, ...], ...]:
    """Write a matrix in plain types, for metadata and messages.

    Args:
        matrix (np.ndarray): (R, C).

    Returns:
        tuple[tuple[float, ...], ...]: Its rows.
    """
    return tuple(tuple(row) for row in np.asarray(matrix, float).tolist())


def _outline(size: tuple[int, int]) -> np.ndarray:
    """(4, 2) corners of an image, at the outer edges of its pixels."""
    right, bottom = size[0] - 0.5, size[1] - 0.5
    return np.array([(-0.5, -0.5), (right, -0.5), (right, bottom), (-0.5, bottom)])
