"""Image corruptions of cameras, in five strengths."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

Span = tuple[float, float]
"""Pixel values of black and white."""

_WIDTH = 640
"""Image width that lengths in pixels refer to; they scale with the width."""


@dataclass(frozen=True)
class Corruption:
    """A corruption and its five levels.

    Attributes:
        change: Called with the image, float32 (C, H, W) in pixel values, a random
            generator, the span, and the settings of a level; returns the same shape.
        levels: Settings of each strength, starting with 1.
    """

    change: Callable[..., np.ndarray]
    levels: tuple[dict[str, float], ...]


def corrupt(
    img: Tensor,
    kind: str,
    strength: int,
    rng: np.random.Generator,
    span: Span | None = None,
) -> Tensor:
    """Corrupt an image.

    Args:
        img (Tensor): Shape (C, H, W), uint8 or floating point, on the CPU. Not
            modified.
        kind (str): A key of :data:`CORRUPTIONS`.
        strength (int): 1 to 5.
        rng (np.random.Generator): Random generator. From the same state, the strengths
            differ only in their settings.
        span (tuple[float, float], optional): Pixel values of black and white, which
            amplitudes are relative to. Default: 0 and 255 for uint8, else the 1st and
            99th percentiles of the image, the default range of `ThermalToUint8`.

    Returns:
        Tensor: Same shape and dtype; uint8 is rounded and clipped, others are not.

    Raises:
        ValueError: The kind or strength is unknown, the image does not have 3
            dimensions, or black is above white.
        TypeError: The image has another dtype.
    """
    if kind not in CORRUPTIONS:
        raise ValueError(f'unknown corruption {kind!r}, known: {[*CORRUPTIONS]}')
    row = CORRUPTIONS[kind]
    if strength not in range(1, len(row.levels) + 1):
        raise ValueError(f'strength must be 1 to {len(row.levels)}, got {strength!r}')
    if img.ndim != 3:
        raise ValueError(f'corrupt takes (C, H, W), got shape {tuple(img.shape)}')
    eight_bit = img.dtype == torch.uint8
    if not eight_bit and not img.dtype.is_floating_point:
        raise TypeError(f'corrupt takes uint8 or floating point, got {img.dtype}')
    values = img.float().numpy()
    if span is None:
        span = (0.0, 255.0) if eight_bit else tuple(np.percentile(values, (1, 99)))
    if span[0] > span[1]:
        raise ValueError(f'black is above white in span={span}')
    level = row.levels[strength - 1]
    out = row.change(values, rng, (float(span[0]), float(span[1])), **level)
    out = np.rint(out).clip(0, 255) if eight_bit else out
    return torch.from_numpy(np.ascontiguousarray(out)).to(img.dtype)


def _misalignment(
    img: np.ndarray, rng: np.random.Generator, span: Span, pixels: float
) -> np.ndarray:
    """Shift by whole pixels (at least one), so without blur; edges are repeated."""
    height, width = img.shape[1:]
    angle = rng.uniform(0, 2 * np.pi)
    distance = max(1.0, pixels * width / _WIDTH)
    rows = np.arange(height) - round(distance * np.sin(angle))
    cols = np.arange(width) - round(distance * np.cos(angle))
    return img[:, rows.clip(0, height - 1)[:, None], cols.clip(0, width - 1)]


def _noise(
    img: np.ndarray, rng: np.random.Generator, span: Span, sigma: float
) -> np.ndarray:
    """Add Gaussian noise."""
    return img + np.float32(sigma * (span[1] - span[0])) * _grain(img, rng)


def _blur(
    img: np.ndarray, rng: np.random.Generator, span: Span, sigma: float
) -> np.ndarray:
    """Defocus: Gaussian blur, `sigma` in pixels."""
    sigma *= img.shape[2] / _WIDTH
    return np.stack([cv2.GaussianBlur(plane, (0, 0), sigma) for plane in img])


def _low_light(
    img: np.ndarray,
    rng: np.random.Generator,
    span: Span,
    gain: float,
    gamma: float,
    photons: float,
) -> np.ndarray:
    """Low light: lower gain, crushed shadows, shot noise.

    `y = gain * x ** gamma` for the image in 0..1, then noise of variance `y / photons`:
    the normal approximation of Poisson noise with `photons` photons at white.
    """
    low, high = span
    light = ((img - low) / max(high - low, 1e-6)).clip(0, 1)
    light = np.float32(gain) * light ** np.float32(gamma)
    light += np.sqrt(light / np.float32(photons)) * _grain(img, rng)
    return low + np.float32(high - low) * light.clip(0, None)


def _washed_out(
    img: np.ndarray, rng: np.random.Generator, span: Span, loss: float, drift: float
) -> np.ndarray:
    """Contrast loss towards the mean, which drifts towards middle gray.

    If it drifted the other way, clipping would erase the content of a dark image.
    """
    mean, middle = float(img.mean()), (span[0] + span[1]) / 2
    offset = np.copysign(drift * (span[1] - span[0]), middle - mean)
    return np.float32(1 - loss) * (img - mean) + np.float32(mean + offset)


def _grain(img: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Standard normal noise; one plane if a grayscale image has equal channels."""
    gray = len(img) > 1 and (img == img[:1]).all()
    shape = (1, *img.shape[1:]) if gray else img.shape
    return rng.standard_normal(shape, np.float32)


def _levels(**columns: Sequence[float]) -> tuple[dict[str, Any], ...]:
    """Convert one column per setting to one dictionary per strength."""
    rows = zip(*columns.values(), strict=True)
    return tuple(dict(zip(columns, row, strict=True)) for row in rows)


CORRUPTIONS = {
    # shift in pixels of a 640 px wide image, random direction
    'misalignment': Corruption(_misalignment, _levels(pixels=(2, 4, 8, 16, 32))),
    # standard deviation as a share of the range from black to white
    'noise': Corruption(_noise, _levels(sigma=(0.02, 0.04, 0.08, 0.14, 0.22))),
    # standard deviation in pixels of a 640 px wide image
    'blur': Corruption(_blur, _levels(sigma=(0.75, 1.5, 2.5, 4.0, 6.0))),
    # factor, exponent, photons per pixel at white
    'low_light': Corruption(
        _low_light,
        _levels(
            gain=(0.7, 0.5, 0.35, 0.22, 0.12),
            gamma=(1.2, 1.4, 1.6, 1.8, 2.0),
            photons=(2000, 1000, 500, 250, 125),
        ),
    ),
    # share of contrast lost, offset as a share of the range from black to white
    'washed_out': Corruption(
        _washed_out,
        _levels(
            loss=(0.25, 0.45, 0.6, 0.75, 0.88), drift=(0.03, 0.06, 0.09, 0.12, 0.15)
        ),
    ),
}
"""Corruptions by name. The settings were chosen by eye, not measured; more may be
added."""
