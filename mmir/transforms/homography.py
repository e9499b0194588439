"""Homographies: reading and checking them, warping images.

A 3x3 matrix maps a pixel (x, y) of the source to the target, up to scale. Pixel centers
are at integer coordinates.
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
"""cv2 border mode for pixels without a source."""


def as_homography(value: Sequence[Sequence[float]], source: str) -> np.ndarray:
    """Check a homography.

    Args:
        value (Sequence): 3 rows of 3 numbers.
        source (str): Where it comes from, for error messages.

    Returns:
        np.ndarray: (3, 3) float64, scaled so that its largest absolute value is 1.

    Raises:
        ValueError: It is not a finite, invertible 3x3 matrix; the source is named.
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
    # Rows and columns differ in units, so only the direction of each row counts.
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    if not lengths.all() or abs(np.linalg.det(matrix / lengths)) < 1e-12:
        raise ValueError(
            f'{source} is singular: it maps the image onto a line: {plain(matrix)}'
        )
    return matrix / largest


def read_homographies(
    path: str | Path,
) -> tuple[np.ndarray | None, dict[str, np.ndarray]]:
    """Read homographies from a JSON file.

    Args:
        path (str | Path): File with `default` (a matrix), `images` (file stem ->
            matrix), or both.

    Returns:
        tuple: The default matrix or None, and the (3, 3) matrices by file stem.

    Raises:
        FileNotFoundError: There is no such file.
        AnnotationError: The file has another structure, or a matrix in it is invalid.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'homography file not found: {path}')
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
    """Compute the share of the target that an image covers, and check the mapping.

    Args:
        matrix (np.ndarray): (3, 3), image to target.
        size (tuple[int, int]): Width and height of the image.
        target (tuple[int, int]): Width and height of the target.
        source (str): Name of the matrix, for error messages.

    Returns:
        float: Share in (0, 1].

    Raises:
        PairError: The image is torn (part of it is mapped through infinity), or does
            not overlap the target.
    """
    ends = _outline(size) @ matrix[:, :2].T + matrix[:, 2]
    if not (ends[:, 2] > 0).all() and not (ends[:, 2] < 0).all():
        raise PairError(
            f'{source} tears a {size[0]}x{size[1]} image (width x height): its '
            f'horizon crosses the image. {plain(matrix)}'
        )
    quad = (ends[:, :2] / ends[:, 2:]).astype(np.float32)
    frame = _outline(target).astype(np.float32)
    area, _ = cv2.intersectConvexConvex(quad, frame)
    if area <= 0:
        low, high = quad.min(0).round(1).tolist(), quad.max(0).round(1).tolist()
        raise PairError(
            f'{source} maps a {size[0]}x{size[1]} image (width x height) to x '
            f'{low[0]}..{high[0]}, y {low[1]}..{high[1]}, outside the {target[0]}x'
            f'{target[1]} reference. It must map the source to the reference, not the '
            'other way round'
        )
    return min(float(area) / (target[0] * target[1]), 1.0)


def shrink_first(img: np.ndarray, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shrink an image first if a homography scales it below half its size.

    Bilinear interpolation reads only 2x2 pixels; skipping those between causes
    aliasing.

    Args:
        img (np.ndarray): (H, W, C).
        matrix (np.ndarray): (3, 3), from the image to the target.

    Returns:
        tuple[np.ndarray, np.ndarray]: Equivalent image and matrix; the inputs if there
        is nothing to shrink.
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
    # the outer corners of the image, half a pixel outside, stay where they are
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
    """Warp an image with bilinear interpolation.

    Args:
        img (np.ndarray): (H, W, C) of uint8, uint16 or float32, C up to 4.
        matrix (np.ndarray): (3, 3), from the image to the result.
        size (tuple[int, int]): Width and height of the result.
        border (str): How to fill pixels without a source: 'reflect' or 'constant'.
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
    """Convert a matrix to plain Python types, for metainfo and messages.

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
