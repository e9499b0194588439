"""Listing of the images in a folder."""

from pathlib import Path

import pytest

from mmir.data.images import SUFFIXES, list_images


def test_images_of_a_folder_and_below_are_listed_in_order(tmp_path):
    names = ['b.PNG', 'a/c.tiff', 'a/b.jpeg', 'a/readme.txt', 'c.jpg.part']
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list_images(tmp_path) == [Path('a/b.jpeg'), Path('a/c.tiff'), Path('b.PNG')]


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r'image folder not found: .*none'):
        list_images(tmp_path / 'none')
    with pytest.raises(FileNotFoundError, match=rf'no images \({SUFFIXES[0]}, .* in '):
        list_images(tmp_path)
