"""Random faults of a thermal camera: stripes, dead pixels, blur."""

from collections.abc import Sequence

import cv2
import numpy as np
from mmengine.registry import TRANSFORMS

from .thermal_augment import Interval, ThermalAugment, value_range

_BLURS = ('gaussian', 'defocus')


@TRANSFORMS.register_module()
class FixedPatternNoise(ThermalAugment):
    """Stripes of columns and rows and an offset a pixel, as of an uncorrected sensor.

    Each column, row and pixel gets a Gaussian offset, the same in all channels. The
    three standard deviations are drawn evenly, as shares of the value range.

    Keys and errors as in :class:`ThermalAugment`.

    Args:
        column (float | Sequence[float]): Deviation of columns, or lowest and highest.
        row (float | Sequence[float]): Deviation of rows, alike.
        pixel (float | Sequence[float]): Deviation of pixels, alike.
        prob (float): Probability of a change.
        value_range (tuple[float, float], optional): See :class:`ThermalAugment`.
    """

    def __init__(
        self,
        column: Interval = (0.0, 0.02),
        row: Interval = (0.0, 0.01),
        pixel: Interval = (0.0, 0.01),
        prob: float = 0.5,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(prob, value_range)
        self.column = self._interval('column', column, low=0)
        self.row = self._interval('row', row, low=0)
        self.pixel = self._interval('pixel', pixel, low=0)

    def augment(self, img: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Add the pattern.

        Args:
            img (np.ndarray): Image (H, W) or (H, W, C).
            rng (np.random.Generator): The generator to draw from.

        Returns:
            np.ndarray: Image of the same shape and dtype.
        """
        low, high = value_range(img, self.value_range)
        height, width = img.shape[:2]
        pattern = np.zeros((height, width), np.float32)
        for shape, deviation in (
            ((1, width), self.column),
            ((height, 1), self.row),
            ((height, width), self.pixel),
        ):
            noise = rng.standard_normal(shape, np.float32)
            pattern += noise * ((high - low) * rng.uniform(*deviation))
        if img.ndim == 3:
            pattern = pattern[..., None]
        return self._fit(img + pattern, img.dtype)


@TRANSFORMS.register_module()
class DeadPixels(ThermalAugment):
    """Set single pixels to the lower (dead) or upper (hot) end of the value range.

    Keys and errors as in :class:`ThermalAugment`.

    Args:
        share (float | Sequence[float]): Share of defective pixels, or lowest and
            highest. They number `round(share * H * W)`, the same in all channels.
        hot (float): Share of hot ones among them, the others are dead.
        prob (float): Probability of a change.
        value_range (tuple[float, float], optional): See :class:`ThermalAugment`.
    """

    def __init__(
        self,
        share: Interval = (0.0, 0.001),
        hot: float = 0.5,
        prob: float = 0.5,
        value_range: tuple[float, float] | None = None,
    ) -> None:
        super().__init__(prob, value_range)
        self.share = self._interval('share', share, low=0, high=1)
        if not 0 <= hot <= 1:
            raise ValueError(f'DeadPixels: hot={hot} is not in 0..1')
        self.hot = float(hot)

    def augment(self, img: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Set the pixels.

        Args:
            img (np.ndarray): Image (H, W) or (H, W, C).
            rng (np.random.Generator): The generator to draw from.

        Returns:
            np.ndarray: Image of the same shape and dtype.
        """
        ends = np.array(value_range(img, self.value_range))
        dead, hot = self._fit(ends, img.dtype)
        pixels = img.shape[0] * img.shape[1]
        number = round(rng.uniform(*self.share) * pixels)
        places = rng.choice(pixels, number, replace=False)
        is_hot = np.arange(number) < round(self.hot * number)
        out = np.array(img, order='C')  # a copy whose rows can be joined
        flat = out.reshape(pixels, -1)
        flat[places] = np.where(is_hot, hot, dead)[:, None]
        return out


@TRANSFORMS.register_module()
class RandomThermalBlur(ThermalAugment):
    """Blur as of a lens out of focus or a small, slow sensor.

    'gaussian' has the standard deviation `sigma`; 'defocus' is a disc of radius
    `2 * sigma`, which has, but for the pixels' own size, the same along each axis.

    Keys and errors as in :class:`ThermalAugment`; there is no value range.

    Args:
        sigma (float | Sequence[float]): Standard deviation in pixels, or lowest and
            highest, drawn evenly.
        kinds (Sequence[str]): Which of 'gaussian' and 'defocus' to draw from.
        prob (float): Probability of a change.
    """

    def __init__(
        self,
        sigma: Interval = (0.5, 1.5),
        kinds: Sequence[str] = _BLURS,
        prob: float = 0.5,
    ) -> None:
        super().__init__(prob)
        self.sigma = self._interval('sigma', sigma, low=np.finfo(float).tiny)
        kinds = (kinds,) if isinstance(kinds, str) else tuple(kinds)
        if not kinds or not set(kinds) <= set(_BLURS):
            raise ValueError(
                f'RandomThermalBlur: kinds must be of {_BLURS}, got {kinds}'
            )
        self.kinds = kinds

    def augment(self, img: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Blur.

        Args:
            img (np.ndarray): Image (H, W) or (H, W, C).
            rng (np.random.Generator): The generator to draw from.

        Returns:
            np.ndarray: Image of the same shape and dtype.
        """
        sigma = rng.uniform(*self.sigma)
        if self.kinds[rng.integers(len(self.kinds))] == 'gaussian':
            out = cv2.GaussianBlur(img, (0, 0), sigma)
        else:
            out = cv2.filter2D(img, -1, disc(2 * sigma))
        return out.reshape(img.shape)  # cv2 drops a single channel


def disc(radius: float) -> np.ndarray:
    """Make the blur kernel of a lens out of focus.

    Args:
        radius (float): Radius of the disc in pixels.

    Returns:
        np.ndarray: Weights (K, K) with sum 1, float64, K odd: the part of each pixel
        that is in the disc.
    """
    size, fine = 2 * int(np.ceil(radius)) + 1, 16
    at = (np.arange(size * fine) + 0.5) / fine - size / 2
    inside = np.hypot(at[:, None], at) <= radius
    weights = inside.reshape(size, fine, size, fine).sum((1, 3))
    return weights / weights.sum()
