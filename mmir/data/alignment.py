"""Measure the misalignment between the images of a pair.

Gray values of RGB and thermal images do not correlate: what is bright in one may be
dark in the other. Their edges do correlate. So edge maps are compared: gradient
strength and direction, with opposite directions treated as equal because the contrast
may be reversed. The peak of their normalized cross-correlation over all shifts in a
window gives the shift; how far the peak stands out gives the confidence.

It measures a single shift of the whole image, with subpixel accuracy. Limitations:

- Rotation, scale and parallax are not measured; the shift is then that of the strongest
  common edges. Side-by-side cameras aligned for distant objects show near ones shifted,
  so an image full of near objects correctly measures as shifted.
- Images need common edges. RGB in the dark, fog, or thermal images at the time of day
  when everything has the same temperature have none: the confidence is low and the
  shift is meaningless.
- Repetitive scenes (fences, facades) and edges in a single direction are ambiguous,
  usually with low confidence too.
- Shifts beyond the window are not found. Peaks at its edge get confidence 0.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mmir.data.images import ImageReadError, read_image
from mmir.structures import PairError

RELIABLE = 1.0
"""Confidence above which a shift is reliable.

On 240 street pairs of 640x480 pixels, day and night, four in five reach it. Of 120
random pairings of the same images, none does.
"""
LEAST = 0.1
"""Correlation below which two images have nothing in common.

99 % of the same random pairs stay below 0.09.
"""


@dataclass(frozen=True)
class Alignment:
    """Result of measuring the shift between two images.

    Attributes:
        shift: (dx, dy) in pixels: what is at (x, y) in the reference is at
            (x + dx, y + dy) in the other image.
        at_zero: Normalized correlation of the edges as the images are, -1 to 1.
        at_best: The same after undoing the shift.
        confidence: Margin of the peak over every shift away from it, in standard
            deviations of the correlation there; 0 without a peak.
    """

    shift: tuple[float, float]
    at_zero: float
    at_best: float
    confidence: float

    @property
    def length(self) -> float:
        """float: Length of the shift in pixels."""
        return float(np.hypot(*self.shift))

    @property
    def reliable(self) -> bool:
        """bool: Whether confidence and correlation suffice to trust the shift."""
        return self.confidence >= RELIABLE and self.at_best >= LEAST


@dataclass(frozen=True)
class PairFiles:
    """The two files of a pair.

    Attributes:
        reference: File of the reference image.
        moving: File of the image whose shift is measured.
        planes: Planes to read from each file, as in
            :class:`mmir.transforms.LoadThermalImage`; None reads all but alpha.
    """

    reference: str
    moving: str
    planes: tuple[tuple[int, int] | None, tuple[int, int] | None] = (None, None)


def edge_map(img: np.ndarray, sigma: float = 2.0) -> np.ndarray:
    """Compute the edges of an image, independent of contrast polarity.

    The gradient at angle t with strength m becomes (cos 2t, sin 2t) m / (m + 2 mean m).
    Reversed contrast gives the same values, and a few strong edges (lamps, engines) do
    not dominate.

    Args:
        img (np.ndarray): (H, W) or (H, W, C) of any depth, C in BGR order.
        sigma (float): Standard deviation of the blur before the gradient, in pixels. It
            compensates for softer and slightly displaced thermal edges.

    Returns:
        np.ndarray: (H, W, 2) float32, within -1..1.

    Raises:
        ValueError: The image has NaN or infinite values.
    """
    gray = np.asarray(img, np.float32)
    if gray.ndim == 3:
        gray = gray[..., 0] if gray.shape[2] < 3 else _gray(gray[..., :3])
    if not np.isfinite(gray).all():
        raise ValueError('the image holds NaN or infinite values')
    gray = cv2.GaussianBlur(gray, (0, 0), sigma)
    right, down = cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1)
    strength = cv2.magnitude(right, down)
    # the second term keeps rounding errors in a flat image from becoming edges
    floor = 2 * strength.mean() + 1e-5 * np.abs(gray).max() + np.float32(1e-12)
    weight = 1 / ((strength + floor) * np.maximum(strength, floor * 1e-6))
    return cv2.merge(
        [(right * right - down * down) * weight, 2 * right * down * weight]
    )


def measure_shift(
    reference: np.ndarray, moving: np.ndarray, window: int = 32, sigma: float = 2.0
) -> Alignment:
    """Measure the shift of an image relative to a reference.

    Args:
        reference (np.ndarray): (H, W) or (H, W, C), any depth.
        moving (np.ndarray): Same height and width; channels and depth may differ.
        window (int): Largest shift to search along each axis, in pixels.
        sigma (float): Standard deviation of the blur in :func:`edge_map`, in pixels.

    Returns:
        Alignment: Shift, correlations and confidence; all 0 if an image has no edges.

    Raises:
        PairError: The images differ in size, or are too small for the window.
        ValueError: An image has NaN or infinite values.
    """
    size = reference.shape[:2]
    if size != moving.shape[:2]:
        raise PairError(
            f'the images differ in size (width x height): {size[1]}x{size[0]} and '
            f'{moving.shape[1]}x{moving.shape[0]}'
        )
    if min(size) < 4 * window:
        raise PairError(
            f'{size[1]}x{size[0]} images are too small to search shifts up to {window} '
            'pixels; the shorter side must be at least four times as long'
        )
    inner = slice(window, -window)
    fixed, other = edge_map(reference, sigma)[inner, inner], edge_map(moving, sigma)
    if min(np.abs(fixed).max(), np.abs(other).max()) < 1e-3:
        return Alignment((0.0, 0.0), 0.0, 0.0, 0.0)
    scores = cv2.matchTemplate(other, fixed, cv2.TM_CCOEFF_NORMED)
    # in flat regions cv2 divides by almost zero
    return _read(np.clip(np.nan_to_num(scores), -1, 1), sigma)


def measure_files(
    files: PairFiles, window: int = 32, resize: bool = False
) -> Alignment | str:
    """Measure a pair of files; can run in a worker process.

    Args:
        files (PairFiles): The pair.
        window (int): As in :func:`measure_shift`.
        resize (bool): Scale the moving image to the size of the reference first, for
            cameras that show the same view at different resolutions.

    Returns:
        Alignment | str: The measurement, or what is wrong with the files.
    """
    cv2.setNumThreads(1)  # the processes share the cores already
    try:
        fixed, moving = (
            read_image(path, planes=planes)
            for path, planes in zip(
                (files.reference, files.moving), files.planes, strict=True
            )
        )
        if resize and moving.shape[:2] != fixed.shape[:2]:
            smaller = moving.shape[0] > fixed.shape[0]
            filter_ = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
            moving = cv2.resize(moving, fixed.shape[1::-1], interpolation=filter_)
        return measure_shift(fixed, moving, window)
    except ImageReadError as error:
        return str(error)
    except ValueError as error:  # a PairError too
        return f'{files.reference} and {files.moving}: {error}'


def _gray(img: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(np.ascontiguousarray(img), cv2.COLOR_BGR2GRAY)


def _read(scores: np.ndarray, sigma: float) -> Alignment:
    """Find the peak of the correlation over all shifts."""
    window = scores.shape[0] // 2
    row, column = np.unravel_index(scores.argmax(), scores.shape)
    zero, best = float(scores[window, window]), float(scores[row, column])
    shift = float(column - window), float(row - window)
    if {row, column} & {0, 2 * window}:
        return Alignment(shift, zero, best, 0.0)
    part = scores[row - 1 : row + 2, column - 1 : column + 2]
    shift = shift[0] + _vertex(part[1]), shift[1] + _vertex(part[:, 1])
    rows, columns = np.ogrid[: 2 * window + 1, : 2 * window + 1]
    apart = scores[np.hypot(rows - row, columns - column) > 3 * sigma]
    spread = float(apart.std())
    confidence = (best - float(apart.max())) / spread if spread > 0 else 0.0
    return Alignment(shift, zero, best, max(confidence, 0.0))


def _vertex(values: np.ndarray) -> float:
    """Peak of the parabola through three equally spaced values, -0.5 to 0.5."""
    left, middle, right = (float(value) for value in values)
    bend = left - 2 * middle + right
    return 0.5 * (left - right) / bend if bend < 0 else 0.0
