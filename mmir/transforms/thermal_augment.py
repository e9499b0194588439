"""Random photometric augmentation of thermal images: polarity, drift, gamma."""

from collections.abc import Callable, Sequence

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from .thermal import percentiles, require_finite, single_plane

_DTYPES = (np.uint8, np.uint16, np.float32)
_OWN_RANGE = (0.1, 99.9)  # percentiles, robust to a few defective pixels

Interval = float | Sequence[float]
Curve = Callable[[np.ndarray], np.ndarray]


def value_range(
    img: np.ndarray, declared: tuple[float, float] | None = None
) -> tuple[float, float]:
    """Get the value range of an image, which scales all augmentations here.

    Args:
        img (np.ndarray): Image of uint8, uint16 or float32.
        declared (tuple[float, float], optional): The range, if known.

    Returns:
        tuple[float, float]: The declared range; else 0 and 255 for uint8, the 0.1 and
        99.9 percentiles of this image for other dtypes.
    """
    if declared is not None:
        return declared
    if img.dtype == np.uint8:
        return 0.0, 255.0
    return percentiles(single_plane(img), _OWN_RANGE)


class ThermalAugment(BaseTransform):
    """Base class of the photometric augmentations of thermal images.

    A subclass implements :meth:`augment`. The dtype is kept. Integers are rounded and
    clipped to `value_range` if declared, else to the range of the dtype; floats are not
    clipped. All random numbers derive from two draws of numpy's global generator,
    whatever the image, so `PairedTransform` can replay them. For pairs, use
    `OnModality('ir', ...)`.

    Required keys: img, (H, W) or (H, W, C) of uint8, uint16 or float32.
    Changed keys: img.

    Args:
        prob (float): Probability of applying it. Default: 0.5.
        value_range (tuple[float, float], optional): Lowest and highest value the camera
            outputs, in the units of the image, see :func:`value_range`. Declaring it
            also saves computing percentiles per image.

    Raises:
        ValueError: An option is out of range, or the image has NaN or infinite values.
        TypeError: The image has another dtype.
    """

    def __init__(
        self, prob: float = 0.5, value_range: tuple[float, float] | None = None
    ) -> None:
        if not 0 <= prob <= 1:
            raise ValueError(f'{type(self).__name__}: prob={prob} is not in 0..1')
        self.prob = float(prob)
        self.value_range = None
        if value_range is not None:
            self.value_range = self._interval('value_range', value_range)
            if self.value_range[0] == self.value_range[1]:
                raise ValueError(f'{type(self).__name__}: value_range is empty')

    def transform(self, results: dict) -> dict:
        """Augment `img` with probability `prob`.

        Args:
            results (dict): Data info with the image.

        Returns:
            dict: The same dictionary, with a new image if it changed.
        """
        chosen = np.random.rand() < self.prob  # noqa: NPY002
        seed = np.random.randint(2**31)  # noqa: NPY002
        img, name = results['img'], results.get('img_path', 'image')
        if img.dtype not in _DTYPES:
            raise TypeError(
                f'{type(self).__name__}: {name} is {img.dtype}, not uint8, uint16 or '
                'float32'
            )
        require_finite(img, type(self).__name__, name)
        if chosen:
            results['img'] = self.augment(img, np.random.default_rng(seed))
        return results

    def augment(self, img: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Augment an image.

        Args:
            img (np.ndarray): Image (H, W) or (H, W, C), not modified in place.
            rng (np.random.Generator): The generator to draw from.

        Returns:
            np.ndarray: Image of the same shape and dtype.
        """
        raise NotImplementedError

    def _fit(self, values: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """Convert values back to the dtype of the image."""
        if dtype.kind == 'f':
            return values.astype(dtype, copy=False)
        info = np.iinfo(dtype)
        low, high = self.value_range or (info.min, info.max)
        low, high = max(np.ceil(low), info.min), min(np.floor(high), info.max)
        return np.clip(np.rint(values), low, high).astype(dtype)

    def _interval(
        self, name: str, value: Interval, low: float = -np.inf, high: float = np.inf
    ) -> tuple[float, float]:
        """Parse an option that is a number or an interval to draw from."""
        pair = tuple(value) if isinstance(value, Sequence) else (value, value)
        if len(pair) != 2 or not low <= pair[0] <= pair[1] <= high:
            raise ValueError(
                f'{type(self).__name__}: {name} must be a number or (low, high) '
                f'within {low:g}..{high:g}, got {value!r}'
            )
        return float(pair[0]), float(pair[1])

    def __repr__(self) -> str:
        """Show the options."""
        options = ', '.join(f'{key}={value}' for key, value in vars(self).items())
        return f'{type(self).__name__}({options})'


class _PointwiseAugment(ThermalAugment):
    """Base class of augmentations that map each value independently."""

    def augment(self, img: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Map the values; see :class:`ThermalAugment`."""
        low, high = value_range(img, self.value_range)
        curve = self.curve(low, high, rng)
        if high <= low:
            return img  # constant
        if img.dtype.kind == 'f':
            return self._fit(curve(img), img.dtype)
        # a lookup table of all levels is faster than mapping every pixel
        levels = np.arange(np.iinfo(img.dtype).max + 1, dtype=np.float64)
        return self._fit(curve(levels), img.dtype).take(img)

    def curve(self, low: float, high: float, rng: np.random.Generator) -> Curve:
        """Draw the mapping of values; low and high are the value range."""
        raise NotImplementedError


@TRANSFORMS.register_module()
class RandomPolarityInversion(_PointwiseAugment):
    """Swap white-hot and black-hot: `low + high - img`, from the value range.

    For models that should handle either polarity. Applying it twice is the identity,
    except for clipped integers.

    Keys, arguments and errors as in :class:`ThermalAugment`.
    """

    def curve(self, low: float, high: float, rng: np.random.Generator) -> Curve:
        """Mirror the values about the middle of the range.

        Args:
            low (float): Lower end of the value range.
            high (float): Upper end.
            rng (np.random.Generator): Not drawn from.

        Returns:
            Curve: The mapping of values.
        """
        mirror = low + high
        return lambda values: mirror - values


@TRANSFORMS.register_module()
class RandomThermalDrift(_PointwiseAugment):
    """Gain and offset drift: `middle + gain * (img - middle) + offset * span`.

    Middle and span are those of the value range; gain and offset are drawn uniformly.
    This models the drift of a camera between calibrations and jumps of its automatic
    gain.

    Keys and errors as in :class:`ThermalAugment`.

    Args:
        gain (float | Sequence[float]): Gain, or (low, high).
        offset (float | Sequence[float]): Offset as a share of the span, or (low, high).
        prob (float): Probability of applying it.
        value_range (tuple[float, float], optional): See :class:`ThermalAugment`.
    """

    def __init__(
        self,
        gain: Interval = (0.9, 1.1),
        offset: Interval = (-0.05, 0.05),
        prob: float = 0.5,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(prob, value_range)
        self.gain = self._interval('gain', gain, low=0)
        self.offset = self._interval('offset', offset)

    def curve(self, low: float, high: float, rng: np.random.Generator) -> Curve:
        """Draw gain and offset.

        Args:
            low (float): Lower end of the value range.
            high (float): Upper end.
            rng (np.random.Generator): The generator to draw from.

        Returns:
            Curve: The mapping of values.
        """
        middle, span = (low + high) / 2, high - low
        gain, offset = rng.uniform(*self.gain), rng.uniform(*self.offset)
        return lambda values: (values - middle) * gain + (middle + offset * span)


@TRANSFORMS.register_module()
class RandomThermalGamma(_PointwiseAugment):
    """Random gamma: `low + span * ((img - low) / span) ** gamma`.

    Low and span are those of the value range; values outside it are left as they are.
    Gamma is drawn log-uniformly, so that 1/2 is as likely as 2.

    Keys and errors as in :class:`ThermalAugment`.

    Args:
        gamma (float | Sequence[float]): Exponent, or (low, high), positive.
        prob (float): Probability of applying it.
        value_range (tuple[float, float], optional): See :class:`ThermalAugment`.
    """

    def __init__(
        self,
        gamma: Interval = (0.7, 1.4),
        prob: float = 0.5,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(prob, value_range)
        self.gamma = self._interval('gamma', gamma, low=np.finfo(float).tiny)

    def curve(self, low: float, high: float, rng: np.random.Generator) -> Curve:
        """Draw gamma.

        Args:
            low (float): Lower end of the value range.
            high (float): Upper end.
            rng (np.random.Generator): The generator to draw from.

        Returns:
            Curve: The mapping of values.
        """
        gamma = float(np.exp(rng.uniform(*np.log(self.gamma))))

        def _power(values: np.ndarray) -> np.ndarray:
            share = np.clip((values - low) / (high - low), 0, 1)
            inside = (values >= low) & (values <= high)
            return np.where(inside, low + (high - low) * share**gamma, values)

        return _power
