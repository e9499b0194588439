"""Reading of image files: orientation, pages, sample types, and what cannot be read."""

import io
import os
import socket
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
from coco_files import image, write_image
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import Compose
from PIL import Image
from tiff_files import write_tiff

from mmir.data.images import ImageFormatError, ImageReadError, read_image
from mmir.data.orientation import orientation
from mmir.data.tiff import read_pages
from mmir.transforms import LoadPairedImages, LoadThermalImage, ThermalToUint8

TURN = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}
"""What each EXIF orientation does to the stored pixels, by the standard."""


def corner(dtype, planes=1):
    """Image (24, 40) or (24, 40, planes) whose eight orientations all differ."""
    img = np.zeros((24, 40), dtype)
    img[:8, :24], img[:16, :8] = 50 * (257 if dtype == np.uint16 else 1), 200
    return img if planes == 1 else np.dstack([img // (k + 1) for k in range(planes)])


def write_oriented(path, img, value):
    """Write RGB(A) or grayscale pixels with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = value
    options = dict(exif=exif)
    if path.suffix == '.tiff':
        options = dict(tiffinfo={0x0112: value})
    if path.suffix == '.jpg':
        options |= dict(quality=100, subsampling=0)
    Image.fromarray(img).save(path, **options)
    return str(path)


@pytest.mark.parametrize('value', range(1, 9))
@pytest.mark.parametrize(
    ('suffix', 'dtype', 'planes'),
    [
        ('.jpg', np.uint8, 1),
        ('.jpg', np.uint8, 3),
        ('.png', np.uint8, 3),
        ('.png', np.uint8, 4),
        ('.png', np.uint16, 1),
        ('.tiff', np.uint8, 3),
        ('.tiff', np.uint16, 1),
        ('.tiff', np.int32, 1),
    ],
)
def test_images_are_read_as_displayed(tmp_path, suffix, dtype, planes, value):
    img = corner(dtype, planes)
    path = write_oriented(tmp_path / f'a{suffix}', img, value)
    stored = img if planes == 1 else img[..., [2, 1, 0, 3][:planes]]
    out = read_image(path)
    near = 3 if suffix == '.jpg' else 0
    assert out.dtype == dtype
    assert out.flags['C_CONTIGUOUS']
    np.testing.assert_allclose(out.astype(int), TURN[value](stored), atol=near)
    if dtype == np.uint8:  # the pixels that the hosts' loaders see
        data = np.fromfile(path, np.uint8)
        host = cv2.imdecode(data, cv2.IMREAD_COLOR)
        shown = LoadThermalImage()({'img_path': path})['img']
        np.testing.assert_array_equal(shown, host)


@pytest.mark.parametrize('dtype', [np.uint32, np.float32, np.float64])
def test_tiff_of_every_sample_type_is_oriented(tmp_path, dtype):
    img = corner(np.uint8).astype(dtype)
    path = write_tiff(tmp_path / 'a.tiff', img, tags={274: 6})
    np.testing.assert_array_equal(read_image(str(path)), np.rot90(img, -1))


def test_orientation_of_png_after_its_pixels(tmp_path):
    path = write_oriented(tmp_path / 'a.png', corner(np.uint8), 6)
    data = Path(path).read_bytes()
    place = data.index(b'eXIf') - 4
    end = place + 12 + int.from_bytes(data[place : place + 4], 'big')
    last = data.index(b'IEND') - 4
    moved = data[:place] + data[end:last] + data[place:end] + data[last:]
    Path(path).write_bytes(moved)
    out = read_image(path)
    np.testing.assert_array_equal(out, cv2.imread(path, cv2.IMREAD_GRAYSCALE))
    np.testing.assert_array_equal(out, np.rot90(corner(np.uint8), -1))


def test_orientation_of_an_embedded_picture_is_not_that_of_the_image(tmp_path):
    """Thermal JPEG files hold the visible picture, with its own EXIF block."""
    inner = Path(write_oriented(tmp_path / 'in.jpg', corner(np.uint8), 6)).read_bytes()
    outer = cv2.imencode('.jpg', corner(np.uint8))[1].tobytes()
    segment = b'FLIR\0' + inner
    size = (len(segment) + 2).to_bytes(2, 'big')
    data = outer[:2] + b'\xff\xe1' + size + segment + outer[2:]
    assert orientation(data) == 1
    (tmp_path / 'out.jpg').write_bytes(data)
    assert read_image(str(tmp_path / 'out.jpg')).shape == (24, 40)


def test_annotated_size_is_the_displayed_one(tmp_path):
    path = write_oriented(tmp_path / 'a.jpg', corner(np.uint8), 6)
    info = {'img_path': path, 'height': 40, 'width': 24}
    assert LoadThermalImage()(info)['img_shape'] == (40, 24)
    with pytest.raises(ImageFormatError, match=r'a\.jpg is 24x40 .* says 40x24'):
        LoadThermalImage()({'img_path': path, 'height': 24, 'width': 40})


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300), st.sampled_from([b'II*\0', b'MM\0*', b'II+\0\x08\0']))
def test_broken_tags_neither_crash_nor_hang(junk, sign):
    read_pages(sign + junk)
    for start in (b'\xff\xd8\xff\xe1\1\0Exif\0\0', b'\x89PNG\r\n\x1a\n\0\0\1\0eXIf'):
        assert 1 <= orientation(start + sign + junk) <= 8


COUNTS = np.arange(24 * 40).reshape(24, 40) * 17 % 4096


@pytest.mark.parametrize(
    'dtype',
    ['<i1', '<i2', '>i2', '<i4', '>i4', '<u4', '>u4', '<f4', '>f4', '<f8', '>f8'],
)
@pytest.mark.parametrize('depth', [8, 16])
def test_advice_for_other_sample_types_works(tmp_path, dtype, depth):
    order, dtype = dtype[0], np.dtype(dtype).newbyteorder('=').name
    counts = (COUNTS // 40 - 20 * (dtype[0] != 'u')).astype(dtype)
    path = str(write_tiff(tmp_path / 'a.tiff', counts, order))
    with pytest.raises(ImageFormatError) as caught:
        LoadThermalImage(bit_depth=depth)({'img_path': path})
    text = str(caught.value)
    assert f'{path} holds {dtype}, not uint{depth}' in text
    assert 'to_float32=True in LoadThermalImage' in text
    assert 'add ThermalToUint8' in text
    assert 'bit_depth=' not in text
    load = LoadThermalImage(channels=1, to_float32=True)
    np.testing.assert_array_equal(load({'img_path': path})['img'][..., 0], counts)
    out = Compose([load, ThermalToUint8()])({'img_path': path})['img']
    assert (out.dtype, out.min(), out.max()) == (np.uint8, 0, 255)
    pair = LoadPairedImages(dict(rgb={}, ir=dict(channels=1, to_float32=True)))
    rgb = str(write_image(tmp_path / 'rgb.png', image(24, 40, channels=3)))
    imgs = pair({'img_paths': {'rgb': rgb, 'ir': path}})['imgs']
    np.testing.assert_array_equal(imgs['ir'][..., 0], counts)


@pytest.mark.parametrize('bits', [10, 12, 14])
def test_packed_samples_keep_their_values(tmp_path, bits):
    counts = (COUNTS % (1 << bits)).astype(np.uint16)
    path = str(write_tiff(tmp_path / 'a.tiff', counts, packed=bits))
    out = LoadThermalImage(channels=1, bit_depth=16)({'img_path': path})['img']
    np.testing.assert_array_equal(out[..., 0], counts)


def test_one_bit_images_are_black_and_white(tmp_path):
    mask = COUNTS.astype(np.uint16) & 1
    tiff = write_tiff(tmp_path / 'a.tiff', mask, packed=1)
    Image.fromarray(mask.astype(bool)).save(tmp_path / 'a.png')
    for path in (tiff, tmp_path / 'a.png'):
        out = LoadThermalImage(channels=1)({'img_path': str(path)})['img'][..., 0]
        np.testing.assert_array_equal(out, mask * 255)


@pytest.mark.parametrize('dtype', ['<float16', '>int64', '<uint64'])
def test_whole_file_that_cannot_be_read_is_not_called_truncated(tmp_path, dtype):
    order, dtype = dtype[0], dtype[1:]
    path = write_tiff(tmp_path / 'a.tiff', COUNTS.astype(dtype), order)
    bits, kind = 8 * np.dtype(dtype).itemsize, dict(f='float', i='signed', u='unsigned')
    with pytest.raises(ImageFormatError) as caught:
        read_image(str(path))
    assert f'a.tiff holds {bits}-bit {kind[dtype[0]]}' in str(caught.value)
    assert 'truncated' not in str(caught.value)
    deep = COUNTS.astype(np.float32)  # as the message says
    again = write_tiff(tmp_path / 'b.tiff', deep)
    np.testing.assert_array_equal(read_image(str(again)), deep)
    path.write_bytes(path.read_bytes()[: COUNTS.nbytes // 8])
    with pytest.raises(ImageReadError, match='truncated'):
        read_image(str(path))


def test_file_that_is_no_image_is_said_to_be_what_it_is(tmp_path):
    path = tmp_path / 'a.jpg'
    for text, what in (
        ('version https://git-lfs.github.com/spec/v1\noid sha256:0', 'git lfs pull'),
        ('\n<!DOCTYPE html><html>404', 'web page'),
        ('hello', 'not an image'),
    ):
        path.write_text(text)
        with pytest.raises(ImageReadError, match=rf'{what}.*: .*a\.jpg'):
            read_image(str(path))


def test_pages_of_a_tiff_are_planes(tmp_path):
    pages = [(COUNTS + k).astype(np.uint16) for k in range(4)]
    path = str(write_tiff(tmp_path / 'a.tiff', pages))
    with pytest.raises(
        ImageFormatError, match=r'a\.tiff holds 4 pages.*planes=\(0, 1\)'
    ):
        LoadThermalImage(bit_depth=16)({'img_path': path})
    for k in range(4):
        load = LoadThermalImage(1, 16, planes=(k, k + 1))
        np.testing.assert_array_equal(load({'img_path': path})['img'][..., 0], pages[k])
    three = LoadThermalImage(3, 16, planes=(1, 4))({'img_path': path})['img']
    np.testing.assert_array_equal(three, np.dstack(pages[1:]))
    with pytest.raises(ImageFormatError, match=r'holds 4 planes, but planes=\(4, 5\)'):
        LoadThermalImage(1, 16, planes=(4, 5))({'img_path': path})
    pair = LoadPairedImages(
        dict(
            rgb=dict(planes=(0, 3), bit_depth=16),
            ir=dict(planes=(3, 4), channels=1, bit_depth=16),
        )
    )
    imgs = pair({'img_path': path})['imgs']
    np.testing.assert_array_equal(imgs['ir'][..., 0], pages[3])


def test_values_of_uint32_pages_beyond_int32(tmp_path):
    pages = [np.full((4, 6), value, np.uint32) for value in (2**32 - 1, 7)]
    path = str(write_tiff(tmp_path / 'a.tiff', pages, '>'))
    for k, page in enumerate(pages):
        out = read_image(path, planes=(k, k + 1))
        assert out.dtype == np.uint32
        np.testing.assert_array_equal(out[..., 0], page)


def test_thumbnails_are_no_pages(tmp_path):
    full, small = COUNTS.astype(np.uint16), COUNTS[::4, ::4].astype(np.uint16)
    for pages, tags in (
        ([full, small], [{}, {254: 1}]),
        ([full, small, full // 2], [{254: 0}, {255: 2}, {254: 4}]),
        ([small, full], [{254: 1}, {}]),
    ):
        path = write_tiff(tmp_path / 'a.tiff', pages, tags=tags)
        np.testing.assert_array_equal(read_image(str(path)), full)
    raw = write_tiff(tmp_path / 'raw.tiff', small, tags={254: 1, 330: 8})
    with pytest.raises(ImageFormatError, match=r'raw\.tiff .* only a preview'):
        read_image(str(raw))


@pytest.mark.timeout(30)
def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / 'pipe.png')
    address = socket.socket(socket.AF_UNIX)
    address.bind(os.path.relpath(tmp_path / 'socket.png'))
    (tmp_path / 'folder.png').mkdir()
    (tmp_path / 'link.png').symlink_to('/dev/zero')
    names = ['pipe.png', 'socket.png', 'folder.png', 'link.png', '/dev/zero']
    before = threading.active_count()
    for name in names:
        with pytest.raises(ImageReadError, match=rf'no regular file.*{name}'):
            read_image(str(tmp_path / name))
        assert LoadThermalImage(on_error='skip')({'img_path': name}) is None
    assert threading.active_count() == before
    address.close()


def test_links_to_images_are_followed(tmp_path):
    path = write_image(tmp_path / 'real.png', image())
    (tmp_path / 'link.png').symlink_to(path)
    np.testing.assert_array_equal(read_image(str(tmp_path / 'link.png')), image())


def test_orientation_costs_next_to_nothing():
    """Files without EXIF, the common case, are not searched but for their header."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (480, 640), np.uint8)
    picture = io.BytesIO()
    Image.fromarray(pixels).save(picture, 'JPEG')
    data = picture.getvalue()

    class Counting(bytes):
        read = 0

        def __getitem__(self, key):
            part = super().__getitem__(key)
            Counting.read += len(part) if isinstance(part, bytes) else 1
            return part

    assert orientation(Counting(data)) == 1
    assert Counting.read < 200
