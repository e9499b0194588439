"""Byte order is told from how smooth an image is."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmir.data.byte_order import bytes_swapped

FOLDERS = ('flir16_commons/raw16', 'flir16_commons/temp16', 'apple_rgbt/thermal16',
           'apple_rgbt/nir16')  # fmt: skip


def scene(seed=0, span=4000, noise=4.0, shape=(96, 120)):
    """Draw a slope with warm blobs and sensor noise."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[: shape[0], : shape[1]] / shape[1]
    heat = 0.3 * (rows + columns)
    for y, x, size in rng.uniform(0.1, 0.8, (4, 3)):
        heat += np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (0.1 * size) ** 2 / 2)
    heat /= heat.max()
    return np.rint(28000 + span * heat + rng.normal(0, noise, shape)).astype(np.uint16)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.integers(1000, 30000), st.sampled_from([1, 3]))
def test_swapped_scenes_are_found_and_others_not(seed, span, channels):
    counts = np.repeat(scene(seed, span)[..., None], channels, 2)
    for kind in (np.uint16, np.int32, np.float32):
        assert not bytes_swapped(counts.astype(kind))
        assert bytes_swapped(counts.byteswap().astype(kind))


@pytest.mark.parametrize('shift', range(1, 5))
def test_counts_aligned_to_the_left_are_not_swapped(shift):
    """14, 13 or 12 bits in the upper bits of 16."""
    assert not bytes_swapped((scene(span=3000) - 27900) << shift)


@pytest.mark.parametrize(
    'img',
    [
        np.full((9, 9), 29000, np.uint16),
        np.zeros((0, 4), np.uint16),
        np.zeros((5, 1), np.uint16),
        np.random.default_rng(0).integers(0, 65536, (90, 90)).astype(np.uint16),
        np.random.default_rng(0).normal(29050, 40, (90, 90)).astype(np.uint16),
        scene().view(np.uint8).reshape(96, 120, 2)[..., 0],  # 8 bits
        (scene() // 256).astype(np.uint16),  # 8 bits stored in 16, either way
        scene() // 256 * 256,
        scene().byteswap() / 100.0,  # degrees
        scene().byteswap().astype(np.float32) + 1e6,
        np.full((9, 9), np.nan, np.float32),
    ],
)
def test_what_cannot_be_judged_is_not_swapped(img):
    assert not bytes_swapped(img)


def test_real_files(real_data):
    """All 102: none is taken for swapped, and all are when they are."""
    files = [path for name in FOLDERS for path in (real_data / name).glob('*.png')]
    assert len(files) == 102
    for path in files:
        counts = cv2.imread(str(path), -1)
        assert counts.dtype == np.uint16
        assert not bytes_swapped(counts), path
        assert bytes_swapped(counts.byteswap()), path
