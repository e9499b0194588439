"""Power spectra of images: how their energy is distributed over spatial frequency.

Frequencies are in cycles per pixel, measured radially from the center of the spectrum;
0.5 is the finest stripe that pixels can show. Images are tapered by a Hann window:
without it, the step between opposite image borders fills the high frequencies, equally
in all modalities.

Methods for RGB + infrared often argue with frequencies. IV-tuning, for example, holds
that infrared images rely on their low frequencies, which convolutions damage
(arXiv 2412.16654, fig. 3). So it helps to see where the energy of a dataset is.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

BANDS = {'low': (0.0, 1 / 16), 'mid': (1 / 16, 1 / 4), 'high': (1 / 4, np.inf)}
"""Band -> frequency interval: periods over 16 px, 16 to 4 px, under 4 px."""

RINGS = 64
"""Number of rings of the radial spectrum: equal width, up to the corner."""

_CORNER = np.sqrt(0.5)


def transformed(plane: np.ndarray) -> np.ndarray:
    """Compute the Fourier transform of an image, tapered and with its mean removed.

    Args:
        plane (np.ndarray): (H, W).

    Returns:
        np.ndarray: (H, W // 2 + 1) complex, divided by the number of pixels; the other
        half is its mirror image.
    """
    window = hann_window(*plane.shape)
    values = plane.astype(np.float64)
    values -= (values * window).sum() / window.sum()
    values *= window
    wave = np.fft.rfft2(values, norm='forward')
    wave[0, 0] = 0
    return wave


@lru_cache(maxsize=16)
def hann_window(height: int, width: int) -> np.ndarray:
    """Periodic Hann window sampled at pixel centers: positive on every pixel.

    Args:
        height (int): Rows of the image.
        width (int): Columns of the image.

    Returns:
        np.ndarray: (height, width) float64. Shared between calls, do not change it.
    """
    down, across = (np.sin(np.pi * (np.arange(n) + 0.5) / n) for n in (height, width))
    return np.outer(down**2, across**2)


@lru_cache(maxsize=16)
def _plan(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ring, band and multiplicity of each coefficient of `rfft2`."""
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    radius = np.hypot(down, across)
    ring = np.minimum(radius / _CORNER * RINGS, RINGS - 1).astype(np.int64)
    firsts = [low for low, _ in BANDS.values()][1:]
    band = np.digitize(radius, firsts)
    weight = np.full(radius.shape, 2.0)
    weight[:, 0] = 1
    if width % 2 == 0:
        weight[:, -1] = 1
    weight[0, 0] = 0  # the mean is not structure
    return ring.ravel(), band.ravel(), weight.ravel()


@dataclass
class PowerSpectrum:
    """Power spectrum summed over one or more images of equal weight.

    Attributes:
        images: Number of images with structure.
        constant: Number of constant images; they do not contribute.
        bands: (3,) sum over images of the energy share in each of :data:`BANDS`.
        power: (RINGS,) sum over images of the mean power in each ring, relative to the
            variance of the image: 1 everywhere for white noise.
        seen: (RINGS,) number of images with coefficients in the ring.
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
            wave (np.ndarray): Result of :func:`transformed`.
            width (int): Width of the image in pixels.

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
        """Spectrum of all images of both."""
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
            dict[str, float]: Band -> share, summing to 1; empty without structure.
        """
        if not self.images:
            return {}
        return {
            k: float(v) for k, v in zip(BANDS, self.bands / self.images, strict=True)
        }

    def radial(self) -> tuple[list[float], list[float]]:
        """Get the radially averaged power spectrum.

        Returns:
            tuple[list[float], list[float]]: Ring centers in cycles per pixel, and the
            mean power (1 for white noise); rings without coefficients are left out.
        """
        centers = (np.arange(RINGS) + 0.5) * _CORNER / RINGS
        there = self.seen > 0
        mean = self.power[there] / self.seen[there]
        return centers[there].tolist(), mean.tolist()


def band_correlation(one: np.ndarray, other: np.ndarray, width: int) -> np.ndarray:
    """Correlate two images per frequency band, as if band-pass filtered.

    Args:
        one (np.ndarray): Result of :func:`transformed`.
        other (np.ndarray): The same for another image of the same size.
        width (int): Width of the images in pixels.

    Returns:
        np.ndarray: (3,) correlation in -1..1; NaN if either has no energy in the band.
    """
    _, band, weight = _plan(len(one), width)

    def _total(values: np.ndarray) -> np.ndarray:
        return np.bincount(band, weight * values.ravel(), len(BANDS))

    power = _total(np.square(np.abs(one))) * _total(np.square(np.abs(other)))
    cross = _total((one * other.conj()).real)
    full = power > 1e-24
    return np.where(full, cross / np.sqrt(np.where(full, power, 1)), np.nan)
