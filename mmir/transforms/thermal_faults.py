"""Random faults of a thermal camera: fixed-pattern noise, dead pixels, blur."""

from collections.abc import Sequence

import cv2
import numpy as np
from mmengine.registry import TRANSFORMS

from .thermal_augment import Interval, ThermalAugment, value_range

_BLURS = ('gaussian', 'defocus')


@TRANSFORMS.register_module()
class FixedPatternNoise(ThermalAugment):
    """Fixed-pattern noise of an uncorrected sensor: per column, row and pixel.

    Each column, row and pixel gets a Gaussian offset, the same in all channels. The
    three standard deviations are drawn uniformly, as shares of the value range.

    Keys and errors as in :class:`ThermalAugment`.

    Args:
        column (float | Sequence[float]): Standard deviation of the column offsets, or
            (low, high).
        row (float | Sequence[float]): The same for rows.
        pixel (float | Sequence[float]): The same for pixels.
        prob (float): Probability of applying it.
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
        """Add the noise pattern.

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
        share (float | Sequence[float]): Share of defective pixels, or (low, high).
            There are `round(share * H * W)` of them, the same in all channels.
        hot (float): Share of hot pixels among them; the others are dead.
        prob (float): Probability of applying it.
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
        """Set the defective pixels.

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
        out = np.array(img, order='C')  # a contiguous copy that can be reshaped
        flat = out.reshape(pixels, -1)
        flat[places] = np.where(is_hot, hot, dead)[:, None]
        return out


@TRANSFORMS.register_module()
class RandomThermalBlur(ThermalAugment):
    """Blur of a defocused lens or a small, slow sensor.

    'gaussian' has standard deviation `sigma`. 'defocus' is a disk of radius
    `2 * sigma`, which has the same standard deviation along each axis, apart from the
    pixel size.

    Keys and errors as in :class:`ThermalAugment`; there is no value range.

    Args:
        sigma (float | Sequence[float]): Standard deviation in pixels, or (low, high),
            drawn uniformly.
        kinds (Sequence[str]): Kinds to draw from: 'gaussian', 'defocus'.
        prob (float): Probability of applying it.
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
                f'RandomThermalBlur: kinds must be some of {_BLURS}, got {kinds}'
            )
        self.kinds = kinds

    def augment(self, img: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Blur the image.

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
    """Make a defocus blur kernel.

    Args:
        radius (float): Radius of the disk in pixels.

    Returns:
        np.ndarray: Weights (K, K) with sum 1, float64, K odd: the share of each pixel
        that lies in the disk.
    """
    size, fine = 2 * int(np.ceil(radius)) + 1, 16
    at = (np.arange(size * fine) + 0.5) / fine - size / 2
    inside = np.hypot(at[:, None], at) <= radius
    weights = inside.reshape(size, fine, size, fine).sum((1, 3))
    return weights / weights.sum()
