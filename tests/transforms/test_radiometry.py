import json

import cv2
import numpy as np
import pytest
import torch
from coco_files import write_image
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import Compose
from mmengine.registry import TRANSFORMS

from mmir.data.images import read_image
from mmir.transforms import OnModality, ThermalToUint8
from mmir.transforms.radiometry import RadiometricScale


def degrees(img, **kwargs):
    return RadiometricScale(**kwargs)({'img': np.asarray(img)})['img']


@pytest.mark.parametrize(
    ('kwargs', 'count', 'expected'),
    [
        # FLIR TLinear in both resolutions, centikelvin: 26.85 degrees Celsius
        (dict(gain=0.04), 7500, 300.0),
        (dict(gain=0.01), 30000, 300.0),
        (dict(gain=0.04, unit='celsius'), 7500, 26.85),
        (dict(gain=0.01, offset=-273.15, file_unit='celsius'), 30000, 300.0),
        (dict(gain=0.1, offset=-40, file_unit='celsius', unit='celsius'), 668, 26.8),
        (dict(gain=1, offset=273.15, unit='celsius'), 21.5, 21.5),
    ],
)
def test_degrees_of_known_scales(kwargs, count, expected):
    for shape in ((2, 3), (2, 3, 1), (2, 3, 3)):
        kind = np.uint16 if isinstance(count, int) else np.float32
        out = degrees(np.full(shape, count, kind), **kwargs)
        assert out.dtype == np.float32
        assert out.shape == shape
        np.testing.assert_array_equal(out, np.float32(expected))


@settings(max_examples=50, deadline=None)
@given(st.integers(18000, 40000), st.sampled_from(['kelvin', 'celsius']))
def test_every_centikelvin_keeps_its_count(count, unit):
    """Float32 is fine enough to get the count back."""
    out = degrees(np.array([[count]], np.uint16), gain=0.01, unit=unit)
    back = (out.astype(float) + (273.15 if unit == 'celsius' else 0)) * 100
    assert abs(back - count).max() < 0.01


def test_scale_of_each_image():
    transform = RadiometricScale(gain='ir_gain', offset='ir_offset')
    img = np.full((2, 2), 7500, np.uint16)
    sample = {'img': img, 'ir_gain': 0.04, 'ir_offset': 2, 'img_path': 'a.tiff'}
    assert transform(dict(sample))['img'].tolist() == [[302.0, 302.0]] * 2
    del sample['ir_offset']
    with pytest.raises(
        KeyError, match=r"a\.tiff has no key 'ir_offset' for its offset"
    ):
        transform(sample)


def test_counts_of_the_image_are_not_written_to():
    img = np.full((2, 2), 300, np.float32)
    degrees(img, gain=1, unit='celsius')
    assert (img == 300).all()


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(gain=0.01, unit='fahrenheit'), "unit must be one of .* got 'fahrenheit'"),
        (dict(gain=0.01, file_unit='K'), 'file_unit must be one of'),
        (dict(gain=0), 'gain of 0'),
        (dict(gain=1, plausible=(400, 200)), 'plausible=.* reversed'),
    ],
)
def test_wrong_options(kwargs, message):
    with pytest.raises(ValueError, match=message):
        RadiometricScale(**kwargs)


def test_wrong_scales_and_values_are_named():
    """The two gains of TLinear mixed up, raw counts, an 8-bit rendering."""
    for count, gain in ((7500, 0.01), (8000, 0.4), (128, 0.04)):
        sample = {'img': np.full((2, 2), count), 'img_path': 'hot.tiff'}
        with pytest.raises(
            ValueError, match=r'gain=.* median of hot\.tiff is .* K, not'
        ):
            RadiometricScale(gain=gain)(sample)
    out = degrees(np.full((2, 2), 7500), gain=0.01, plausible=(50, 100))
    np.testing.assert_allclose(out, 75)
    with pytest.raises(ValueError, match='RadiometricScale: image holds NaN'):
        degrees([[np.nan]], gain=1)


def test_range_in_degrees_equals_range_in_counts():
    counts = np.arange(26000, 34000, 7, dtype=np.uint16)[None]
    pipeline = Compose(
        [
            dict(type='RadiometricScale', gain=0.01, unit='celsius'),
            dict(type='ThermalToUint8', mode='range', low=0, high=50),
        ]
    )
    grey = pipeline({'img': counts})['img']
    direct = ThermalToUint8('range', low=27315, high=32315)({'img': counts})['img']
    differing = grey != direct
    assert np.abs(grey.astype(int) - direct).max() <= 1
    assert differing.mean() < 0.01  # ties, by the last bit of float32


PREPROCESSORS = {
    'mmdet': ('mmir.PairedDetDataPreprocessor', 'mmdet.PackDetInputs'),
    'mmseg': ('mmir.PairedSegDataPreprocessor', 'mmseg.PackSegInputs'),
}


@pytest.mark.parametrize('host', PREPROCESSORS)
def test_16_bit_end_to_end_as_float(host, tmp_path):
    """Centikelvins that differ in the last digit arrive normalized in the model."""
    pytest.importorskip(f'{host}.models')
    from mmir.registry import MODELS  # registers the host's part

    counts = np.arange(29000, 29000 + 32 * 64, dtype=np.uint16).reshape(32, 64)
    rgb = np.random.default_rng(0).integers(0, 256, (32, 64, 3)).astype(np.uint8)
    write_image(tmp_path / 'ir' / 'a.tiff', counts)
    path = write_image(tmp_path / 'rgb' / 'a.png', rgb)
    rule = dict(folder=('rgb', 'ir'), suffix='.tiff')
    preprocessor, pack = PREPROCESSORS[host]
    pipeline = Compose(
        [
            dict(
                type='LoadPairedImages',
                modalities=dict(rgb={}, ir=dict(channels=1, to_float32=True, **rule)),
            ),
            dict(
                type='OnModality',
                modality='ir',
                transforms=dict(type='RadiometricScale', gain=0.01),
            ),
            dict(type='PackPairedInputs', pack=dict(type=pack)),
        ]
    )
    sample = pipeline({'img_path': str(path)})
    assert sample['inputs'].dtype == torch.float32
    mean, std = 300.0, 15.0
    model_input = MODELS.build(
        dict(
            type=preprocessor,
            modalities=dict(
                rgb=dict(mean=[1.0, 2.0, 3.0], std=[4.0] * 3, bgr_to_rgb=True),
                ir=dict(channels=1, mean=mean, std=std),
            ),
        )
    )({'inputs': [sample['inputs']], 'data_samples': [sample['data_samples']]})
    inputs = model_input['inputs'].numpy()
    assert inputs.dtype == np.float32
    assert inputs.shape == (1, 4, 32, 64)
    expected = (counts.astype(float) / 100 - mean) / std
    assert np.abs(inputs[0, 3] - expected).max() < 1e-5  # a count is 7e-4
    assert len(np.unique(inputs[0, 3])) == counts.size
    for k in range(3):
        wanted = (rgb[..., 2 - k].astype(float) - (k + 1)) / 4
        np.testing.assert_allclose(inputs[0, k], wanted, atol=1e-5)


def test_an_absent_camera_is_not_scaled():
    """Zeros are not temperatures."""
    sample = dict(
        modalities=('rgb', 'ir'),
        imgs=dict(rgb=np.ones((2, 2, 3), np.uint8), ir=np.zeros((2, 2, 1), np.float32)),
        img_paths=dict(rgb='a.png', ir=None),
        absent=('ir',),
    )
    out = OnModality('ir', RadiometricScale(gain=0.01))(sample)
    assert not out['imgs']['ir'].any()


def test_real_centikelvin_files(real_data):
    """Every camera: the range its index documents, and nothing impossible outside."""
    folder = real_data / 'flir16_commons'
    rows = {row['id']: row for row in json.loads((folder / 'index.json').read_text())}
    pipeline = Compose(
        [
            dict(type='LoadThermalImage', channels=1, to_float32=True),
            dict(type='RadiometricScale', gain=0.01, unit='celsius'),
        ]
    )
    files = sorted((folder / 'temp16').glob('*.png'))
    assert len(files) == len(rows) == 26
    for path in files:
        out = pipeline({'img_path': str(path)})['img']
        row = rows[int(path.stem)]
        assert out.shape == (*cv2.imread(str(path), -1).shape, 1)
        assert np.isfinite(out).all()
        assert -80 < out.min() < out.max() < 200
        ends = np.percentile(out, (1, 99))
        np.testing.assert_allclose(ends, row['celsius_1_99'], atol=0.051)


def refusal(transform, path, swapped=False):
    """Return the objection of a transform to a file, if any."""
    img = read_image(str(path))
    img = img.byteswap() if swapped else img
    said = []
    for kind in (np.uint16, np.float32):  # of bit_depth=16 and of to_float32=True
        try:
            transform({'img': img.astype(kind)[..., None], 'img_path': str(path)})
            said.append('')
        except ValueError as error:
            said.append(str(error))
    assert bool(said[0]) == bool(said[1])
    assert not said[0] or path.name in said[0]
    return said[0]


@pytest.mark.parametrize(
    ('folder', 'gain', 'refused'),
    [
        ('flir16_commons/raw16', 0.01, 23),
        ('flir16_commons/raw16', 0.04, 21),
        ('flir16_commons/temp16', 0.01, 0),
        ('apple_rgbt/thermal16', 0.01, 0),
        ('flir16_commons/temp16', 0.04, 26),
        ('apple_rgbt/thermal16', 0.04, 25),
    ],
)
def test_real_files_that_the_guard_sees(real_data, folder, gain, refused):
    """The figures of the docstring: raw counts, degrees, the wrong one of two gains."""
    transform = TRANSFORMS.build(dict(type='RadiometricScale', gain=gain))
    files = sorted((real_data / folder).glob('*.png'))
    assert sum(bool(refusal(transform, path)) for path in files) == refused
    if folder.endswith('raw16'):
        return
    for path in files:
        assert 'wrong order' in refusal(transform, path, swapped=True)


def slope(low, high, shape=(60, 80)):
    """Draw a scene of temperatures as centikelvin."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    share = (rows + columns) / (rows + columns).max()
    return np.rint(100 * (low + (high - low) * share)).astype(np.uint16)


@pytest.mark.parametrize(
    ('img', 'message'),
    [
        (slope(270, 310).byteswap(), r'98 % .* K, .*two bytes .* wrong order'),
        # half of it impossible, though the median is not
        (slope(20, 500), r'98 % of the pixels of a\.png are 5.* to 4.* K.*raw'),
        # a range that is possible, in the wrong order
        (slope(288, 288.9).byteswap(), r'steps of 256 counts \(2\.56 K\)'),
        ((slope(250, 350) // 256) * 256, r'steps of 256 counts'),
        (slope(300, 300) * 0, 'median of a.png is 0.0 K'),
    ],
)  # fmt: skip
@pytest.mark.parametrize('kind', [np.uint16, np.float32])
def test_the_image_is_judged_not_only_its_mean(img, message, kind):
    # steps must be seen whatever range is asked for
    options = dict(plausible=(0.1, 2500)) if 'steps' in message else {}
    scale = RadiometricScale(gain=0.01, **options)
    with pytest.raises(ValueError, match=message):
        scale({'img': img.astype(kind), 'img_path': 'a.png'})


@pytest.mark.parametrize(
    ('img', 'plausible'),
    [
        (slope(270, 310), None),
        (slope(300, 300), None),  # a blackbody
        (slope(295, 295.4), None),
        (slope(190, 215), None),  # a clear sky
        (slope(280, 640), (180, 700)),  # a furnace
    ],
)
def test_scenes_that_are_temperatures(img, plausible):
    options = {} if plausible is None else dict(plausible=plausible)
    np.testing.assert_allclose(degrees(img, gain=0.01, **options), img / 100, rtol=1e-6)


def test_holes_of_registered_images_are_not_judged():
    """Pixels of 0, which outnumber the others here."""
    img = slope(270, 310)
    img[:40] = 0
    out = degrees(img, gain=0.01)
    np.testing.assert_allclose(out[40:], img[40:] / 100, rtol=1e-6)
