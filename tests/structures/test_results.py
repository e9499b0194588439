"""Pairs and deep images tell a transform that cannot use them what to do."""

import copy
import pickle

import numpy as np
import pytest
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS
from paired_samples import noise, paired, seed_all

from mmir.structures import BitDepthError, DeepResults, PairedResults, PairError
from mmir.transforms import LoadThermalImage, OnModality, PairedTransform

RESIZE = dict(scale=(32, 24))
ON_PAIRS = [
    ('mmcv', 'Resize', RESIZE),
    ('mmcv', 'CenterCrop', dict(crop_size=8)),
    ('mmdet', 'Resize', RESIZE),
    ('mmdet', 'RandomFlip', dict(prob=1.0)),
    ('mmdet', 'PhotoMetricDistortion', {}),
    ('mmdet', 'PackDetInputs', {}),
    ('mmseg', 'Resize', RESIZE),
    ('mmseg', 'RandomCrop', dict(crop_size=(8, 8))),
    ('mmseg', 'PackSegInputs', {}),
    ('mmpretrain', 'ResizeEdge', dict(scale=24)),
    ('mmpretrain', 'ColorJitter', dict(brightness=0.2)),
    ('mmpretrain', 'PackInputs', {}),
]
PHOTOMETRIC = [
    ('mmdet', 'PhotoMetricDistortion', {}),
    ('mmdet', 'YOLOXHSVRandomAug', {}),
    ('mmdet', 'Brightness', dict(prob=1.0)),
    ('mmseg', 'PhotoMetricDistortion', {}),
    ('mmseg', 'AdjustGamma', {}),
    ('mmpretrain', 'ColorJitter', dict(brightness=0.2)),
    ('mmpretrain', 'Equalize', dict(prob=1.0)),
]


def stock(host: str, kind: str, options: dict) -> BaseTransform:
    """Build a transform of a host."""
    if host != 'mmcv':
        pytest.importorskip(f'{host}.datasets')
    scope = '' if host == 'mmcv' else f'{host}.'
    return TRANSFORMS.build(dict(type=f'{scope}{kind}', **options))


@pytest.fixture
def pair() -> PairedResults:
    return PairedResults(paired(noise(0)))


@pytest.fixture
def deep(tmp_path) -> DeepResults:
    import cv2

    path = str(tmp_path / 'deep.png')
    rng = np.random.default_rng(0)
    counts = rng.integers(29000, 31000, (24, 32)).astype(np.uint16)
    assert cv2.imwrite(path, counts)
    return LoadThermalImage(bit_depth=16).transform(dict(img_path=path))


@pytest.mark.parametrize('row', ON_PAIRS, ids=lambda row: '.'.join(row[:2]))
def test_a_stock_transform_on_a_pair_says_how_to_wrap_it(row, pair):
    transform = stock(*row)
    advice = 'PackPairedInputs' if row[1].startswith('Pack') else 'PairedTransform'
    with pytest.raises(
        PairError, match=rf'{row[1]} works on one image .*mmir.{advice}'
    ):
        transform(pair)


def test_a_stock_transform_after_a_paired_one(pair):
    flip = dict(type='mmcv.RandomFlip', prob=1.0)
    for wrapped in (PairedTransform(flip), OnModality('ir', dict(type='DeadPixels'))):
        after = wrapped(pair)
        assert type(after) is PairedResults
        with pytest.raises(PairError, match='Resize works on one image'):
            stock('mmcv', 'Resize', RESIZE)(after)


def test_a_pair_is_a_dictionary_to_all_other_code(pair):
    assert 'img' not in pair
    assert pair.get('img', 3) == 3
    with pytest.raises(KeyError, match='img'):
        pair['img']
    with pytest.raises(KeyError, match='absence'):
        pair['absence']
    assert pair.get('img_path') == 'rgb/7.png'
    kinds = (pair.copy(), copy.copy(pair), copy.deepcopy(pair), pair | {'a': 1})
    for same in (*kinds, pickle.loads(pickle.dumps(pair))):
        assert type(same) is PairedResults
        assert same.keys() - {'a'} == pair.keys()


@pytest.mark.parametrize('row', PHOTOMETRIC, ids=lambda row: '.'.join(row[:2]))
def test_photometric_transforms_on_16_bits_are_named(row, deep):
    transform = stock(*row)
    message = rf'{row[1]} is for 8-bit images .*deep.png of uint16.* ThermalToUint8'
    with pytest.raises(BitDepthError, match=message.replace(' Th', ' mmir.Th')):
        transform(deep)
    eight = TRANSFORMS.build(dict(type='ThermalToUint8'))(deep)
    seed_all(0)
    assert transform(eight)['img'].shape == (24, 32, 3)


@pytest.mark.parametrize('row', PHOTOMETRIC[:2], ids=lambda row: row[1])
def test_photometric_transforms_on_16_bit_pairs_are_named(row):
    pair = paired(noise(0, np.uint16))
    for wrap in (PairedTransform, lambda t: OnModality('ir', t)):
        with pytest.raises(BitDepthError, match=rf'{row[1]} .*/7.png of uint16'):
            wrap(stock(*row))(pair)


def test_deep_images_pass_transforms_that_keep_their_values(deep):
    counts = deep['img'].copy()
    for row in (('mmcv', 'RandomFlip', dict(prob=1.0)), ('mmcv', 'Resize', RESIZE)):
        deep = stock(*row)(deep)
    assert deep['img'].dtype == np.uint16
    np.testing.assert_array_equal(deep['img'], counts[:, ::-1])


def test_a_float_image_of_a_deep_file_is_named(deep):
    load = LoadThermalImage(to_float32=True)
    out = load.transform(dict(img_path=deep['img_path']))
    with pytest.raises(BitDepthError, match=r'YOLOXHSVRandomAug .* of float32'):
        stock('mmdet', 'YOLOXHSVRandomAug', {})(out)
