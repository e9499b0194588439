"""What is said of label maps that cannot be used."""

import cv2
import numpy as np
import pytest
from PIL import Image

from mmir.data.images import ImageReadError
from mmir.data.label_maps import (
    color_fault,
    depth_fault,
    gray_mask,
    read_label_map,
    strange_fault,
    unlearnable,
)


def test_decoders_keep_or_expand_palettes(tmp_path):
    path = tmp_path / 'a.png'
    indices = np.arange(6, dtype=np.uint8).reshape(2, 3)
    picture = Image.fromarray(indices, 'P')
    picture.putpalette([k for n in range(256) for k in (n, 255 - n, 7)])
    picture.save(path)
    assert np.array_equal(read_label_map(str(path)), indices)
    colors = read_label_map(str(path), 'cv2')
    assert colors.shape == (2, 3, 3)
    assert colors[1, 2].tolist() == [7, 250, 5]  # BGR
    assert "imdecode_backend='pillow'" in color_fault(colors, indices=True)


@pytest.mark.parametrize('backend', ['pillow', 'cv2'])
@pytest.mark.parametrize('content', [b'', b'no image', None])
def test_files_that_cannot_be_read(tmp_path, backend, content):
    path = tmp_path / 'a.png'
    cv2.imwrite(str(path), np.eye(64, dtype=np.uint8))
    whole = path.read_bytes()
    path.write_bytes(whole[:50] if content is None else content)
    with pytest.raises(ImageReadError, match=r'a\.png'):
        read_label_map(str(path), backend)
    with pytest.raises(ImageReadError, match=r'is missing: .*b\.png'):
        read_label_map(str(tmp_path / 'b.png'), backend)


def test_colors():
    planes = np.zeros((2, 2, 3), np.uint8)
    assert color_fault(planes) == '3 equal planes: store one of them'
    planes[0, 0] = 255, 0, 0
    assert color_fault(planes).startswith('3 planes, 2 colors: store the index')


@pytest.mark.parametrize(
    ('kind', 'values', 'said'),
    [
        (np.uint8, [0, 255], ''),
        (bool, [0, 1], ''),
        (np.uint16, [0, 1, 255], ''),
        (np.uint16, [1, 256, 7000], 'uint16: mmseg would keep only the lowest 8 bits, '
         '256 becomes 0, 7000 becomes 88;'),
        (np.int32, [-1, 3], 'int32: mmseg would keep only the lowest 8 bits, '
         '-1 becomes 255;'),
        (np.float32, [0, 1, 2], ''),
        (np.float32, [0.5, 2], 'float32: mmseg would keep only the lowest 8 bits, '
         '0.5 becomes 0;'),
    ],
)  # fmt: skip
def test_values_beyond_8_bits(kind, values, said):
    text = depth_fault(np.array([values], kind))
    assert text.startswith(said)
    assert bool(text) == bool(said)


def test_strange_values_are_counted():
    values, counts = np.arange(7) + 40, np.arange(7) + 1
    assert (
        strange_fault(values[:2], counts[:2], 9)
        == '40 in 1 pixels, 41 in 2 pixels; of 9'
    )
    assert strange_fault(values, counts, 9).endswith(
        '44 in 5 pixels and 2 more values; of 9'
    )


@pytest.mark.parametrize(
    ('values', 'by_class', 'ignored', 'said'),
    [
        ([0, 255], [900, 0], 100, '100 pixels are 255 and all others 0'),
        ([0, 255], [900, 0, 0], 100, 'LoadSaliencyMask'),
        ([255], [0, 0], 100, 'all 100 pixels are ignored'),
        ([0, 255], [0, 0], 1000, 'all 1000 pixels are ignored'),  # zero left out
        ([0, 1, 255], [900, 5], 95, ''),
        ([0, 1, 255], [5, 0], 95, ''),  # zero left out, one class of two
        ([0], [1000, 0], 0, ''),
        ([0, 1], [999, 1], 0, ''),
        ([0, 255], [900], 100, ''),  # one class
        ([0, 255], [900, 100], 0, ''),  # 255 is made class 1 by the pipeline
    ],
)
def test_maps_that_teach_nothing(values, by_class, ignored, said):
    text = unlearnable(values, by_class, ignored)
    assert said in text
    assert bool(text) == bool(said)


def test_masks_of_any_planes_become_gray():
    mask = np.array([[10, 200]], np.uint8)
    assert np.array_equal(gray_mask(mask), mask)
    for planes in ([mask] * 3, [mask] * 3 + [mask * 0], [mask, mask * 0]):
        assert np.array_equal(gray_mask(cv2.merge(planes)), mask)
