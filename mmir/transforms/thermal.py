"""Convert radiometric images to the 8 bits detectors are trained on."""

from typing import Any, Literal

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.logging import print_log
from mmengine.registry import TRANSFORMS

_ENDS = {
    'range': (None, None),
    'percentile': (1.0, 99.0),
    'plateau': (0.0, 100.0),
    'clahe': (0.1, 99.9),
}
_OPTIONS = {
    'plateau': {'plateau': None, 'linear': 0.0, 'bins': 4096},
    'clahe': {'clip_limit': 2.0, 'tiles': (8, 8), 'bins': 1024},
}
_MIN_TILE = 16  # pixels per side; the histogram of a smaller tile is noise


@TRANSFORMS.register_module()
class ThermalToUint8(BaseTransform):
    """Map thermal values to 0..255, by a fixed range or by automatic gain control.

    - ``'range'``: linear from `low` to `high`, in the units of the image (counts,
      kelvin). A temperature has the same gray level in every image.
    - ``'percentile'``: linear between two percentiles of each image.
    - ``'plateau'``: plateau histogram equalization, as in the 8-bit output of most
      thermal cameras (Vickers, Optical Engineering 35(7), 1996). The gray level is the
      share of cooler pixels, with each histogram bin clipped at a plateau, so that a
      large uniform background does not take up all gray levels.
    - ``'clahe'``: contrast-limited adaptive histogram equalization, `cv2.createCLAHE`
      on 16 bits. Brings out local detail, but a gray level means different temperatures
      in different places.

    The linear mapping is `round(255 * clip((img - low) / (high - low), 0, 1))`. In all
    modes but 'range', the extremes of a scene become 0 and 255 and a constant image
    becomes 0. If the two percentiles are equal, as with a small object on a uniform
    background, the lowest and highest value take their place. All channels share one
    mapping. An image that lies outside the range of 'range' is warned of, once.

    Required keys: img, (H, W) or (H, W, C) of uint16 or float.
    Changed keys: img, the same shape, uint8.

    Args:
        mode (str): 'range', 'percentile', 'plateau' or 'clahe'.
        low (float, optional): Lower end; values below are clipped. For 'range' a value
            (required), else a percentile of the image. Default: 1 for 'percentile',
            0 for 'plateau', 0.1 for 'clahe'.
        high (float, optional): Upper end, likewise. Default: 99, 100 and 99.9.
        plateau (float, optional): For 'plateau': share of the pixels at which a bin is
            clipped, in (0, 1]. 1 is plain histogram equalization; close to 0 is linear
            over the values that occur. Default: the median of the occupied bins.
        linear (float, optional): For 'plateau': weight of the linear mapping in the
            result, 0..1. Preserves some of the relative differences. Default: 0.
        bins (int, optional): For 'plateau' and 'clahe': number of levels between the
            two ends. Default: 4096 for 'plateau', 1024 for 'clahe', fewer if a tile has
            too few pixels for the contrast limit.
        clip_limit (float, optional): For 'clahe': maximum contrast relative to the
            linear mapping, at least 1. Default: 2.
        tiles (tuple[int, int], optional): For 'clahe': number of rows and columns of
            tiles; fewer if tiles would be smaller than 16 pixels. Default: (8, 8).

    Raises:
        ValueError: The mode is unknown; an option belongs to another mode or is out of
            range; `low` and `high` are missing or reversed; the image has NaN or
            infinite values; for 'clahe', its channels differ.
        TypeError: The image already has 8 bits.
    """

    def __init__(
        self,
        mode: Literal['range', 'percentile', 'plateau', 'clahe'] = 'percentile',
        low: float | None = None,
        high: float | None = None,
        *,
        plateau: float | None = None,
        linear: float | None = None,
        bins: int | None = None,
        clip_limit: float | None = None,
        tiles: tuple[int, int] | None = None,
    ) -> None:
        if mode not in _ENDS:
            raise ValueError(
                f'ThermalToUint8: mode must be one of {tuple(_ENDS)}, got {mode!r}'
            )
        low = _ENDS[mode][0] if low is None else low
        high = _ENDS[mode][1] if high is None else high
        if low is None or high is None:
            raise ValueError(
                "ThermalToUint8: mode='range' needs low and high, the values that "
                'become black and white'
            )
        if not low < high:
            raise ValueError(f'ThermalToUint8: low={low} must be below high={high}')
        if mode != 'range' and not (low >= 0 and high <= 100):
            raise ValueError(f'ThermalToUint8: percentiles {low}, {high} not in 0..100')
        self.mode, self.low, self.high = mode, float(low), float(high)
        self._warned = False
        given = dict(
            plateau=plateau,
            linear=linear,
            bins=bins,
            clip_limit=clip_limit,
            tiles=None if tiles is None else tuple(tiles),
        )
        given = {key: value for key, value in given.items() if value is not None}
        self.options = _checked(mode, given)

    def transform(self, results: dict) -> dict:
        """Convert `img`.

        Args:
            results (dict): Data info with the image.

        Returns:
            dict: The same dictionary, with `img` as uint8.
        """
        img = results['img']
        name = results.get('img_path', 'image')
        if img.dtype == np.uint8:
            raise TypeError(
                f'ThermalToUint8: {name} already has 8 bits; leave the transform out'
            )
        require_finite(img, 'ThermalToUint8', name)
        plane = single_plane(img)
        if self.mode == 'clahe' and plane.ndim == 3:
            raise ValueError(
                f'ThermalToUint8: the channels of {name} differ; clahe needs one '
                'channel, or equal ones'
            )
        low, high = self.low, self.high
        if self.mode == 'range':
            self._warn_if_outside(plane, name)
        else:
            low, high = percentiles(plane, (low, high))
            if high <= low:  # a small object on a uniform background
                low, high = float(plane.min()), float(plane.max())
        if high <= low:
            results['img'] = np.zeros(img.shape, np.uint8)
            return results
        map_ = {'plateau': _plateau, 'clahe': _clahe}.get(self.mode, _stretch)
        out = map_(plane, low, high, **self.options)
        if out.ndim < img.ndim:
            out = np.repeat(out[..., None], img.shape[2], axis=2)
        results['img'] = out
        return results

    def _warn_if_outside(self, plane: np.ndarray, name: str) -> None:
        """Warn, the first time, that a whole image becomes black or white."""
        ends = plane.min(), plane.max()
        if self._warned or (ends[1] > self.low and ends[0] < self.high):
            return
        self._warned = True
        print_log(
            f'ThermalToUint8: {name} holds {ends[0]:g} to {ends[1]:g}, all outside '
            f'low={self.low:g}, high={self.high:g}, and becomes '
            f'{"black" if ends[1] <= self.low else "white"}. Is the range in the units '
            'of the image (counts, kelvin, degrees Celsius)? Said once',
            logger='current',
            level=30,  # logging.WARNING
        )

    def __repr__(self) -> str:
        """Show the options."""
        options = ''.join(f', {key}={value}' for key, value in self.options.items())
        return (
            f'{type(self).__name__}({self.mode!r}, low={self.low}, high={self.high}'
            f'{options})'
        )


def require_finite(img: np.ndarray, user: str, name: str) -> None:
    """Refuse an image with NaN or infinite values.

    Args:
        img (np.ndarray): Image of any dtype.
        user (str): Name of the transform, for the error message.
        name (str): File of the image, for the error message.

    Raises:
        ValueError: The image has such values.
    """
    if img.dtype.kind == 'f' and not np.isfinite(img).all():
        raise ValueError(f'{user}: {name} holds NaN or infinite values')


def single_plane(img: np.ndarray) -> np.ndarray:
    """Reduce a grayscale image with repeated channels to one plane.

    Args:
        img (np.ndarray): Image (H, W) or (H, W, C).

    Returns:
        np.ndarray: Image (H, W), a view; the image itself if its channels differ.
    """
    if img.ndim == 2:
        return img
    first = img[..., 0]
    others = range(1, img.shape[2])
    return first if all(np.array_equal(first, img[..., k]) for k in others) else img


def _checked(mode: str, given: dict[str, Any]) -> dict[str, Any]:
    """Check the options of a mode and fill in its defaults."""
    known = _OPTIONS.get(mode, {})
    if foreign := sorted(given.keys() - known.keys()):
        takes = ', '.join(['low', 'high', *known])
        raise ValueError(
            f'ThermalToUint8: {", ".join(foreign)} cannot be given with mode={mode!r}, '
            f'which takes {takes}'
        )
    options = known | given
    bounds = {
        'plateau': ('in (0, 1]', lambda v: v is None or 0 < v <= 1),
        'linear': ('in 0..1', lambda v: 0 <= v <= 1),
        'bins': ('an integer in 2..65536', lambda v: v in range(2, 65537)),
        'clip_limit': ('at least 1', lambda v: v >= 1),
        'tiles': (
            'two integers of at least 1',
            lambda v: len(v) == 2 and all(n == int(n) >= 1 for n in v),
        ),
    }
    for key, value in options.items():
        words, fits = bounds[key]
        if not fits(value):
            raise ValueError(f'ThermalToUint8: {key} must be {words}, got {value!r}')
    return options


def percentiles(img: np.ndarray, shares: tuple[float, float]) -> tuple[float, float]:
    """Compute two percentiles as `np.percentile` does, but faster for 16 bits.

    Args:
        img (np.ndarray): Image of any shape.
        shares (tuple[float, float]): The percentiles wanted, in 0..100.

    Returns:
        tuple[float, float]: The percentiles, interpolated linearly.
    """
    if not _has_table(img):
        low, high = np.percentile(img, shares)
        return float(low), float(high)
    ranks = np.cumsum(np.bincount(img.ravel()))
    at = np.array(shares) / 100 * (img.size - 1)
    here = np.searchsorted(ranks, np.floor(at), 'right')
    after = np.searchsorted(ranks, np.ceil(at), 'right')
    low, high = here + (at - np.floor(at)) * (after - here)
    return float(low), float(high)


def _has_table(img: np.ndarray) -> bool:
    """Tell whether an image has more pixels than its dtype has values."""
    return img.dtype == np.uint16 and img.size > 65536


def _levels(img: np.ndarray, low: float, high: float, count: int) -> np.ndarray:
    """Scale low..high to 0..count - 1 as uint16, clipped and rounded."""
    if _has_table(img):
        return _levels(np.arange(65536), low, high, count).take(img)
    # float64 is exact enough for the ends to map to the first and last level
    inside = np.clip(img, low, high).astype(np.float64)
    return np.rint((inside - low) * ((count - 1) / (high - low))).astype(np.uint16)


def _stretch(img: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scale low..high to 0..255 as uint8."""
    return _levels(img, low, high, 256).astype(np.uint8)


def _plateau(
    img: np.ndarray,
    low: float,
    high: float,
    plateau: float | None,
    linear: float,
    bins: int,
) -> np.ndarray:
    """Equalize the histogram between low and high, with bins clipped at the plateau."""
    index = _levels(img, low, high, bins)
    counts = np.bincount(index.ravel(), minlength=bins)
    occupied = counts[counts > 0]
    top = np.median(occupied) if plateau is None else plateau * index.size
    below = np.cumsum(np.minimum(counts, max(top, 1)), dtype=np.float64)
    first, last = index.min(), index.max()
    # no pixel is cooler than the coolest: it is black, the hottest is white
    curve = (below - below[first]) / (below[last] - below[first])
    curve = (1 - linear) * curve + linear * np.linspace(0, 1, bins)
    return np.rint(255 * np.clip(curve, 0, 1)).astype(np.uint8).take(index)


def _clahe(
    img: np.ndarray,
    low: float,
    high: float,
    clip_limit: float,
    tiles: tuple[int, int],
    bins: int,
) -> np.ndarray:
    """Equalize the histogram between low and high per tile, with limited contrast."""
    height, width = img.shape
    down = min(tiles[0], max(1, height // _MIN_TILE))
    across = min(tiles[1], max(1, width // _MIN_TILE))
    pixels = -(-height // down) * -(-width // across)
    # cv2 clips bins at an integer count of at least one: with more bins than this the
    # limit would have no effect
    bins = min(bins, max(2, int(clip_limit * pixels)))
    # cv2 redistributes the clipped counts over all 65536 bins, so the levels are spread
    # over all of them. Only every (65536 / bins)-th bin can be occupied, and each holds
    # that many times more pixels.
    spread = np.rint(_levels(img, low, high, bins) * (65535 / (bins - 1)))
    limit = min(clip_limit, bins) * 65536 / bins
    clahe = cv2.createCLAHE(clipLimit=limit, tileGridSize=(across, down))
    out = clahe.apply(spread.astype(np.uint16))
    return _stretch(out, float(out.min()), float(out.max()))
