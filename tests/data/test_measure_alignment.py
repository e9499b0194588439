"""Measurement of the shift between images of two cameras."""

import cv2
import numpy as np
import pytest

from mmir.data.alignment import PairFiles, edge_map, measure_files, measure_shift
from mmir.structures import PairError
from mmir.testing.scenes import render_scene
from mmir.transforms.alignment import RandomMisalignment


@pytest.fixture(scope='module')
def scenes():
    """Synthetic pairs by day, seen from one place."""
    return [render_scene(k, night=False, baseline=0) for k in range(4)]


def planted(img, dx, dy):
    """Cut so that what is at (x, y) shows at (x + dx, y + dy), without any border."""
    height, width = img.shape[:2]
    return img[16 - dy : height - 16 - dy, 16 - dx : width - 16 - dx]


def cut(img):
    return planted(img, 0, 0)


def texture(seed=0, size=(160, 200)):
    noise = np.random.default_rng(seed).random(size).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 2)


def test_edges_do_not_know_bright_from_dark_nor_scale():
    img = texture()
    edges = edge_map(img)
    assert edges.shape == (160, 200, 2)
    assert np.abs(edges).max() < 1
    np.testing.assert_allclose(edge_map(1 - img), edges, atol=1e-4)
    np.testing.assert_allclose(edge_map(5000 * img), edges, atol=1e-4)


def test_edges_hold_the_direction_as_a_double_angle():
    rows, columns = np.mgrid[:60, :60].astype(np.float32)
    for angle in (0.0, 0.5, 1.2, 2.0):
        ramp = np.cos(angle) * columns + np.sin(angle) * rows
        x, y = edge_map(ramp)[30, 30]
        np.testing.assert_allclose(np.arctan2(y, x), np.angle(np.exp(2j * angle)), 1e-4)
        assert np.hypot(x, y) == pytest.approx(1 / 3, abs=0.02)  # m / (m + 2 m)


@pytest.mark.parametrize('shift', [(0, 0), (6, -4), (-11, 15)])
def test_reversed_contrast_and_other_depth_give_the_shift(shift):
    img = texture()
    counts = (20000 - 9000 * img).astype(np.uint16)[..., None]
    found = measure_shift(cut(img), planted(counts, *shift), window=20)
    np.testing.assert_allclose(found.shift, shift, atol=0.05)
    assert found.reliable
    assert found.at_best > 0.9
    assert found.length == pytest.approx(np.hypot(*shift), abs=0.1)
    if any(shift):
        assert found.at_zero < found.at_best


@pytest.mark.parametrize('part', [0.25, 0.5, -0.4])
def test_fractions_of_a_pixel(part):
    img = texture()
    matrix = np.float32([[1, 0, 3 + part], [0, 1, -2]])
    shifted = cv2.warpAffine(img, matrix, img.shape[::-1], flags=cv2.INTER_CUBIC)
    found = measure_shift(cut(img), cut(shifted), window=16)
    np.testing.assert_allclose(found.shift, (3 + part, -2), atol=0.1)


def test_rgb_and_thermal_scenes(scenes):
    for scene in scenes:
        aligned = measure_shift(cut(scene.thermal8), cut(scene.rgb))
        assert aligned.reliable
        assert aligned.length < 1
        moved = measure_shift(cut(scene.thermal16), planted(scene.rgb, 6, -4))
        assert moved.reliable
        np.testing.assert_allclose(moved.shift, (6, -4), atol=1)


def test_it_measures_what_random_misalignment_records(scenes):
    scene = scenes[0]
    results = dict(
        modalities=('rgb', 'ir'), imgs=dict(rgb=scene.rgb, ir=scene.thermal8[..., None])
    )
    np.random.seed(5)  # noqa: NPY002
    out = RandomMisalignment(amount=10)(results)
    found = measure_shift(out['imgs']['ir'], out['imgs']['rgb'])
    np.testing.assert_allclose(found.shift, out['misalignment'][0]['shift'], atol=1)


def test_pairs_that_do_not_belong_together_are_not_believed(scenes):
    pairs = [(a, b) for a in scenes for b in scenes if a is not b]
    found = [measure_shift(a.thermal8, b.rgb) for a, b in pairs]
    assert np.mean([f.reliable for f in found]) <= 0.25


def test_pictures_without_edges_have_no_confidence():
    flat = np.full((160, 200), 7, np.uint8)
    for pair in ((flat, flat), (flat, texture()), (texture(), flat)):
        assert measure_shift(*pair).confidence == 0


def test_a_shift_beyond_the_window_is_not_believed():
    img = texture()
    found = measure_shift(cut(img), planted(img, 14, 0), window=8)
    assert not found.reliable


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(PairError, match=r'200x160 and 100x80'):
        measure_shift(texture(), texture(size=(80, 100)))
    with pytest.raises(PairError, match=r'200x160 images are too small .* up to 64'):
        measure_shift(texture(), texture(), window=64)
    broken = texture()
    broken[3, 3] = np.nan
    with pytest.raises(ValueError, match='NaN'):
        measure_shift(texture(), broken)


def test_files_are_measured_or_named(tmp_path, scenes):
    """A file with four channels, a smaller partner, a truncated one, a missing one."""
    scene = scenes[0]
    both = str(tmp_path / 'both.png')
    cv2.imwrite(both, np.dstack([scene.rgb, scene.thermal8]))
    found = measure_files(PairFiles(both, both, ((3, 4), (0, 3))))
    assert found == measure_shift(scene.thermal8, scene.rgb)

    small = str(tmp_path / 'small.png')
    cv2.imwrite(small, cv2.resize(scene.rgb, (320, 256), interpolation=cv2.INTER_AREA))
    files = PairFiles(both, small, ((3, 4), None))
    assert 'differ in size (width x height): 640x512 and 320x256' in measure_files(
        files
    )
    assert measure_files(files, resize=True).length < 1

    cut_off = tmp_path / 'cut.png'
    cut_off.write_bytes(b'\x89PNG')
    assert str(cut_off) in measure_files(PairFiles(both, str(cut_off)))
    assert 'is missing' in measure_files(PairFiles(both, str(tmp_path / 'no.png')))


def test_real_pairs_by_day(real_data):
    """A shift added to RGB is found; the pairs' own shifts are a few pixels."""
    names = sorted((real_data / 'street_pairs/train/RGB').glob('*.jpg'))
    seen = 0
    for path in names:
        rgb = cv2.imread(str(path))
        if rgb.mean() < 70:  # night
            continue
        folder = path.parents[1] / 'thermal_8_bit'
        ir = cv2.imread(str(folder / f'{path.stem}.jpeg'), cv2.IMREAD_GRAYSCALE)
        own = measure_shift(cut(ir), cut(rgb))
        if not own.reliable:
            continue
        moved = measure_shift(cut(ir), planted(rgb, 6, -4))
        assert own.length < 8
        difference = np.subtract(moved.shift, own.shift)
        np.testing.assert_allclose(difference, (6, -4), atol=1)
        seen += 1
        if seen == 8:
            break
    assert seen == 8
