from fractions import Fraction
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mmengine.registry import TRANSFORMS

from mmir.data.images import read_image
from mmir.transforms import ThermalToUint8
from mmir.transforms.thermal import percentiles

AUTOMATIC = ('percentile', 'plateau', 'clahe')
EQUALISING = ('plateau', 'clahe')
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


@pytest.mark.parametrize('mode', ['percentile', 'clahe'])
@pytest.mark.parametrize('kind', [np.uint16, np.float32])
def test_a_small_object_on_a_uniform_background_stays(mode, kind):
    """Also if both percentiles are the background."""
    img = np.full((200, 200), 7000, kind)
    img[20, 30:32] = 7400, 7200
    assert len(set(percentiles(img, (0.1, 99.9)))) == 1
    out = apply(img, mode=mode)
    assert out[20, 30] == 255
    assert 0 < out[20, 31] <= 255
    if mode == 'percentile':
        assert out[20, 31] in (127, 128)  # a tie
    img[20, 30:32] = 7000
    assert (out == 0).sum() == img.size - 2
    assert not apply(img, mode=mode).any()


def test_a_range_in_other_units_is_warned_of_once(monkeypatch):
    """Degrees Celsius for an image in counts turns it white."""
    said = []
    monkeypatch.setattr(
        'mmir.transforms.thermal.print_log', lambda text, **_: said.append(text)
    )
    transform = ThermalToUint8('range', low=0, high=50)
    inside = np.arange(40, 60, dtype=np.uint16)[None]
    transform({'img': inside, 'img_path': 'in.png'})
    assert said == []
    out = transform({'img': inside + 29000, 'img_path': 'counts.png'})['img']
    transform({'img': inside + 29000, 'img_path': 'again.png'})
    assert (out == 255).all()
    (text,) = said
    assert 'counts.png holds 29040 to 29059, all outside low=0, high=50' in text
    assert 'becomes white' in text


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
        ({'mode': 'clahe', 'low': -1}, r'not in 0\.\.100'),
        (
            {'mode': 'clahe', 'plateau': 0.1, 'linear': 0.2},
            "linear, plateau cannot .* mode='clahe', which takes low, high, clip_limit",
        ),
        ({'bins': 9}, "bins cannot be given with mode='percentile', .* low, high$"),
        ({'mode': 'plateau', 'plateau': 0}, r'plateau must be in \(0, 1\], got 0'),
        ({'mode': 'plateau', 'linear': 1.5}, r'linear must be in 0\.\.1'),
        ({'mode': 'plateau', 'bins': 70000}, r'bins must be an integer in 2\.\.65536'),
        ({'mode': 'clahe', 'bins': 9.5}, 'bins must be an integer'),
        ({'mode': 'clahe', 'clip_limit': 0.5}, 'clip_limit must be at least 1'),
        ({'mode': 'clahe', 'tiles': (0, 8)}, 'tiles must be two integers'),
        ({'mode': 'clahe', 'tiles': (8, 8, 8)}, 'tiles must be two integers'),
    ],
)
def test_wrong_options(kwargs, message):
    with pytest.raises(ValueError, match=message):
        ThermalToUint8(**kwargs)


def test_wrong_images_are_named():
    transform = ThermalToUint8()
    with pytest.raises(TypeError, match=r'hot\.png already has 8 bits'):
        transform({'img': np.zeros((2, 2), np.uint8), 'img_path': 'hot.png'})
    with pytest.raises(ValueError, match=r'hot\.tiff holds NaN'):
        transform({'img': np.array([[np.nan, 1.0]]), 'img_path': 'hot.tiff'})


def scene(seed=0, shape=(48, 64)):
    """Counts of an even background with a warm spot, as an automatic gain meets."""
    rng = np.random.default_rng(seed)
    img = rng.normal(8000, 40, shape)
    img[10:14, 20:26] += rng.uniform(500, 900, (4, 6))
    return img.round().astype(np.uint16)


def equalised(img):
    """Plain histogram equalization: the share of pixels that are cooler, stretched."""
    flat = np.sort(img, axis=None)
    first = np.searchsorted(flat, flat[0], 'right')
    below = np.searchsorted(flat, img, 'right')
    return 255 * (below - first) / (img.size - first)


def test_plateau_of_all_pixels_is_plain_equalisation():
    img = scene()
    bins = int(np.ptp(img)) + 1
    out = apply(img, mode='plateau', plateau=1, bins=bins)
    assert np.abs(out - equalised(img)).max() <= 0.5 + 1e-9
    # with more bins than counts the histogram is the same
    more = apply(img, mode='plateau', plateau=1, bins=16 * bins)
    np.testing.assert_array_equal(out, more)


def test_plateau_clips_the_histogram():
    """5, 1 and 2 pixels of three counts, clipped at 2: steps of 1 and 2 levels of 3."""
    img = np.array([[10, 10, 10, 10], [10, 20, 30, 30]], np.uint16)
    out = apply(img, mode='plateau', plateau=2 / 8)
    assert out.tolist() == [[0, 0, 0, 0], [0, 85, 255, 255]]
    # the median of 5, 1 and 2
    np.testing.assert_array_equal(apply(img, mode='plateau'), out)
    # a plateau below one pixel counts each value once
    out = apply(img, mode='plateau', plateau=1e-6)
    assert out[1].tolist() == [0, 128, 255, 255]
    # clipped at a pixel, of 10 to 40 the share below is 0, 1/3, 2/3; linear 0, 2/3, 1
    uneven = np.array([[10, 30, 40, 40]], np.uint16)
    out = apply(uneven, mode='plateau', plateau=0.01, linear=0.5)
    expected = np.array([0, (1 / 2 + 2 / 3) / 2, 1, 1]) * 255
    np.testing.assert_array_equal(out[0], np.rint(expected))


def test_plateau_keeps_greys_for_what_is_rare():
    """The spot is 24 of 3072 pixels: equalization leaves it 2 gray values of 256."""
    img = scene()
    spot = np.s_[10:14, 20:26]
    plain = apply(img, mode='plateau', plateau=1)[spot]
    clipped = apply(img, mode='plateau', plateau=1e-6)[spot]  # a pixel
    assert int(np.ptp(plain)) <= 2
    assert int(np.ptp(clipped)) > 10


def test_linear_share():
    img = scene()
    linear = apply(img, mode='plateau', linear=1, bins=65536)
    np.testing.assert_array_equal(linear, apply(img, low=0, high=100))
    ends = [apply(img, mode='plateau', linear=v).astype(int) for v in (0, 1)]
    half = apply(img, mode='plateau', linear=0.5)
    assert np.abs(half - sum(ends) / 2).max() <= 1


def test_clahe_without_limit_in_one_tile_is_plain_equalisation():
    img = scene()
    out = apply(
        img, mode='clahe', clip_limit=1e9, tiles=(1, 1), bins=4096, low=0, high=100
    )
    assert np.abs(out - equalised(img)).max() <= 1


@pytest.mark.parametrize('size', [(60, 80), (480, 640)])
@pytest.mark.parametrize('limit', [1.5, 3])
def test_clahe_limits_contrast(size, limit):
    """Slope against the linear mapping, whatever the size and the depth of values.

    The limit, and at most 1 for what was clipped and spread over all bins.
    """
    img = np.random.default_rng(0).normal(30000, 900, size).round().astype(np.uint16)
    out = apply(img, mode='clahe', clip_limit=limit, tiles=(1, 1), low=0, high=100)
    order = np.argsort(img, axis=None)
    low, high = int(img.min()), int(img.max())
    linear = (img.ravel()[order].astype(float) - low) / (high - low) * 255
    grey = out.ravel()[order].astype(float)
    assert (np.diff(grey) >= 0).all()
    reach = np.searchsorted(linear, linear + 10) - 1
    inside = linear <= 245
    rise = (grey[reach] - grey)[inside] / 10
    assert 0.8 * limit < rise.max() <= limit + 1 + 0.3  # 0.3: rounding over 10 levels


def test_clahe_adapts_to_the_place():
    """Equal ripples on a dark and a bright half: both seen, linear drowns them."""
    ripple = 20 * np.sin(np.arange(128) * 0.7)[:, None]
    img = np.full((128, 128), 5000.0) + ripple
    img[:, 64:] += 8000
    for half in (np.s_[:, :32], np.s_[:, 96:]):
        linear = np.ptp(apply(img, low=0, high=100)[half])
        adapted = np.ptp(apply(img, mode='clahe', clip_limit=8)[half])
        assert adapted > 4 * max(linear, 1)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(AUTOMATIC), COUNTS, st.sampled_from([2, 8]), st.integers(0, 500))
def test_automatic_gain_undoes_gain_and_offset(mode, img, gain, offset):
    """Counts or degrees: a linear scale (a power of two: no rounding) cancels."""
    one = apply(img, mode=mode)
    two = apply((gain * img.astype(np.float64) + offset).astype(np.float32), mode=mode)
    assert np.abs(one.astype(int) - two).max() <= 1


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(EQUALISING),
    arrays(
        np.float32,
        st.tuples(st.integers(1, 20), st.integers(1, 20)),
        elements=st.floats(-50, 400, width=32),
    ),
)
def test_degrees_of_any_size_are_equalised(mode, img):
    out = apply(img, mode=mode, low=0, high=100)
    assert out.dtype == np.uint8
    assert out.shape == img.shape
    ends = (0, 255) if np.ptp(img) > 0 else (0, 0)
    assert (out.min(), out.max()) == ends
    if mode == 'plateau':
        order = np.argsort(img, axis=None)
        assert (np.diff(out.ravel()[order].astype(int)) >= 0).all()


@pytest.mark.parametrize('mode', AUTOMATIC)
def test_equal_planes_are_mapped_as_one(mode):
    img = scene()
    plane = apply(img, mode=mode)
    for count in (1, 3):
        out = apply(np.repeat(img[..., None], count, 2), mode=mode)
        assert out.shape == (*img.shape, count)
        for k in range(count):
            np.testing.assert_array_equal(out[..., k], plane)


def test_different_planes_share_one_mapping_or_are_refused():
    img = np.stack([scene(0), scene(1)], axis=2)
    out = apply(img, mode='plateau')
    np.testing.assert_array_equal(
        out[..., 0], apply(img.reshape(48, 128), mode='plateau')[:, ::2]
    )
    with pytest.raises(ValueError, match=r'channels of image differ; clahe'):
        apply(img, mode='clahe')


@pytest.mark.parametrize('mode', AUTOMATIC)
def test_constant_and_wrong_images_in_every_mode(mode):
    for value in (7, -3.5):
        img = np.full((5, 4), value, np.uint16 if value > 0 else np.float32)
        assert not apply(img, mode=mode).any()
    with pytest.raises(ValueError, match='NaN'):
        apply(np.array([[np.inf, 1]], np.float32), mode=mode)
    with pytest.raises(TypeError, match='already has 8 bits'):
        apply(np.zeros((2, 2), np.uint8), mode=mode)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 60000), st.integers(1, 5535), st.integers(0, 99))
def test_percentiles_of_large_images_are_those_of_numpy(low, width, seed):
    """Percentiles come from a histogram."""
    img = np.random.default_rng(seed).integers(low, low + width, (257, 256))
    shares = (0.1, 0.0, 1.0, 50.0, 99.9, 100.0)
    for pair in pairwise(shares):
        expected = np.percentile(img, pair)
        out = percentiles(img.astype(np.uint16), pair)
        np.testing.assert_allclose(out, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize('mode', ['range', *AUTOMATIC])
def test_large_images_through_a_table(mode):
    """With at least 65536 pixels, integers give the same gray values as floats."""
    img = scene(shape=(260, 256))
    ends = dict(low=7950, high=8300) if mode == 'range' else {}
    out = apply(img, mode=mode, **ends)
    as_float = apply(img.astype(np.float64), mode=mode, **ends)
    np.testing.assert_array_equal(out, as_float)


def test_options_are_shown():
    assert repr(ThermalToUint8('plateau', linear=0.2)) == (
        "ThermalToUint8('plateau', low=0.0, high=100.0, plateau=None, linear=0.2, "
        'bins=4096)'
    )
    assert repr(ThermalToUint8('range', 0, 50)) == (
        "ThermalToUint8('range', low=0.0, high=50.0)"
    )


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


@pytest.mark.parametrize('mode', EQUALISING)
def test_real_images_are_equalised(mode, real_data):
    """Full contrast of all cameras; plateau never makes the hotter pixel darker."""
    transform = TRANSFORMS.build({'type': 'ThermalToUint8', 'mode': mode})
    for path in sorted((real_data / 'flir16_commons').glob('*16/*.png')):
        raw = read_image(str(path))
        out = transform({'img': raw})['img']
        assert (out.min(), out.max()) == (0, 255)
        # gray values in use: at least half of the possible entropy, in bits
        share = np.bincount(out.ravel(), minlength=256) / out.size
        bits = -(share[share > 0] * np.log2(share[share > 0])).sum()
        assert bits > 4, path.name
        if mode == 'plateau':
            order = np.argsort(raw, axis=None, kind='stable')
            assert (np.diff(out.ravel()[order].astype(int)) >= 0).all()


def test_plateau_ranks_pixels_as_the_cameras_do(real_data):
    """Rank correlation with the displayed images, brightness of palette and text in."""
    folder = real_data / 'flir16_commons'
    correlations = []
    for path in sorted((folder / 'raw16').glob('*.png')):
        shown = cv2.imread(str(folder / 'shown' / f'{path.stem}.jpg'), 0)
        out = apply(read_image(str(path)), mode='plateau')
        out = cv2.resize(out, shown.shape[::-1])
        ranks = [np.argsort(np.argsort(x, axis=None)) for x in (out, shown)]
        correlations.append(np.corrcoef(ranks)[0, 1])
    assert len(correlations) == 26
    assert min(correlations) > 0
    assert np.median(correlations) > 0.8


def test_centikelvin_range_gives_equal_greys_to_equal_temperatures(real_data):
    """10 to 50 degrees Celsius on 255 gray levels, against float math of cv2."""
    path = real_data / 'flir16_commons' / 'temp16' / '01.png'
    raw = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    out = apply(raw, mode='range', low=28315, high=32315)
    celsius = raw.astype(np.float64) / 100 - 273.15
    expected = np.clip((celsius - 10) / 40, 0, 1) * 255
    assert np.abs(out - expected).max() <= 0.5 + 1e-6
