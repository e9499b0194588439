"""Convert the counts of radiometric files to temperatures."""

from typing import Literal

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from mmir.data.byte_order import bytes_swapped

from .thermal import require_finite

_ZERO_CELSIUS = 273.15  # kelvin
_ABOVE_KELVIN = {'kelvin': 0.0, 'celsius': _ZERO_CELSIUS}
_MEASURABLE = (150.0, 2500.0)  # kelvin; colder than any sky, hotter than any furnace
_JUDGED = 16384  # pixels that are enough for the percentiles of an image


@TRANSFORMS.register_module()
class RadiometricScale(BaseTransform):
    """Convert temperature-linear counts to degrees: gain * counts + offset.

    For files written on such a scale: FLIR's TLinear output has a gain of 0.04 or 0.01
    kelvin per count, centikelvin files have 0.01. Raw sensor counts are linear in
    radiance, not in temperature.

    An image that cannot be temperatures is refused: its median is outside `plausible`,
    its 1st or 99th percentile is below 150 K or above 2500 K, or its values have their
    bytes in the wrong order, seen by roughness (see
    :func:`mmir.data.byte_order.bytes_swapped`) or by steps of 256 counts. Pixels with a
    count of 0 are not judged: registered images have it where they hold nothing.

    The guard sees the scale, not its meaning. Raw counts whose values happen to be
    temperatures pass: of 26 real raw files, 23 are refused with a gain of 0.01, 21 with
    0.04. Of 51 real files in centikelvin, none is refused with their gain of 0.01, all
    with 0.04, and all with swapped bytes. A wrong `offset` of some kelvin is not seen.

    Required keys: img, (H, W) or (H, W, C) of any integer or float; the keys named by
    `gain` and `offset`.
    Changed keys: img, the same shape, float32.

    Args:
        gain (float | str): Degrees per count, or the key of the sample that holds it.
        offset (float | str): Degrees at count 0, or a key of the sample. Default: 0.
        file_unit (str): Unit of `gain` and `offset`, 'kelvin' or 'celsius'.
        unit (str): Unit of the result, 'kelvin' or 'celsius'.
        plausible (tuple[float, float]): Lowest and highest median of an image, in
            kelvin. Default: (180, 400); a clear sky measures about 200. Raise it for
            furnaces and fires that fill the image.

    Raises:
        KeyError: The sample lacks a key named by `gain` or `offset`.
        ValueError: An option has an unknown value, the gain is 0, or an image has NaN,
            infinite or implausible values. The message names the file.
    """

    def __init__(
        self,
        gain: float | str,
        offset: float | str = 0.0,
        file_unit: Literal['kelvin', 'celsius'] = 'kelvin',
        unit: Literal['kelvin', 'celsius'] = 'kelvin',
        plausible: tuple[float, float] = (180.0, 400.0),
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
        self._judge(img, gain, offset, name)
        # counts times gain need float64 until the large offset is subtracted
        degrees = img * np.float64(gain)
        degrees += offset - _ABOVE_KELVIN[self.unit]
        results['img'] = degrees.astype(np.float32)
        return results

    def _judge(self, img: np.ndarray, gain: float, offset: float, name: str) -> None:
        """Refuse an image that cannot be temperatures."""
        counts = img.ravel()[:: max(1, img.size // _JUDGED)]
        counts = counts[counts != 0] if counts.any() else counts
        ends = np.percentile(counts, (1, 50, 99)) * gain + offset
        low, median, high = np.sort(ends)  # a gain may be negative
        said = f'with gain={gain:g} and offset={offset:g} K'
        if not self.plausible[0] <= median <= self.plausible[1]:
            fault = (
                f'the median of {name} is {median:.1f} K, not in '
                f'plausible={self.plausible}'
            )
        elif low < min(_MEASURABLE[0], self.plausible[0]) or high > max(
            _MEASURABLE[1], self.plausible[1]
        ):
            fault = (
                f'98 % of the pixels of {name} are {low:.1f} to {high:.1f} K, which no '
                'camera measures'
            )
        elif bytes_swapped(img):
            fault = f'{name} is {low:.1f} to {high:.1f} K and rough as noise'
        elif (step := _step(counts)) >= 256:
            fault = f'{name} has steps of {step} counts ({step * abs(gain):.2f} K)'
        else:
            return
        raise ValueError(f'RadiometricScale: {said} {fault}: {_advice(img)}')

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


def _step(counts: np.ndarray) -> int:
    """Largest step that all differences are a multiple of; 0 if they are not whole."""
    whole = counts.astype(np.int64)
    if not np.array_equal(whole, counts):
        return 0
    return int(np.gcd.reduce(whole - whole[0]))


def _advice(img: np.ndarray) -> str:
    """Tell what the file may hold instead of temperatures."""
    if bytes_swapped(img):
        return (
            'the two bytes of its values are in the wrong order, which reading it in '
            'the other order (numpy.ndarray.byteswap) and writing it anew mends'
        )
    return (
        'the file has another scale or byte order, or holds raw counts. Set gain and '
        'offset for it, or plausible=(lowest, highest) if the scene really is like that'
    )
