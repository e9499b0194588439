"""How the energy of images is spread over spatial frequencies.

Frequencies are in cycles per pixel, measured from the center of the spectrum in any
direction; 0.5 is the finest stripe that pixels can show. Images are tapered by a Hann
window: without it, the step from one border of the picture to the opposite one fills
the high frequencies, and equally in all modalities.

The use: methods on RGB + infrared argue with frequencies, IV-tuning for example with
infrared images living of their low ones, which convolutions damage (arXiv 2412.16654,
fig. 3), so one wants to see where the energy of a data set is.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

BANDS = {'low': (0.0, 1 / 16), 'mid': (1 / 16, 1 / 4), 'high': (1 / 4, np.inf)}
"""Band -> lowest and first higher frequency: periods over 16 px, 16 to 4 px, finer."""

RINGS = 64
"""Rings of the radial spectrum, of equal width, up to the corner of the spectrum."""

_CORNER = np.sqrt(0.5)


def transformed(plane: np.ndarray) -> np.ndarray:
    """Fourier transform of an image, tapered and without its mean.

    Args:
        plane (np.ndarray): (H, W).

    Returns:
        np.ndarray: (H, W // 2 + 1) complex, divided by the number of pixels; the other
        half is its mirror image.
    """
    window = _window(*plane.shape)
    values = plane.astype(np.float64)
    values -= (values * window).sum() / window.sum()
    values *= window
    wave = np.fft.rfft2(values, norm='forward')
    wave[0, 0] = 0
    return wave


@lru_cache(maxsize=16)
def _window(height: int, width: int) -> np.ndarray:
    """Hann window, periodic, between the pixels' edges: positive on every pixel."""
    down, across = (np.sin(np.pi * (np.arange(n) + 0.5) / n) for n in (height, width))
    return np.outer(down**2, across**2)


@lru_cache(maxsize=16)
def _plan(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ring and band of each coefficient of `rfft2`, and how many it stands for."""
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    radius = np.hypot(down, across)
    ring = np.minimum(radius / _CORNER * RINGS, RINGS - 1).astype(np.int64)
    firsts = [low for low, _ in BANDS.values()][1:]
    band = np.digitize(radius, firsts)
    weight = np.full(radius.shape, 2.0)
    weight[:, 0] = 1
    if width % 2 == 0:
        weight[:, -1] = 1
    weight[0, 0] = 0  # the mean is no structure
    return ring.ravel(), band.ravel(), weight.ravel()


@dataclass
class PowerSpectrum:
    """Mean spectrum of one or more images, each of weight 1.

    Attributes:
        images: Images with structure.
        constant: Images without: they have no shares.
        bands: (3,) sums of the share of the energy in each of :data:`BANDS`.
        power: (RINGS,) sums of the mean power in each ring, in units of the variance
            of the image: 1 everywhere for white noise.
        seen: (RINGS,) images that have coefficients in the ring.
    """

    images: int
    constant: int
    bands: np.ndarray
    power: np.ndarray
    seen: np.ndarray

    @classmethod
    def of(cls, wave: np.ndarray, width: int) -> 'PowerSpectrum':
        """Measure one image.

        Args:
            wave (np.ndarray): Of :func:`transformed`.
            width (int): Width of the image in px.

        Returns:
            PowerSpectrum: Its spectrum.
        """
        ring, band, weight = _plan(len(wave), width)
        energy = weight * np.square(np.abs(wave)).ravel()
        variance = energy.sum()  # of the tapered image, by Parseval
        empty = np.zeros(RINGS), np.zeros(RINGS, int)
        if variance < 1e-12:
            return cls(0, 1, np.zeros(len(BANDS)), *empty)
        bands = np.bincount(band, energy, len(BANDS)) / variance
        counts = np.bincount(ring, weight, RINGS)
        mean = np.bincount(ring, energy, RINGS) / np.maximum(counts, 1)
        pixels = len(wave) * width
        return cls(1, 0, bands, mean * pixels / variance, (counts > 0).astype(int))

    def __add__(self, other: 'PowerSpectrum') -> 'PowerSpectrum':
        """Spectrum of the images of both."""
        return PowerSpectrum(
            self.images + other.images,
            self.constant + other.constant,
            self.bands + other.bands,
            self.power + other.power,
            self.seen + other.seen,
        )

    def shares(self) -> dict[str, float]:
        """Get the mean share of the energy in each band.

        Returns:
            dict[str, float]: Band -> share; they sum to 1. Empty without structure.
        """
        if not self.images:
            return {}
        return {
            k: float(v) for k, v in zip(BANDS, self.bands / self.images, strict=True)
        }

    def radial(self) -> tuple[list[float], list[float]]:
        """Get the radially averaged power spectrum.

        Returns:
            tuple[list[float], list[float]]: Centers of the rings in cycles per pixel,
            and the mean power, 1 for white noise; rings without coefficients left out.
        """
        centers = (np.arange(RINGS) + 0.5) * _CORNER / RINGS
        there = self.seen > 0
        mean = self.power[there] / self.seen[there]
        return centers[there].tolist(), mean.tolist()


def band_correlation(one: np.ndarray, other: np.ndarray, width: int) -> np.ndarray:
    """Correlate two images in each band, as if both were filtered to it.

    Args:
        one (np.ndarray): Of :func:`transformed`.
        other (np.ndarray): That of an image of the same size.
        width (int): Width of the images in px.

    Returns:
        np.ndarray: (3,) correlation in -1..1; NaN where one has nothing in the band.
    """
    _, band, weight = _plan(len(one), width)

    def _total(values: np.ndarray) -> np.ndarray:
        return np.bincount(band, weight * values.ravel(), len(BANDS))

    power = _total(np.square(np.abs(one))) * _total(np.square(np.abs(other)))
    cross = _total((one * other.conj()).real)
    full = power > 1e-24
    return np.where(full, cross / np.sqrt(np.where(full, power, 1)), np.nan)
