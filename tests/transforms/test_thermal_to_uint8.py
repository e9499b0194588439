from fractions import Fraction

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mmengine.registry import TRANSFORMS

from mmir.transforms import ThermalToUint8, read_image

COUNTS = arrays(np.uint16, st.tuples(st.integers(1, 6), st.integers(1, 6)))


def apply(img, **kwargs):
    return ThermalToUint8(**kwargs)({'img': img})['img']


def test_range_equals_exact_arithmetic():
    low, high = 7000, 9500
    counts = np.arange(6500, 10000, dtype=np.uint16)
    out = apply(counts[None], mode='range', low=low, high=high)[0]
    assert out.dtype == np.uint8
    for count, grey in zip(counts.tolist(), out.tolist(), strict=True):
        part = Fraction(min(max(count, low), high) - low, high - low)
        # Ties (k + 1/2) may go either way by the last bit of the quotient.
        assert abs(part * 255 - grey) <= Fraction(1, 2) + Fraction(1, 10**9)
    assert out[counts == low] == 0
    assert out[counts == high] == 255


@settings(max_examples=50, deadline=None)
@given(COUNTS, st.integers(0, 60000), st.integers(1, 5000))
def test_range_is_monotone_and_the_same_for_float(img, low, width):
    out = apply(img, mode='range', low=low, high=low + width)
    order = np.argsort(img, axis=None)
    assert (np.diff(out.ravel()[order].astype(int)) >= 0).all()
    assert (out[img <= low] == 0).all()
    assert (out[img >= low + width] == 255).all()
    as_float = apply(img.astype(np.float32), mode='range', low=low, high=low + width)
    np.testing.assert_array_equal(out, as_float)


@settings(max_examples=50, deadline=None)
@given(COUNTS, st.sampled_from([2, 4, 8]), st.integers(0, 1000))
def test_percentiles_do_not_depend_on_gain_and_offset(img, gain, offset):
    """The camera's gain (a power of two: no rounding) and offset cancel."""
    img = img.astype(np.float64)
    one, two = apply(img), apply(gain * img + offset)
    assert np.abs(one.astype(int) - two).max() <= 1


def test_percentile_ends():
    img = np.random.default_rng(0).integers(2000, 3000, (50, 60)).astype(np.uint16)
    out = apply(img, mode='percentile', low=5, high=90)
    low, high = np.percentile(img, 5), np.percentile(img, 90)
    assert (out[img <= low] == 0).all()
    assert (out[img >= high] == 255).all()
    inside = (img > low) & (img < high)
    expected = np.round((img[inside] - low) / (high - low) * 255)
    assert np.abs(out[inside] - expected).max() <= 1


def test_constant_image_becomes_black_and_channels_stay():
    out = apply(np.full((4, 5, 3), 7, np.uint16))
    assert out.shape == (4, 5, 3)
    assert not out.any()


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'mode': 'minmax'}, "must be one of .*'range', 'percentile'.* got 'minmax'"),
        ({'mode': 'range'}, 'needs low and high'),
        ({'mode': 'range', 'low': 5, 'high': 5}, 'low=5 must be below high=5'),
        ({'mode': 'percentile', 'high': 101}, r'not in 0\.\.100'),
    ],
)
def test_wrong_options(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ThermalToUint8(**kwargs)


def test_wrong_images_are_named():
    transform = ThermalToUint8()
    with pytest.raises(TypeError, match=r'hot\.png has 8 bits already'):
        transform({'img': np.zeros((2, 2), np.uint8), 'img_path': 'hot.png'})
    with pytest.raises(ValueError, match=r'hot\.tiff holds NaN'):
        transform({'img': np.array([[np.nan, 1.0]]), 'img_path': 'hot.tiff'})


def test_real_radiometric_images(real_data):
    """All cameras: full contrast, and never a hotter pixel darker than a cooler one."""
    transform = TRANSFORMS.build({'type': 'ThermalToUint8', 'mode': 'percentile'})
    files = sorted((real_data / 'flir16_commons').glob('*16/*.png'))
    assert len(files) == 52
    for path in files:
        raw = read_image(str(path))
        assert raw.dtype == np.uint16
        out = transform({'img': raw})['img']
        assert (out.min(), out.max()) == (0, 255)
        order = np.argsort(raw, axis=None, kind='stable')
        assert (np.diff(out.ravel()[order].astype(int)) >= 0).all()


def test_centikelvin_range_gives_equal_greys_to_equal_temperatures(real_data):
    """10 to 50 degrees Celsius over 255 greys, against float arithmetic of cv2."""
    path = real_data / 'flir16_commons' / 'temp16' / '01.png'
    raw = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    out = apply(raw, mode='range', low=28315, high=32315)
    celsius = raw.astype(np.float64) / 100 - 273.15
    expected = np.clip((celsius - 10) / 40, 0, 1) * 255
    assert np.abs(out - expected).max() <= 0.5 + 1e-6
