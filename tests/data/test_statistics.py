"""Statistics accumulated per image equal numpy's on all images at once."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmir.data.statistics import DatasetStatistics, Intensity, describe_boxes, measure

KINDS = {'uint8': (0, 256), 'uint16': (27000, 33000), 'float32': (-5, 60)}


def images(kind: str, count: int, channels: int, seed: int) -> list[np.ndarray]:
    """Images of several sizes; each has values of its own."""
    rng = np.random.default_rng(seed)
    low, high = KINDS[kind]
    result = []
    for _ in range(count):
        h, w = rng.integers(1, 20, 2)
        ends = np.sort(rng.integers(low, high, 2))
        plane = rng.uniform(ends[0], ends[1] + 1e-3, (h, w, channels))
        result.append(plane.astype(kind))
    return result


@pytest.mark.parametrize('kind', KINDS)
@given(st.integers(1, 6), st.sampled_from([1, 3]), st.integers(0, 2**31))
@settings(max_examples=15, deadline=None)
def test_sums_equal_numpy_on_all_pixels(kind, count, channels, seed) -> None:
    parts = images(kind, count, channels, seed)
    found = Intensity.of(parts[0])
    for part in parts[1:]:
        found = found + Intensity.of(part)
    pixels = np.concatenate([p.reshape(-1, channels) for p in parts])
    exact = pixels.astype(np.float64)
    assert np.allclose(found.mean, exact.mean(0), rtol=1e-12, atol=1e-9)
    assert np.allclose(found.std, exact.std(0), rtol=1e-9, atol=1e-9)
    assert (found.low, found.high) == (exact.min(), exact.max())
    assert found.count == len(pixels)
    wanted = (0, 1, 33, 50, 99, 100)
    if kind == 'float32':
        assert found.percentiles(wanted) is found.saturated() is found.bits is None
        return
    numpys = np.percentile(pixels, wanted, method='inverted_cdf')
    assert found.percentiles(wanted) == numpys.tolist()
    top = 2**found.bits - 1
    assert found.saturated() == ((pixels == 0).mean(), (pixels == top).mean())
    assert top >= pixels.max() > (top // 2 if found.bits > 8 else -1)


def test_small_spread_about_a_large_mean_is_kept() -> None:
    """Kelvin as float: the textbook formula would lose it."""
    rng = np.random.default_rng(0)
    parts = [(1e6 + rng.normal(0, 0.01, (50, 60, 1))) for _ in range(5)]
    found = sum((Intensity.of(p) for p in parts[1:]), Intensity.of(parts[0]))
    assert found.std[0] == pytest.approx(np.concatenate(parts).std(), rel=1e-6)


def test_fourteen_bits_in_sixteen() -> None:
    img = np.array([[0, 16383, 16383, 8000]], np.uint16)[..., None]
    found = Intensity.of(img)
    assert found.bits == 14
    assert found.saturated() == (0.25, 0.5)


def test_grey_images_of_three_channels_are_seen() -> None:
    plane = np.random.default_rng(0).integers(0, 256, (9, 9, 1), np.uint8)
    three = Intensity.of(np.repeat(plane, 3, 2))
    assert three.gray
    assert three.luminance() == pytest.approx(plane.mean())
    other = Intensity.of(np.concatenate([plane, plane, 255 - plane], 2))
    assert not other.gray
    red = np.zeros((2, 2, 3), np.uint8)
    red[..., 2] = 100  # BGR
    assert Intensity.of(red).luminance() == pytest.approx(29.9)


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_values_that_are_none_are_refused(bad: float) -> None:
    img = np.ones((3, 3, 1), np.float32)
    img[1, 1] = bad
    with pytest.raises(ValueError, match=r'NaN or infinite.*float32'):
        Intensity.of(img)
    with pytest.raises(ValueError, match=r'must be uint8, .* is int32'):
        Intensity.of(np.ones((3, 3, 1), np.int32))


def test_samples_of_pairs_add_up() -> None:
    rng = np.random.default_rng(1)
    pairs = [
        dict(rgb=rng.integers(0, 256, (8, 10, 3), np.uint8),
             ir=rng.integers(0, 256, (8, 10, 1), np.uint8))
        for _ in range(4)
    ]  # fmt: skip
    same = pairs[0]['ir'].repeat(3, 2)
    pairs[0]['rgb'] = same
    pairs.append(dict(rgb=rng.integers(0, 99, (6, 6, 3), np.uint8), ir=None))
    total = DatasetStatistics()
    for k, pair in enumerate(pairs):
        total.add(measure(pair, absent=('ir',) if k == 4 else ()))
    assert (total.samples, total.complete, dict(total.absent)) == (5, 4, {'ir': 1})
    assert dict(total.sizes['rgb']) == {(10, 8): 4, (6, 6): 1}
    thermal = np.concatenate([p['ir'].ravel() for p in pairs[:4]])
    assert total.intensity['ir'].mean[0] == pytest.approx(thermal.mean())
    assert total.spectrum['ir'].images == 4
    assert len(total.brightness['rgb']) == 5
    assert len(total.correlation['rgb', 'ir']) == 4  # the fifth is not a pair
    found = total.correlation['rgb', 'ir'][0]
    assert np.allclose(found[~np.isnan(found)], 1)  # the same image twice
    means = total.mean_correlation()['rgb', 'ir']
    assert means['high']['size'] >= abs(means['high']['mean'])


def test_a_mixture_of_depths_names_the_modality() -> None:
    total = DatasetStatistics()
    total.add(measure({'ir': np.ones((4, 4, 1), np.uint8)}))
    with pytest.raises(ValueError, match='modality ir: an image of uint16 with 1 cha'):
        total.add(measure({'ir': np.ones((4, 4, 1), np.uint16)}))


def test_boxes_are_counted_by_class_and_size() -> None:
    sizes = [(10, 10), (32, 32), (96, 96), (96, 97), (5, 20)]
    found = describe_boxes(sizes, [0, 2, 2, 0, 0], [3, 0, 2], ('a', 'b', 'c'))
    assert found['boxes'] == 5
    assert found['classes'] == {'a': 3, 'b': 0, 'c': 2}
    # areas of 32^2 and 96^2 are medium, as in COCO's evaluation
    assert found['sizes'] == {'small': 2, 'medium': 2, 'large': 1}
    assert found['per_image'] == {'mean': 5 / 3, 'highest': 3, 'without': 1}
    assert found['side']['50'] == 32
    none = describe_boxes(np.zeros((0, 2)), [], [0], ('a',))
    assert none['sizes'] == {'small': 0, 'medium': 0, 'large': 0}
    assert none['side'] == {}
