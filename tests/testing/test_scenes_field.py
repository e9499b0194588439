"""Synthetic fields: labels, what the two images show, files."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mmir.testing.scenes.field import FIELD_CLASSES, render_field, write_field


def test_plants_are_dark_in_red_and_bright_in_near_infrared() -> None:
    red, nir, labels = render_field(3, (160, 120))
    assert red.shape == nir.shape == labels.shape == (120, 160)
    assert red.dtype == nir.dtype == labels.dtype == np.uint8
    assert set(np.unique(labels)) == {*range(len(FIELD_CLASSES))}
    soil, crop, weed = (labels == k for k in range(3))
    assert soil.mean() > 0.5
    assert crop.sum() > weed.sum()
    for leaf in (crop, weed):
        assert red[leaf].mean() < red[soil].mean() - 30
        assert nir[leaf].mean() > nir[soil].mean() + 50


def test_a_seed_is_a_field() -> None:
    same, other = render_field((0, 1), (96, 64)), render_field((0, 2), (96, 64))
    for a, b, c in zip(render_field((0, 1), (96, 64)), same, other, strict=True):
        assert np.array_equal(a, b)
        assert not np.array_equal(a, c)


def test_files_are_those_of_the_lists(tmp_path: Path) -> None:
    root = write_field(tmp_path / 'f', 2, 1, size=(96, 64), progress=False)
    assert (root / 'train.txt').read_text().split() == ['0001', '0002']
    assert (root / 'test.txt').read_text().split() == ['0003']
    for k, picture in enumerate(render_field((0, 2), (96, 64))):
        path = root / ('red', 'nir', 'label')[k] / '0003.png'
        assert np.array_equal(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), picture)
    assert write_field(root, 2, 1, size=(96, 64), progress=False) == root
    with pytest.raises(FileExistsError):
        write_field(root, 3, 1, size=(96, 64), progress=False)
