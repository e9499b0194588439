"""From radiometric counts to the 8 bits detectors are trained on."""

from typing import Literal

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

_DEFAULTS = {'range': (None, None), 'percentile': (1.0, 99.0)}


@TRANSFORMS.register_module()
class ThermalToUint8(BaseTransform):
    """Map thermal values linearly to 0..255, clipped at both ends.

    `out = round(255 * clip((img - low) / (high - low), 0, 1))`, with

    - ``'range'``: `low` and `high` in the units of the image (counts, centikelvin). The
      same temperature has the same grey in every image.
    - ``'percentile'``: `low` and `high` are percentiles of each image (automatic gain,
      as in a camera's 8-bit output). A constant image becomes 0.

    Required keys: img, (H, W) or (H, W, C) of uint16 or float.
    Changed keys: img, the same shape, uint8.

    Args:
        mode (str): 'range' or 'percentile'.
        low (float, optional): Lower end, needed for 'range'. Percentile 1 by default.
        high (float, optional): Upper end, needed for 'range'. Percentile 99 by default.

    Raises:
        ValueError: Unknown mode, missing or reversed ends, or an image with NaN or
            infinite values.
        TypeError: The image has 8 bits already.
    """

    def __init__(
        self,
        mode: Literal['range', 'percentile'] = 'percentile',
        low: float | None = None,
        high: float | None = None,
    ) -> None:
        if mode not in _DEFAULTS:
            raise ValueError(
                f'ThermalToUint8: mode must be one of {tuple(_DEFAULTS)}, got {mode!r}'
            )
        defaults = _DEFAULTS[mode]
        low = defaults[0] if low is None else low
        high = defaults[1] if high is None else high
        if low is None or high is None:
            raise ValueError(
                "ThermalToUint8: mode='range' needs low and high, the counts that "
                'become black and white'
            )
        if not low < high:
            raise ValueError(f'ThermalToUint8: low={low} must be below high={high}')
        if mode == 'percentile' and not (low >= 0 and high <= 100):
            raise ValueError(f'ThermalToUint8: percentiles {low}, {high} not in 0..100')
        self.mode, self.low, self.high = mode, float(low), float(high)

    def transform(self, results: dict) -> dict:
        """Convert `img`.

        Args:
            results (dict): Data information with the image.

        Returns:
            dict: The same dictionary, `img` as uint8.
        """
        img = results['img']
        name = results.get('img_path', 'image')
        if img.dtype == np.uint8:
            raise TypeError(
                f'ThermalToUint8: {name} has 8 bits already; leave the transform out'
            )
        if img.dtype.kind == 'f' and not np.isfinite(img).all():
            raise ValueError(f'ThermalToUint8: {name} holds NaN or infinite values')
        low, high = self.low, self.high
        if self.mode == 'percentile':
            low, high = np.percentile(img, (low, high))
        results['img'] = _stretch(img, low, high)
        return results

    def __repr__(self) -> str:
        """Show the options."""
        return f'{type(self).__name__}({self.mode!r}, low={self.low}, high={self.high})'


def _stretch(img: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scale low..high to 0..255 as uint8; all 0 where both ends are equal."""
    if high <= low:
        return np.zeros(img.shape, np.uint8)
    # float64 keeps counts and the quotient exact enough that the ends hit 0 and 255.
    scaled = (np.clip(img, low, high).astype(np.float64) - low) * (255.0 / (high - low))
    return np.rint(scaled).astype(np.uint8)
