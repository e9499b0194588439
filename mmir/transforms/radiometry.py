"""Convert the counts of radiometric files to temperatures."""

from typing import Literal

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from .thermal import require_finite

_ZERO_CELSIUS = 273.15  # kelvin
_ABOVE_KELVIN = {'kelvin': 0.0, 'celsius': _ZERO_CELSIUS}


@TRANSFORMS.register_module()
class RadiometricScale(BaseTransform):
    """Convert temperature-linear counts to degrees: gain * counts + offset.

    For files written on such a scale: FLIR's TLinear output has a gain of 0.04 or 0.01
    kelvin per count, centikelvin files have 0.01. Raw sensor counts are linear in
    radiance, not in temperature. Images whose mean is not a plausible temperature, as
    with most raw files, are refused.

    Required keys: img, (H, W) or (H, W, C) of any integer or float; the keys named by
    `gain` and `offset`.
    Changed keys: img, the same shape, float32.

    Args:
        gain (float | str): Degrees per count, or the key of the sample that holds it.
        offset (float | str): Degrees at count 0, or a key of the sample. Default: 0.
        file_unit (str): Unit of `gain` and `offset`, 'kelvin' or 'celsius'.
        unit (str): Unit of the result, 'kelvin' or 'celsius'.
        plausible (tuple[float, float]): Lowest and highest mean of an image, in kelvin.
            Default: (150, 2500); a clear sky measures about 200.

    Raises:
        KeyError: The sample lacks a key named by `gain` or `offset`.
        ValueError: An option has an unknown value, the gain is 0, or an image has NaN,
            infinite or implausible values.
    """

    def __init__(
        self,
        gain: float | str,
        offset: float | str = 0.0,
        file_unit: Literal['kelvin', 'celsius'] = 'kelvin',
        unit: Literal['kelvin', 'celsius'] = 'kelvin',
        plausible: tuple[float, float] = (150.0, 2500.0),
    ) -> None:
        for key, value in (('file_unit', file_unit), ('unit', unit)):
            if value not in _ABOVE_KELVIN:
                raise ValueError(
                    f'RadiometricScale: {key} must be one of {tuple(_ABOVE_KELVIN)}, '
                    f'got {value!r}'
                )
        if gain == 0:
            raise ValueError('RadiometricScale: a gain of 0 makes all pixels equal')
        low, high = plausible
        if not low < high:
            raise ValueError(f'RadiometricScale: plausible={plausible} is reversed')
        self.gain, self.offset = gain, offset
        self.file_unit, self.unit = file_unit, unit
        self.plausible = (float(low), float(high))

    def transform(self, results: dict) -> dict:
        """Convert `img`.

        Args:
            results (dict): Data info with the image.

        Returns:
            dict: The same dictionary, with `img` as temperatures in float32.
        """
        img, name = results['img'], results.get('img_path', 'image')
        require_finite(img, 'RadiometricScale', name)
        gain = self._number('gain', results)
        offset = self._number('offset', results) + _ABOVE_KELVIN[self.file_unit]
        mean = gain * float(img.mean(dtype=np.float64)) + offset
        if not self.plausible[0] <= mean <= self.plausible[1]:
            raise ValueError(
                f'RadiometricScale: with gain={gain:g} and offset={offset:g} K the '
                f'mean of {name} is {mean:.1f} K, not in plausible={self.plausible}: '
                'the file has another scale or holds raw counts'
            )
        # counts times gain need float64 until the large offset is subtracted
        degrees = img * np.float64(gain)
        degrees += offset - _ABOVE_KELVIN[self.unit]
        results['img'] = degrees.astype(np.float32)
        return results

    def _number(self, option: str, results: dict) -> float:
        """Get the gain or offset of this image."""
        value = getattr(self, option)
        if isinstance(value, str):
            if value not in results:
                raise KeyError(
                    f'RadiometricScale: {results.get("img_path", "the sample")} has no '
                    f'key {value!r} for its {option}; it has {sorted(results)}'
                )
            value = results[value]
        return float(value)

    def __repr__(self) -> str:
        """Show the options."""
        return (
            f'{type(self).__name__}(gain={self.gain!r}, offset={self.offset!r}, '
            f'file_unit={self.file_unit!r}, unit={self.unit!r}, '
            f'plausible={self.plausible})'
        )
