import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from mmengine.registry import TRANSFORMS

from mmir.data.images import read_image
from mmir.transforms import OnModality, PairedTransform
from mmir.transforms.thermal_augment import (
    RandomPolarityInversion,
    RandomThermalDrift,
    RandomThermalGamma,
    ThermalAugment,
    value_range,
)
from mmir.transforms.thermal_faults import (
    DeadPixels,
    FixedPatternNoise,
    RandomThermalBlur,
    disc,
)

ALL = (
    RandomPolarityInversion,
    RandomThermalDrift,
    RandomThermalGamma,
    FixedPatternNoise,
    DeadPixels,
    RandomThermalBlur,
)
RANGED = ALL[:-1]
DTYPES = (np.uint8, np.uint16, np.float32)


def apply(transform, img, seed=0):
    np.random.seed(seed)  # noqa: NPY002
    before = img.copy()
    out = transform({'img': img})['img']
    np.testing.assert_array_equal(img, before)  # not written to
    return out


def image(dtype=np.uint16, shape=(40, 50), seed=0):
    """Gray values, 14-bit counts or degrees."""
    low, high = {np.uint8: (0, 256), np.uint16: (2000, 14000)}.get(dtype, (-20, 60))
    return np.random.default_rng(seed).uniform(low, high, shape).astype(dtype)


IMAGES = st.sampled_from(DTYPES).flatmap(
    lambda kind: arrays(
        kind,
        array_shapes(min_dims=2, max_dims=2, max_side=12).flatmap(
            lambda hw: st.sampled_from([hw, (*hw, 1), (*hw, 3)])
        ),
        elements=(
            st.floats(-300, 3000, width=32)
            if kind is np.float32
            else st.integers(0, np.iinfo(kind).max)
        ),
    )
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(ALL), IMAGES, st.integers(0, 2**32 - 1))
def test_shape_and_dtype_stay_and_the_seed_decides(kind, img, seed):
    transform = kind(prob=1)
    out = apply(transform, img, seed)
    assert out.dtype == img.dtype
    assert out.shape == img.shape
    assert np.isfinite(out).all()
    np.testing.assert_array_equal(out, apply(transform, img, seed))
    np.testing.assert_array_equal(img, apply(kind(prob=0), img, seed))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(ALL), IMAGES, IMAGES)
def test_random_numbers_do_not_depend_on_the_image(kind, one, other):
    """Required for replay by PairedTransform."""
    states = []
    for img in (one, other):
        apply(kind(prob=0.5), img, 3)
        states.append(np.random.get_state()[1:])  # noqa: NPY002
    np.testing.assert_equal(*states)


@pytest.mark.parametrize('kind', ALL)
def test_probability_and_variety(kind):
    img, transform = image(), kind(prob=0.3)
    outs = [apply(transform, img, seed) for seed in range(300)]
    changed = [out for out in outs if not np.array_equal(out, img)]
    assert 60 < len(changed) < 120  # 90 expected, standard deviation 8
    if kind is not RandomPolarityInversion:
        # two images may have the same one dead pixel of 2000
        assert len({out.tobytes() for out in changed}) > 0.9 * len(changed)


def test_value_range():
    deep = image(np.uint16)
    assert value_range(image(np.uint8)) == (0, 255)
    assert value_range(deep) == tuple(np.percentile(deep, (0.1, 99.9)))
    planes = np.repeat(deep[..., None], 3, 2)
    assert value_range(planes) == value_range(deep)
    assert value_range(deep, (1, 2)) == (1, 2)


@pytest.mark.parametrize('dtype', DTYPES)
def test_inversion_twice_is_the_identity(dtype):
    """Closed form: 255 - img; of a symmetric range it is low + high - img."""
    img = image(dtype)
    transform = RandomPolarityInversion(prob=1)
    once = apply(transform, img)
    twice = apply(transform, once)
    if dtype == np.float32:
        np.testing.assert_allclose(twice, img, atol=2e-5)
    else:
        # the percentiles of counts lie between them: a rounding each way
        assert np.abs(twice.astype(int) - img).max() <= (dtype == np.uint16)
    low, high = value_range(img)
    expected = low + high - img.astype(float)
    assert np.abs(once - expected).max() <= (1e-5 if dtype == np.float32 else 0.5)


def test_inversion_about_a_declared_range():
    transform = RandomPolarityInversion(prob=1, value_range=(0, 16383))
    img = image(np.uint16)
    out = apply(transform, img)
    np.testing.assert_array_equal(out, 16383 - img)
    np.testing.assert_array_equal(apply(transform, out), img)
    assert apply(transform, np.array([[20000, 5]], np.uint16)).tolist() == [[0, 16378]]


@pytest.mark.parametrize('dtype', DTYPES)
def test_drift_is_linear(dtype):
    img = image(dtype)
    low, high = value_range(img)
    out = apply(RandomThermalDrift(gain=0.8, offset=0.05, prob=1), img)
    middle = (low + high) / 2
    expected = middle + 0.8 * (img - middle) + 0.05 * (high - low)
    assert np.abs(out - expected).max() <= (1e-5 if dtype == np.float32 else 0.5 + 1e-6)


def test_drift_stays_within_its_bounds_and_integers_saturate():
    img = np.array([[0, 100, 200, 255]], np.uint8)
    transform = RandomThermalDrift(gain=(1, 1), offset=(0.1, 0.2), prob=1)
    lifts = [int(apply(transform, img, seed)[0, 1]) - 100 for seed in range(200)]
    assert 25 <= min(lifts) < 28
    assert 48 < max(lifts) <= 51
    assert apply(transform, img)[0, 3] == 255
    degrees = img.astype(np.float32)
    transform = RandomThermalDrift(1, 0.1, prob=1, value_range=(0, 255))
    np.testing.assert_allclose(apply(transform, degrees), degrees + 25.5, atol=1e-4)


def test_gamma_closed_form():
    img = np.arange(256, dtype=np.uint8)[None]
    out = apply(RandomThermalGamma(2, prob=1), img)
    assert np.abs(out - (img / 255.0) ** 2 * 255).max() <= 0.5
    degrees = np.array([[-40, 0, 5, 10, 20, 400]], np.float32)
    out = apply(RandomThermalGamma(0.5, prob=1, value_range=(0, 20)), degrees)
    expected = [-40, 0, 10, 20 * 0.5**0.5, 20, 400]  # outside the range as before
    np.testing.assert_allclose(out[0], expected, rtol=1e-6)
    counts = image(np.uint16)
    same = apply(RandomThermalGamma(1, prob=1), counts)
    np.testing.assert_array_equal(same, counts)


def test_gamma_is_drawn_evenly_in_its_logarithm():
    img = np.array([[0.0, 0.5, 1.0]], np.float32)
    transform = RandomThermalGamma((0.25, 4), prob=1, value_range=(0, 1))
    drawn = [np.log2(-np.log2(apply(transform, img, s)[0, 1])) for s in range(400)]
    assert -2 <= min(drawn) < -1.9
    assert 1.9 < max(drawn) <= 2
    assert abs(np.mean(drawn)) < 0.2  # 4 / sqrt(12 * 400) is 0.06


@pytest.mark.parametrize('axis', ['column', 'row'])
def test_stripes_are_constant_along_their_axis(axis):
    img = np.full((400, 300, 3), 1000, np.float32)
    deviations = {'column': 0, 'row': 0, 'pixel': 0} | {axis: 0.02}
    transform = FixedPatternNoise(**deviations, prob=1, value_range=(0, 5000))
    noise = apply(transform, img) - img
    np.testing.assert_array_equal(noise[..., 0], noise[..., 2])
    along = 0 if axis == 'column' else 1
    assert np.ptp(noise, axis=along).max() == 0
    values = noise[0, :, 0] if axis == 'column' else noise[:, 0, 0]
    assert 80 < values.std() < 120  # 0.02 * 5000 is 100
    assert abs(values.mean()) < 25


def test_pixel_noise_and_its_parts():
    img = np.full((300, 200), 1000, np.float32)
    transform = FixedPatternNoise(0.02, 0.03, 0.01, prob=1, value_range=(0, 1000))
    noise = apply(transform, img) - img
    columns, rows = noise.mean(0), noise.mean(1)
    rest = noise - columns - rows[:, None] + noise.mean()
    assert abs(columns.std() - 20) < 3
    assert abs(rows.std() - 30) < 4
    assert abs(rest.std() - 10) < 0.2
    counts = apply(transform, img.astype(np.uint16))
    assert np.abs(counts - np.clip(noise + img, 0, 1000)).max() <= 0.5 + 1e-4


@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('channels', [None, 1, 3])
def test_dead_pixels_are_counted(dtype, channels):
    img = image(dtype, (40, 50))
    if channels:
        img = np.repeat(img[..., None], channels, 2)
    fill = {np.uint8: (0, 255), np.uint16: (0, 16383)}.get(dtype, (-100.0, 200.0))
    out = apply(DeadPixels(0.01, hot=0.25, prob=1, value_range=fill), img)
    planes = out.reshape(2000, -1)
    changed = out.reshape(2000, -1) != img.reshape(2000, -1)
    for k in range(planes.shape[1]):
        assert (planes[changed[:, 0], k] == planes[changed[:, 0], 0]).all()
        np.testing.assert_array_equal(changed[:, k], changed[:, 0])
    if dtype != np.uint8:  # there, pixels may have had the value before
        assert (planes[:, 0] == fill[1]).sum() == 5
        assert (planes[:, 0] == fill[0]).sum() == 15
    assert changed[:, 0].sum() <= 20


def test_dead_pixels_of_the_own_range_and_of_views():
    img = np.asfortranarray(image(np.uint16))[::2, ::-1]
    out = apply(DeadPixels(0.02, hot=1, prob=1), img)
    _, high = value_range(img)
    changed = out[out != img]
    assert len(changed) == round(0.02 * img.size)
    assert (changed == np.rint(high)).all()


@pytest.mark.parametrize('kind', ['gaussian', 'defocus'])
@pytest.mark.parametrize('sigma', [1.0, 2.0])
def test_blur_of_a_point_has_its_deviation(kind, sigma):
    img = np.zeros((41, 41), np.float32)
    img[20, 20] = 1
    out = apply(RandomThermalBlur(sigma, kind, prob=1), img).astype(float)
    assert abs(out.sum() - 1) < 1e-5
    where = np.arange(41) - 20.0
    for axis in (0, 1):
        profile = out.sum(axis)
        assert abs((profile * where).sum()) < 1e-5
        assert abs(np.sqrt((profile * where**2).sum()) / sigma - 1) < 0.06
    if kind == 'gaussian':
        expected = np.exp(-(where**2) / (2 * sigma**2))
        expected = np.outer(expected, expected) / expected.sum() ** 2
        np.testing.assert_allclose(out, expected, atol=1e-3 * expected.max())
    else:
        far = np.hypot(where[:, None], where)  # a corner is 0.71 from the center
        assert np.ptp(out[far <= 2 * sigma - 0.71]) < 1e-6  # even within
        assert np.abs(out[far >= 2 * sigma + 0.71]).max() < 1e-9
        area = out.max() * np.pi * (2 * sigma) ** 2
        assert abs(area - 1) < 0.01  # the whole pixels have their part of the disc


@pytest.mark.parametrize('dtype', DTYPES)
def test_blur_keeps_an_even_image_and_the_mean(dtype):
    for kind in ('gaussian', 'defocus'):
        transform = RandomThermalBlur(1.3, kind, prob=1)
        even = np.full((9, 8, 3), 200, dtype)
        np.testing.assert_allclose(apply(transform, even), even, rtol=1e-6)
        img = image(dtype, (60, 60))
        out = apply(transform, img)
        assert out.std() < 0.5 * img.std()
        assert abs(out.mean() - img.mean()) < 0.05 * img.std()
    drawn = {apply(RandomThermalBlur(1.3, prob=1), img, s).tobytes() for s in range(20)}
    assert len(drawn) == 2  # both kinds are drawn


@pytest.mark.parametrize('radius', [0.3, 1, 2.5])
def test_disc_sums_to_one(radius):
    kernel = disc(radius)
    assert kernel.shape == (2 * int(np.ceil(radius)) + 1,) * 2
    assert abs(kernel.sum() - 1) < 1e-12
    np.testing.assert_array_equal(kernel, kernel.T[::-1])


@pytest.mark.parametrize('kind', RANGED)
def test_a_constant_image_has_no_range_and_stays(kind):
    img = np.full((6, 7), 300, np.uint16)
    for seed in range(5):
        np.testing.assert_array_equal(apply(kind(prob=1), img, seed), img)


@pytest.mark.parametrize('kind', RANGED)
def test_integers_stay_in_the_declared_range(kind):
    img = image(np.uint16)
    for seed in range(10):
        out = apply(kind(prob=1, value_range=(3000, 13000)), img, seed)
        if kind is DeadPixels:  # the other pixels are not touched
            out = out[out != img]
        assert ((out >= 3000) & (out <= 13000)).all()


@pytest.mark.parametrize('kind', ALL)
def test_pairs(kind):
    """One camera alone, or the same change in both."""
    ir = image(np.uint16, (20, 30, 1))
    rgb = image(np.uint8, (20, 30, 3), seed=1)
    sample = dict(
        modalities=('rgb', 'ir'),
        imgs=dict(rgb=rgb, ir=ir),
        img_paths=dict(rgb='a.png', ir='a.tiff'),
        absent=(),
    )
    config = dict(type=kind.__name__, prob=1)
    np.random.seed(0)  # noqa: NPY002
    out = OnModality('ir', config)(dict(sample))['imgs']
    np.testing.assert_array_equal(out['rgb'], rgb)
    np.testing.assert_array_equal(out['ir'], apply(kind(prob=1), ir))
    np.random.seed(0)  # noqa: NPY002
    both = PairedTransform(config)(dict(sample))['imgs']
    np.testing.assert_array_equal(both['ir'], out['ir'])
    np.testing.assert_array_equal(both['rgb'], apply(kind(prob=1), rgb))


def test_dead_pixels_of_a_pair_are_at_the_same_places():
    sample = dict(
        modalities=('rgb', 'ir'),
        imgs=dict(
            rgb=np.full((20, 30, 3), 99, np.uint8),
            ir=image(np.uint16, (20, 30, 1)),
        ),
        img_paths=dict(rgb='a.png', ir='a.tiff'),
        absent=(),
    )
    out = PairedTransform(dict(type='DeadPixels', share=0.02, prob=1))(dict(sample))
    places = [(out['imgs'][k] != sample['imgs'][k])[..., 0] for k in ('rgb', 'ir')]
    assert places[0].sum() == 12
    np.testing.assert_array_equal(*places)


@pytest.mark.parametrize(
    ('kind', 'kwargs', 'message'),
    [
        (RandomPolarityInversion, dict(prob=1.1), r'Inversion: prob=1\.1'),
        (DeadPixels, dict(value_range=(5, 5)), 'DeadPixels: value_range is empty'),
        (DeadPixels, dict(value_range=(5, 3)), 'value_range must be'),
        (DeadPixels, dict(share=1.5), r'share must be a number or .* within 0\.\.1'),
        (DeadPixels, dict(hot=-1), 'hot=-1'),
        (FixedPatternNoise, dict(row=-0.1), r'row must be .* 0\.\.inf, got -0\.1'),
        (FixedPatternNoise, dict(pixel=(0, 1, 2)), 'pixel must be'),
        (RandomThermalDrift, dict(gain=(1.1, 0.9)), 'gain must be a number or'),
        (RandomThermalDrift, dict(offset=np.nan), 'offset must be'),
        (RandomThermalGamma, dict(gamma=0), 'gamma must be'),
        (RandomThermalBlur, dict(sigma=0), 'sigma must be'),
        (RandomThermalBlur, dict(kinds='motion'), "kinds must be some of .*'motion'"),
        (RandomThermalBlur, dict(kinds=()), 'kinds must be some of'),
    ],
)
def test_wrong_options(kind, kwargs, message):
    with pytest.raises(ValueError, match=message):
        kind(**kwargs)


@pytest.mark.parametrize('kind', ALL)
def test_wrong_images_are_named(kind):
    """Also if the image was not augmented."""
    transform = kind(prob=0)
    sample = {'img': np.zeros((2, 2), np.int64), 'img_path': 'hot.png'}
    with pytest.raises(TypeError, match=rf'{kind.__name__}: hot\.png is int64, not'):
        transform(dict(sample))
    sample['img'] = np.full((2, 2), np.nan, np.float32)
    with pytest.raises(ValueError, match=rf'{kind.__name__}: hot\.png holds NaN'):
        transform(sample)


def test_base_class_and_options_shown():
    with pytest.raises(NotImplementedError):
        apply(ThermalAugment(prob=1), image())
    assert repr(RandomThermalGamma(2, prob=0.1)) == (
        'RandomThermalGamma(prob=0.1, value_range=None, gamma=(2.0, 2.0))'
    )


@pytest.mark.parametrize('kind', ALL)
def test_real_cameras_look_alike_afterwards(kind, real_data):
    """With default settings, range and order of the values are preserved."""
    transform = TRANSFORMS.build(dict(type=kind.__name__, prob=1))
    for path in sorted((real_data / 'flir16_commons' / 'raw16').glob('*.png')):
        img = cv2.resize(read_image(str(path)), (80, 60), interpolation=cv2.INTER_AREA)
        out = apply(transform, img)
        low, high = value_range(img)
        assert out.dtype == np.uint16
        new_low, new_high = value_range(out)
        assert new_low > low - 0.2 * (high - low)
        assert new_high < high + 0.2 * (high - low)
        ranks = [np.argsort(np.argsort(x, axis=None)) for x in (img, out)]
        sign = -1 if kind is RandomPolarityInversion else 1
        assert sign * np.corrcoef(ranks)[0, 1] > 0.85, path.name
