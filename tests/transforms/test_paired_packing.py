"""Packing of pairs with each host's own transform."""

import importlib

import numpy as np
import pytest
import torch
from mmengine.registry import TRANSFORMS, DefaultScope
from paired_samples import NAMES, boxes_of, labels_of, noise, paired, same, single

from mmir.structures import PairError, split_modalities
from mmir.transforms import PackPairedInputs

HOSTS = dict(mmdet='PackDetInputs', mmseg='PackSegInputs', mmpretrain='PackInputs')


def build(host, **kwargs):
    importlib.import_module(f'{host}.datasets.transforms')
    with DefaultScope.overwrite_default_scope(host):
        return PackPairedInputs(**kwargs)


@pytest.mark.parametrize('host', HOSTS)
def test_labels_and_images_are_those_of_the_host(host):
    sample = paired(noise(0), **labels_of(host, boxes_of(0)), absent_minded=True)
    stock = TRANSFORMS.build(dict(type=f'{host}.{HOSTS[host]}'))
    alone = {name: stock(single(sample, name)) for name in NAMES}
    out = build(host)(sample)
    assert out['inputs'].shape == (7, 48, 64)
    assert out['inputs'].dtype == torch.uint8
    assert out['inputs'].is_contiguous()
    parts = split_modalities(out['inputs'], out['data_samples'].metainfo)
    for name, part in parts.items():
        assert torch.equal(part, alone[name]['inputs'][: len(part)]), name
    mine, theirs = out['data_samples'], alone['rgb']['data_samples']
    assert mine.keys() == theirs.keys()
    for key in theirs.keys():  # noqa: SIM118  (data elements do not iterate)
        one, other = mine.get(key), theirs.get(key)
        if hasattr(other, 'keys'):
            one, other = (dict(e.items()) for e in (one, other))
        assert same(one, other), key
    meta = mine.metainfo
    assert meta['modalities'] == NAMES
    assert meta['channels'] == (3, 1, 3)
    assert meta['absent'] == ()
    assert meta['img_paths'] == sample['img_paths']
    assert meta.items() >= theirs.metainfo.items()


@pytest.mark.parametrize('deep', [np.uint16, np.float32, np.float64])
def test_depths_meet_as_float(deep):
    imgs = noise(0)
    imgs['ir'] = noise(1, np.uint16)['ir'].astype(deep)
    out = build('mmdet')(paired(imgs, **labels_of('mmdet', boxes_of(0))))['inputs']
    assert out.dtype == torch.float32
    np.testing.assert_array_equal(out[:3].numpy(), imgs['rgb'].transpose(2, 0, 1))
    np.testing.assert_array_equal(out[3].numpy(), imgs['ir'][..., 0])


def test_views_of_flipped_and_cut_images():
    imgs = {name: img[5:40, ::-1] for name, img in noise(0).items()}
    out = build('mmdet')(paired(imgs, **labels_of('mmdet', boxes_of(0))))['inputs']
    expected = np.concatenate(list(imgs.values()), 2).transpose(2, 0, 1)
    np.testing.assert_array_equal(out.numpy(), expected)


def test_a_single_grey_modality():
    imgs = dict(ir=noise(0)['ir'])
    sample = paired(imgs, **labels_of('mmseg', boxes_of(0)))
    out = build('mmseg')(sample)
    np.testing.assert_array_equal(out['inputs'].numpy()[0], imgs['ir'][..., 0])
    assert out['data_samples'].metainfo['channels'] == (1,)


def test_more_meta_keys_and_an_own_packer():
    pack = dict(type='mmdet.PackDetInputs', meta_keys=('img_id',))
    sample = paired(noise(0), img_id=5, city='Aix', **labels_of('mmdet', boxes_of(0)))
    out = build('mmdet', pack=pack, meta_keys=('city',))(sample)['data_samples']
    assert (out.metainfo['img_id'], out.metainfo['city']) == (5, 'Aix')
    assert 'img_shape' not in out.metainfo


def test_a_host_must_be_known():
    with (
        DefaultScope.overwrite_default_scope('mmengine'),
        pytest.raises(ValueError, match=r"set pack.*the scope is 'mmengine'"),
    ):
        PackPairedInputs()


def test_what_is_no_pair_or_does_not_fit_is_refused():
    pack = build('mmdet')
    with pytest.raises(PairError, match='LoadPairedImages must come first'):
        pack(dict(img=np.zeros((4, 4, 3))))
    sample = paired(noise(0))
    sample['imgs']['nir'] = sample['imgs']['nir'][:9]
    with pytest.raises(PairError, match=r'nir 64x9 \(nir/7\.png\)'):
        pack(sample)
