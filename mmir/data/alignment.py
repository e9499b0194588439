"""Measure how far the images of a pair are from being registered.

Gray values of RGB and thermal images do not correlate: what is bright in one may be
dark in the other. Their edges do, so edges are what is compared: strength and direction
of the gradient, with opposite directions counted as one since the contrast may be
reversed. The normalized correlation of the two edge maps over all shifts within a
window gives the shift at its peak and, from how far the peak stands out, a confidence.

What it can see: one shift of the whole picture, to a fraction of a pixel. What it
cannot:

- Rotation, scale and parallax; the shift is then that of the strongest common edges.
  Cameras side by side, aligned for far things, show near things shifted: a picture full
  of near things measures as shifted, rightly.
- Pictures without common edges: RGB in the dark, fog, thermal images at the time of day
  when everything has the same temperature. Their confidence is low, and then the shift
  means nothing.
- Which of several shifts is right where the scene repeats (fences, facades) or has
  edges in one direction only: low confidence as well, most often.
- Shifts beyond the window. Peaks at its edge get confidence 0.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from mmir.structures import PairError
from mmir.data.images import ImageReadError, read_image

RELIABLE = 1.0
"""Confidence from which a shift can be believed.

Measured on 240 street pairs of 640x480 pixels, day and night: four in five reach it.
Of the same images paired at random, none of 120 does.
"""
LEAST = 0.1
"""Correlation below which two images have nothing in common.

Of the same random pairs, 99 in 100 stay below 0.09.
"""


@dataclass(frozen=True)
class Alignment:
    """How one image lies over another.

    Attributes:
        shift: (dx, dy) in pixels: what is at (x, y) in the reference is at
            (x + dx, y + dy) in the other image.
        at_zero: Normalized correlation of the edges as the images are, -1 to 1.
        at_best: The same with the shift undone.
        confidence: By how many standard deviations of the correlation over the window
            the peak exceeds every place apart from it; 0 without a peak.
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
        """bool: Whether confidence and correlation say that the shift is there."""
        return self.confidence >= RELIABLE and self.at_best >= LEAST


@dataclass(frozen=True)
class PairFiles:
    """The two files of a pair.

    Attributes:
        reference: File of the image that stays.
        moving: File of the image whose shift is asked for.
        planes: For both, first plane of the file to take and first not to, as in
            :class:`mmir.transforms.LoadThermalImage`; None takes all but alpha.
    """

    reference: str
    moving: str
    planes: tuple[tuple[int, int] | None, tuple[int, int] | None] = (None, None)


def edge_map(img: np.ndarray, sigma: float = 2.0) -> np.ndarray:
    """Edges of an image, in a form that does not know bright from dark.

    The gradient at angle t with strength m becomes (cos 2t, sin 2t) m / (m + 2 mean m):
    reversed contrast gives the same values, and a few strong edges (lamps, engines) do
    not outweigh all others.

    Args:
        img (np.ndarray): (H, W) or (H, W, C) of any depth, C in BGR order.
        sigma (float): Standard deviation of the blur before, in pixels. It bridges that
            thermal edges are softer and lie a little aside.

    Returns:
        np.ndarray: (H, W, 2) float32, within -1..1.

    Raises:
        ValueError: The image holds NaN or infinite values.
    """
    gray = np.asarray(img, np.float32)
    if gray.ndim == 3:
        gray = gray[..., 0] if gray.shape[2] < 3 else _gray(gray[..., :3])
    if not np.isfinite(gray).all():
        raise ValueError('the image holds NaN or infinite values')
    gray = cv2.GaussianBlur(gray, (0, 0), sigma)
    right, down = cv2.Sobel(gray, cv2.CV_32F, 1, 0), cv2.Sobel(gray, cv2.CV_32F, 0, 1)
    strength = cv2.magnitude(right, down)
    # the second term keeps rounding errors from becoming edges of a flat image
    floor = 2 * strength.mean() + 1e-5 * np.abs(gray).max() + np.float32(1e-12)
    weight = 1 / ((strength + floor) * np.maximum(strength, floor * 1e-6))
    return cv2.merge(
        [(right * right - down * down) * weight, 2 * right * down * weight]
    )


def measure_shift(
    reference: np.ndarray, moving: np.ndarray, window: int = 32, sigma: float = 2.0
) -> Alignment:
    """Measure the shift of one image against another.

    Args:
        reference (np.ndarray): (H, W) or (H, W, C), any depth.
        moving (np.ndarray): The same height and width, channels and depth of its own.
        window (int): Largest shift looked for along each axis, in pixels.
        sigma (float): Blur before edges are taken, in pixels.

    Returns:
        Alignment: Shift, correlations, confidence; all 0 where an image has no edges.

    Raises:
        PairError: The images differ in size, or are too small for the window.
        ValueError: An image holds NaN or infinite values.
    """
    size = reference.shape[:2]
    if size != moving.shape[:2]:
        raise PairError(
            f'the images differ in size (width x height): {size[1]}x{size[0]} and '
            f'{moving.shape[1]}x{moving.shape[0]}'
        )
    if min(size) < 4 * window:
        raise PairError(
            f'images of {size[1]}x{size[0]} are too small to look for shifts up to '
            f'{window} pixels; the shorter side must have four times as many'
        )
    inner = slice(window, -window)
    fixed, other = edge_map(reference, sigma)[inner, inner], edge_map(moving, sigma)
    if min(np.abs(fixed).max(), np.abs(other).max()) < 1e-3:
        return Alignment((0.0, 0.0), 0.0, 0.0, 0.0)
    scores = cv2.matchTemplate(other, fixed, cv2.TM_CCOEFF_NORMED)
    # where nothing but flat ground is in view, it divides by next to nothing
    return _read(np.clip(np.nan_to_num(scores), -1, 1), sigma)


def measure_files(
    files: PairFiles, window: int = 32, resize: bool = False
) -> Alignment | str:
    """Measure a pair of files; a function that worker processes can be given.

    Args:
        files (PairFiles): The pair.
        window (int): As in :func:`measure_shift`.
        resize (bool): Scale the moving image to the size of the reference first, for
            cameras that show the same view in other resolutions.

    Returns:
        Alignment | str: What was measured, or what is wrong with the files.
    """
    cv2.setNumThreads(1)  # the processes share the cores already
    try:
        fixed, moving = map(_read_planes, (files.reference, files.moving), files.planes)
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


def _read_planes(path: str, planes: tuple[int, int] | None) -> np.ndarray:
    img = read_image(path)
    return img if planes is None or img.ndim == 2 else img[..., slice(*planes)]


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
    """Where the parabola through three equally spaced values peaks, -0.5 to 0.5."""
    left, middle, right = (float(value) for value in values)
    bend = left - 2 * middle + right
    return 0.5 * (left - right) / bend if bend < 0 else 0.0
