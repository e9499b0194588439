"""Convert any image for display: contrast stretch and thermal palettes."""

from functools import lru_cache

import cv2
import numpy as np

from mmir.transforms.thermal import ThermalToUint8

_RAMP = np.arange(256, dtype=np.uint8)
_OF_OPENCV = {
    'inferno': cv2.COLORMAP_INFERNO,
    'jet': cv2.COLORMAP_JET,
    'viridis': cv2.COLORMAP_VIRIDIS,
}
# RGB at equal steps from cold to hot, similar to the ironbow palettes of thermal
# cameras: violet, red, orange, getting lighter with every step.
_IRON = ((0, 0, 0), (60, 0, 130), (160, 10, 140), (230, 70, 40), (250, 170, 0))
_IRON_END = (255, 255, 235)

COLOR_MAPS = ('white-hot', 'black-hot', 'ironbow', *_OF_OPENCV)
"""Names of the palettes."""


@lru_cache
def color_table(name: str) -> np.ndarray:
    """Get the colors of a palette.

    Args:
        name (str): One of :data:`COLOR_MAPS`.

    Returns:
        np.ndarray: (256, 3) uint8, RGB of each gray level; read-only.

    Raises:
        ValueError: There is no such palette.
    """
    if name == 'white-hot':
        table = np.stack([_RAMP] * 3, 1)
    elif name == 'black-hot':
        table = np.stack([_RAMP[::-1]] * 3, 1)
    elif name == 'ironbow':
        stops = np.array([*_IRON, _IRON_END], float)
        at = np.linspace(0, 255, len(stops))
        mixed = [np.interp(_RAMP, at, stops[:, channel]) for channel in range(3)]
        table = np.rint(np.stack(mixed, 1)).astype(np.uint8)
    elif name in _OF_OPENCV:
        # a ramp of one dimension gives (256, 1, 3) in OpenCV 4, (1, 256, 3) in 5
        colors = cv2.applyColorMap(_RAMP, _OF_OPENCV[name])
        table = colors.reshape(256, 3)[:, ::-1].copy()
    else:
        raise ValueError(f'color map must be one of {COLOR_MAPS}, got {name!r}')
    table.flags.writeable = False
    return table


def is_gray(img: np.ndarray) -> bool:
    """Tell whether an image is grayscale: one plane, or the same plane repeated.

    Args:
        img (np.ndarray): (H, W) or (H, W, C).

    Returns:
        bool: True for infrared images, as loaded and after resizing.
    """
    if img.ndim == 2 or img.shape[2] == 1:
        return True
    seen = img[::2, ::2]  # every fourth pixel is enough
    return all(np.array_equal(seen[..., 0], seen[..., k]) for k in range(1, 3))


def stretch(img: np.ndarray, percentiles: tuple[float, float] = (1, 99)) -> np.ndarray:
    """Stretch an image to 8 bits between two percentiles, for display.

    Args:
        img (np.ndarray): (H, W) or (H, W, C), any dtype; NaN and infinite pixels
            become black.
        percentiles (tuple[float, float]): Percentiles mapped to black and white.

    Returns:
        np.ndarray: The same shape, uint8. A constant image becomes black.
    """
    finite = np.isfinite(img)
    if not finite.all():
        floor = img[finite].min() if finite.any() else 0
        img = np.where(finite, img, floor)
    gain = ThermalToUint8('percentile', *percentiles)
    # the transform refuses 8 bits, which need no stretch as network input
    wide = img.astype(np.uint16) if img.dtype == np.uint8 else img
    return gain.transform({'img': wide})['img']


def to_display(img: np.ndarray, colour_map: str = 'white-hot') -> np.ndarray:
    """Convert a loaded or packed image to a displayable RGB picture.

    Color images are kept (values clipped to 0..255; 16-bit color is stretched).
    Grayscale images, which are thermal here, are stretched if they have more than 8
    bits and colored with the palette.

    Args:
        img (np.ndarray): (H, W) or (H, W, 1 or 3), uint8, uint16 or float; BGR.
        colour_map (str): Palette of grayscale images, one of :data:`COLOR_MAPS`.

    Returns:
        np.ndarray: (H, W, 3) uint8, RGB.
    """
    if is_gray(img):
        plane = img if img.ndim == 2 else img[..., 0]
        return color_table(colour_map)[
            plane if plane.dtype == np.uint8 else stretch(plane)
        ]
    if img.dtype == np.uint16:
        img = stretch(img)
    elif img.dtype != np.uint8:
        img = np.rint(np.clip(np.nan_to_num(img), 0, 255)).astype(np.uint8)
    return np.ascontiguousarray(img[..., 2::-1])
