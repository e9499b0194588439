import logging

import cv2
import numpy as np
import pytest
from coco_files import image, write_image
from mmengine.dataset import BaseDataset, Compose
from mmengine.registry import TRANSFORMS

from mmir.data.images import ImageReadError, read_image
from mmir.transforms import LoadThermalImage


@pytest.mark.parametrize(
    ('suffix', 'dtype'),
    [
        ('.bmp', np.uint8),
        ('.png', np.uint8),
        ('.png', np.uint16),
        ('.tiff', np.uint8),
        ('.tiff', np.uint16),
    ],
)
@pytest.mark.parametrize('channels', [1, 3])
def test_grey_values_are_those_of_the_file(tmp_path, suffix, dtype, channels):
    raw = image(dtype=dtype)
    path = write_image(tmp_path / f'a{suffix}', raw)
    load = LoadThermalImage(channels=channels, bit_depth=8 * raw.itemsize)
    out = load({'img_path': str(path)})
    assert out['img'].dtype == dtype
    assert out['img'].shape == (*raw.shape, channels)
    assert out['img_shape'] == out['ori_shape'] == raw.shape
    for channel in range(channels):
        np.testing.assert_array_equal(out['img'][..., channel], raw)


def test_colour_and_alpha(tmp_path):
    colour = image(channels=4)
    path = str(write_image(tmp_path / 'a.png', colour))
    out = LoadThermalImage(channels=3)({'img_path': path})['img']
    np.testing.assert_array_equal(out, colour[..., :3])
    grey = LoadThermalImage(channels=1)({'img_path': path})['img'][..., 0]
    weights = np.array([0.114, 0.587, 0.299])  # BT.601, BGR order
    assert np.abs(grey - colour[..., :3] @ weights).max() <= 0.51


def test_grey_stored_as_colour_comes_back_exactly(tmp_path):
    raw = np.arange(256, dtype=np.uint8).reshape(16, 16)
    path = write_image(tmp_path / 'a.png', np.repeat(raw[..., None], 3, 2))
    out = LoadThermalImage(channels=1)({'img_path': str(path)})['img'][..., 0]
    np.testing.assert_array_equal(out, raw)


def test_depth_is_never_changed_silently(tmp_path):
    deep = image(dtype=np.uint16)
    path = str(write_image(tmp_path / 'deep.tiff', deep))
    with pytest.raises(ImageReadError, match=r'deep\.tiff holds uint16.*bit_depth=16'):
        LoadThermalImage()({'img_path': path})
    out = LoadThermalImage(to_float32=True, channels=1)({'img_path': path})['img']
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out[..., 0], deep)
    shallow = str(write_image(tmp_path / 'shallow.png'))
    with pytest.raises(ImageReadError, match=r'shallow\.png holds uint8.*bit_depth=8'):
        LoadThermalImage(bit_depth=16)({'img_path': shallow})


def test_16_bit_pipeline(tmp_path):
    deep = image(dtype=np.uint16)
    path = str(write_image(tmp_path / 'deep.png', deep))
    low, high = int(deep.min()), int(deep.max())
    pipeline = Compose(
        [
            {'type': 'LoadThermalImage', 'bit_depth': 16},
            {'type': 'ThermalToUint8', 'mode': 'range', 'low': low, 'high': high},
        ]
    )
    out = pipeline({'img_path': path})['img']
    assert out.dtype == np.uint8
    assert out.shape == (*deep.shape, 3)
    assert (out.min(), out.max()) == (0, 255)


def broken_files(folder):
    """Write one file per defect; yield it with a word of the message."""
    yield folder / 'absent.png', 'missing'
    empty = folder / 'empty.png'
    empty.write_bytes(b'')
    yield empty, 'empty'
    text = folder / 'text.jpeg'
    text.write_text('not found')
    yield text, 'not an image'
    for suffix, dtype in (
        ('.jpg', np.uint8),
        ('.png', np.uint16),
        ('.tiff', np.uint16),
    ):
        path = write_image(folder / f'cut{suffix}', image(64, 64, dtype))
        path.write_bytes(path.read_bytes()[:-20])
        yield path, 'truncated'


def test_broken_files_are_named(tmp_path):
    for path, word in broken_files(tmp_path):
        with pytest.raises(ImageReadError, match=f'{word}.*{path.name}|{path.name}'):
            LoadThermalImage(to_float32=True)({'img_path': str(path)})
        with pytest.raises(ImageReadError, match=word):
            read_image(str(path))


def test_skip_counts_and_warns(tmp_path, caplog, monkeypatch):
    lines = []
    monkeypatch.setattr(
        'mmir.transforms.loading.print_log', lambda text, **kw: lines.append((text, kw))
    )
    load = LoadThermalImage(on_error='skip')
    results = [load({'img_path': str(p)}) for p, _ in broken_files(tmp_path)]
    assert results == [None] * 6
    assert load.skipped == 6
    assert 'absent.png' in lines[0][0]
    assert 'skipped image 6' in lines[5][0]
    assert lines[0][1]['level'] == logging.WARNING


def test_a_dataset_fetches_another_image_for_a_skipped_one(tmp_path):
    good = str(write_image(tmp_path / 'good.png'))

    class TwoImages(BaseDataset):
        def load_data_list(self):
            return [{'img_path': str(tmp_path / 'absent.png')}, {'img_path': good}]

    pipeline = [{'type': 'LoadThermalImage', 'on_error': 'skip'}]
    dataset = TwoImages(pipeline=pipeline)
    np.random.seed(0)  # noqa: NPY002  mmengine draws the other image from it
    assert dataset[0]['img_path'] == good


def test_size_must_be_that_of_the_annotation(tmp_path):
    path = str(write_image(tmp_path / 'a.png'))
    info = {'img_path': path, 'height': 32, 'width': 40}
    assert LoadThermalImage()(dict(info))['img_shape'] == (32, 40)
    with pytest.raises(ImageReadError, match=r'a\.png is 40x32 .* says 80x32'):
        LoadThermalImage()({**info, 'width': 80})


@pytest.mark.parametrize(
    'kwargs', [{'channels': 2}, {'bit_depth': 14}, {'on_error': 'ignore'}]
)
def test_unknown_options(kwargs):
    (name,) = kwargs
    with pytest.raises(ValueError, match=f'{name} must be one of'):
        LoadThermalImage(**kwargs)


def test_real_images(real_data):
    load = TRANSFORMS.build({'type': 'LoadThermalImage', 'channels': 1})
    folder = real_data / 'street_pairs' / 'train'
    thermal = str(folder / 'thermal_8_bit' / 'FLIR_00001.jpeg')
    reference = cv2.imread(thermal, cv2.IMREAD_GRAYSCALE)
    out = load({'img_path': thermal, 'height': 480, 'width': 640})['img']
    np.testing.assert_array_equal(out[..., 0], reference)
    rgb = str(folder / 'RGB' / 'FLIR_00001.jpg')
    out = LoadThermalImage()({'img_path': rgb})['img']
    np.testing.assert_array_equal(out, cv2.imread(rgb))
    for path in (real_data / 'flir16_commons' / 'raw16').glob('*.png'):
        out = LoadThermalImage(1, bit_depth=16)({'img_path': str(path)})['img']
        assert out.max() > 255
