"""Spectra of waves and noise against closed forms."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmir.data.spectrum import (
    BANDS,
    RINGS,
    PowerSpectrum,
    band_correlation,
    transformed,
)

RNG = np.random.default_rng(0)


def wave(height: int, width: int, down: int, across: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.cos(2 * np.pi * (down * y / height + across * x / width))


def spectrum(plane: np.ndarray) -> PowerSpectrum:
    return PowerSpectrum.of(transformed(plane), plane.shape[1])


def window(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width] + 0.5
    return (
        (1 - np.cos(2 * np.pi * y / height)) * (1 - np.cos(2 * np.pi * x / width)) / 4
    )


def tapered(plane: np.ndarray) -> np.ndarray:
    taper = window(*plane.shape)
    return (plane - np.average(plane, weights=taper)) * taper


@pytest.mark.parametrize(
    ('down', 'across', 'band'),
    [(2, 2, 'low'), (0, 12, 'mid'), (8, 0, 'mid'), (20, 30, 'high'), (32, 48, 'high')],
)
def test_a_cosine_is_in_one_band_and_at_its_frequency(down, across, band) -> None:
    found = spectrum(50 + 10 * wave(64, 96, down, across))
    assert found.shares()[band] == pytest.approx(1)
    frequency, power = found.radial()
    radius = np.hypot(down / 64, across / 96)
    # the window spreads a wave to the next coefficients, 1/64 and 1/96 away
    spread = np.hypot(1 / 64, 1 / 96) + np.sqrt(0.5) / RINGS
    far = [p for f, p in zip(frequency, power, strict=True) if abs(f - radius) > spread]
    assert max(far) < 1e-9 * max(power)


def test_the_border_of_the_picture_is_no_structure() -> None:
    """A ramp has a step where it would be continued; tapered, it is smooth."""
    ramp = np.add.outer(np.arange(128.0), 3 * np.arange(160.0))
    assert spectrum(ramp).shares()['low'] > 0.9999


@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_parseval(height: int, width: int, seed: int) -> None:
    """The energy of all bands is that of the pixels, for odd and even sizes."""
    plane = np.random.default_rng(seed).normal(100, 20, (height, width))
    found = spectrum(plane)
    assert sum(found.shares().values()) == pytest.approx(1)
    energy = np.square(tapered(plane)).mean()
    whole = np.abs(np.fft.fft2(tapered(plane))) ** 2 / plane.size**2
    assert whole.sum() == pytest.approx(energy)
    # the bands once more, from the full transform
    radius = np.hypot(
        np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]
    )  # fmt: skip
    for band, (low, high) in BANDS.items():
        share = whole[(radius >= low) & (radius < high)].sum() / energy
        assert found.shares()[band] == pytest.approx(share, abs=1e-9)


def test_white_noise_is_flat_at_one_whatever_its_gain() -> None:
    noise = RNG.normal(0, 1, (256, 320))
    found = spectrum(noise)
    _, power = found.radial()
    assert np.abs(np.array(power[4:-2]) - 1).max() < 0.3
    scaled = spectrum(1000 + 37 * noise)
    assert np.allclose(scaled.radial()[1], power)
    assert scaled.shares() == pytest.approx(found.shares())


def test_images_weigh_the_same_and_even_ones_are_counted_apart() -> None:
    low, high = spectrum(100 * wave(64, 64, 2, 0)), spectrum(wave(32, 48, 0, 20))
    flat = spectrum(np.full((8, 8), 7.0))
    both = low + high + flat
    assert both.shares() == pytest.approx({'low': 0.5, 'mid': 0, 'high': 0.5})
    assert (both.images, both.constant) == (2, 1)
    assert flat.shares() == {}
    assert flat.radial() == ([], [])


def test_correlation_follows_each_band() -> None:
    coarse, fine = wave(64, 64, 0, 2), wave(64, 64, 0, 25)
    one, other = transformed(coarse + fine), transformed(3 * coarse - 2 * fine)
    found = band_correlation(one, other, 64)
    assert found[0] == pytest.approx(1)
    assert np.isnan(found[1])  # no energy there
    assert found[2] == pytest.approx(-1)
    shifted = transformed(np.roll(coarse, 8, 1))  # a quarter of the period
    assert band_correlation(transformed(coarse), shifted, 64)[0] == pytest.approx(
        0, abs=1e-9
    )


def test_correlation_over_all_bands_is_that_of_the_pixels() -> None:
    a = RNG.normal(size=(33, 47))
    b = 0.6 * a + RNG.normal(size=(33, 47))
    one, other = transformed(a), transformed(b)
    parts = band_correlation(one, other, 47)
    shares = [spectrum(x).bands for x in (a, b)]
    total = (parts * np.sqrt(shares[0] * shares[1])).sum()
    a, b = tapered(a), tapered(b)
    expected = (a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum())
    assert total == pytest.approx(expected)
