"""Blending of two images against closed forms."""

import colorsys

import cv2
import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmir.visualization.color_maps import (
    COLOR_MAPS,
    color_table,
    is_gray,
    stretch,
    to_display,
)
from mmir.visualization.pairs import (
    MODES,
    absent_panel,
    checkerboard,
    compose,
    false_color,
    overlay,
    side_by_side,
    stacked,
    titled,
)

RNG = np.random.default_rng(0)


def picture(height: int = 20, width: int = 30, low: int = 0, high: int = 256):
    return RNG.integers(low, high, (height, width, 3), dtype=np.uint8)


def luminance(rgb: np.ndarray) -> np.ndarray:
    return rgb @ np.array([0.299, 0.587, 0.114])


@given(st.floats(0, 1))
@settings(max_examples=20, deadline=None)
def test_overlay_is_the_weighted_mean(alpha: float) -> None:
    first, second = picture(), picture()
    mixed = overlay(first, second, alpha)
    expected = (1 - alpha) * first.astype(float) + alpha * second
    assert np.abs(mixed - expected).max() <= 0.5 + 1e-4
    assert np.array_equal(overlay(first, second, 0), first)
    assert np.array_equal(overlay(first, second, 1), second)


@given(st.integers(1, 40), st.integers(1, 25), st.integers(1, 25))
@settings(max_examples=30, deadline=None)
def test_checkerboard_takes_every_pixel_from_one(tile: int, h: int, w: int) -> None:
    first, second = picture(h, w, 0, 100), picture(h, w, 150, 256)
    board = checkerboard(first, second, tile)
    for y in range(h):
        for x in range(w):
            source = second if (y // tile + x // tile) % 2 else first
            assert np.array_equal(board[y, x], source[y, x])


def test_false_color_keeps_brightness_and_takes_the_hue() -> None:
    first = np.stack([RNG.integers(110, 140, (20, 30), dtype=np.uint8)] * 3, 2)
    second = np.full((20, 30, 3), (150, 120, 110), np.uint8)
    mixed = false_color(first, second)
    assert np.abs(luminance(mixed) - luminance(first)).max() < 2
    hue = [colorsys.rgb_to_hsv(*pixel)[0] for pixel in mixed.reshape(-1, 3) / 255]
    wanted = colorsys.rgb_to_hsv(150 / 255, 120 / 255, 110 / 255)[0]
    assert np.abs(np.array(hue) - wanted).max() < 0.03


def test_rows_and_columns_keep_the_pixels() -> None:
    one, two = picture(20, 30), picture(12, 8)
    row = side_by_side([one, two])
    assert row.shape == (20, 30 + 4 + 8, 3)
    assert np.array_equal(row[:, :30], one)
    assert np.array_equal(row[:12, -8:], two)
    assert not row[12:, -8:].any()
    assert not row[:, 30:34].any()
    column = stacked([one, two])
    assert column.shape == (20 + 4 + 12, 30, 3)
    assert np.array_equal(column[-12:, :8], two)
    named = titled(one, 'rgb')
    assert np.array_equal(named[-20:], one)
    assert (named[:-20] > 150).any()  # the letters


def test_an_absent_modality_is_named_and_unlike_a_black_image() -> None:
    panel = absent_panel((60, 200), 'ir')
    assert panel.shape == (60, 200, 3)
    assert panel.min() > 20
    assert (panel > 200).sum() > 50
    assert not np.array_equal(panel, absent_panel((60, 200), 'rgb'))


def test_compose_makes_the_panels_asked_for() -> None:
    pictures = {'rgb': picture(), 'ir': picture(), 'nir': picture()}
    panels = compose(pictures, MODES, alpha=0.25, tile=5)
    first, second = pictures['rgb'], pictures['ir']
    assert list(panels) == [
        'rgb', 'ir', 'nir', 'rgb + ir', 'rgb in colors of ir', 'rgb | ir',
    ]  # fmt: skip
    assert np.array_equal(panels['rgb + ir'], overlay(first, second, 0.25))
    assert np.array_equal(panels['rgb | ir'], checkerboard(first, second, 5))
    # with one camera there is nothing to mix
    assert list(compose({'ir': second}, ['overlay', 'checkerboard'])) == ['ir']


@pytest.mark.parametrize(
    ('wrong', 'message'),
    [
        (lambda a: overlay(a, a[:5]), r'same size.*\(20, 30, 3\) and \(5, 30, 3\)'),
        (lambda a: overlay(a, a, 1.5), r'alpha must be in 0\.\.1, got 1\.5'),
        (lambda a: checkerboard(a, a, 0), 'tile must be at least 1 px, got 0'),
        (lambda a: compose({'a': a, 'b': a}, ['blend']), "one of .*, got 'blend'"),
        (lambda a: compose({}), 'no picture'),
        (lambda a: color_table('iron'), "one of .*ironbow.*, got 'iron'"),
    ],
)
def test_bad_input_is_named(wrong, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong(picture())


@pytest.mark.parametrize('name', ['inferno', 'viridis'])
def test_palettes_equal_those_of_matplotlib(name: str) -> None:
    theirs = matplotlib.colormaps[name](np.arange(256), bytes=True)[:, :3].astype(int)
    assert np.abs(color_table(name) - theirs).max() <= 2


@pytest.mark.parametrize('shape', [(256, 1, 3), (1, 256, 3), (256, 3)])
def test_palettes_do_not_depend_on_the_shape_that_opencv_returns(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    """Of OpenCV 4, of OpenCV 5 for a ramp of one dimension, and without columns."""
    theirs = cv2.applyColorMap

    def reshaped(ramp: np.ndarray, kind: int) -> np.ndarray:
        return theirs(ramp, kind).reshape(shape)

    color_table.cache_clear()
    expected = color_table('jet')
    color_table.cache_clear()
    monkeypatch.setattr(cv2, 'applyColorMap', reshaped)
    table = color_table('jet')
    color_table.cache_clear()
    assert table.shape == (256, 3)
    assert np.array_equal(table, expected)
    # cold is blue, hot is red
    assert table[0].tolist()[:2] == [0, 0]
    assert table[0, 2] > 100
    assert table[-1].tolist()[1:] == [0, 0]
    assert table[-1, 0] > 100


def test_jet_is_three_trapezoids() -> None:
    x = np.linspace(0, 1, 256)[:, None]
    expected = 255 * np.clip(1.5 - np.abs(4 * x - [3, 2, 1]), 0, 1)
    assert np.abs(color_table('jet') - expected).max() <= 3


def test_hot_is_light_in_all_palettes_but_black_hot_and_jet() -> None:
    ramp = np.arange(256)
    for name in COLOR_MAPS:
        steps = np.diff(luminance(color_table(name).astype(float)))
        if name not in ('black-hot', 'jet'):
            assert (steps > -0.75).all(), name  # a step of 1 in 8 bits
            assert luminance(color_table(name)[-1]) > 200 > 40 > steps[0]
    assert np.array_equal(color_table('white-hot')[:, 1], ramp)
    assert np.array_equal(color_table('black-hot')[:, 1], 255 - ramp)
    with pytest.raises(ValueError, match='read-only'):
        color_table('ironbow')[0] = 1


def test_values_of_8_bits_are_shown_as_they_are() -> None:
    bgr = picture()
    assert np.array_equal(to_display(bgr, 'jet'), bgr[..., ::-1])
    assert np.array_equal(to_display(bgr.astype(np.float32)), bgr[..., ::-1])
    grey = bgr[..., :1]
    assert np.array_equal(to_display(grey, 'jet'), color_table('jet')[grey[..., 0]])
    # three times the same plane is a thermal image too
    assert np.array_equal(
        to_display(np.repeat(grey, 3, 2), 'jet'), to_display(grey[..., 0], 'jet')
    )
    assert is_gray(np.repeat(grey, 3, 2))
    assert not is_gray(bgr)


@pytest.mark.parametrize('kind', [np.uint16, np.float32])
def test_more_bits_are_stretched_between_percentiles(kind: type) -> None:
    counts = np.linspace(29000, 31000, 101 * 100).reshape(101, 100, 1).astype(kind)
    low, high = np.percentile(counts, (1, 99))
    expected = np.clip((counts.astype(float) - low) / (high - low), 0, 1) * 255
    assert np.abs(to_display(counts)[..., :1] - expected).max() <= 0.51
    assert to_display(counts).max() == 255
    assert not to_display(np.full((4, 4, 1), 30000, kind)).any()


def test_pixels_without_value_do_not_spoil_the_stretch() -> None:
    img = np.linspace(280, 300, 10000).reshape(100, 100)
    broken = img.copy()
    broken[0, :3] = np.nan, np.inf, -np.inf
    assert np.abs(stretch(broken)[1:].astype(int) - stretch(img)[1:]).max() <= 1
    assert not stretch(broken)[0, :3].any()
    assert not stretch(np.full((3, 3), np.nan)).any()
    assert stretch(np.arange(100, dtype=np.uint8).reshape(10, 10)).max() == 255


def test_real_16_bit_images_fill_the_greys(real_data) -> None:
    from mmir.data.images import read_image

    files = sorted((real_data / 'flir16_commons/raw16').iterdir())[:4]
    for path in files:
        shown = to_display(read_image(str(path)), 'inferno')
        assert shown.dtype == np.uint8
        assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 30, path.name
