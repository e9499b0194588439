"""Paired samples: sizes, splitting, dropping of modalities."""

import copy
import itertools

import numpy as np
import pytest
import torch
from mmengine.structures import BaseDataElement
from paired_samples import noise, paired

from mmir.structures import (
    PairError,
    drop_modalities,
    is_paired,
    modality_order,
    require_one_size,
    split_modalities,
)

META = dict(modalities=('rgb', 'ir', 'nir'), channels=(3, 1, 2), absent=())


@pytest.mark.parametrize('names', itertools.permutations(('rgb', 'ir', 'nir')))
def test_the_order_follows_from_the_names(names: tuple[str, ...]) -> None:
    assert modality_order(names) == ('rgb', 'ir', 'nir')
    assert modality_order(dict(thermal=1, colour=3)) == ('colour', 'thermal')


def batch(size: int = 2) -> dict:
    """Return a batch as a dataloader yields it."""
    torch.manual_seed(0)
    return dict(
        inputs=[torch.randint(1, 255, (6, 4, 5 + k)) for k in range(size)],
        data_samples=[BaseDataElement(metainfo=META) for _ in range(size)],
    )


def test_what_is_paired():
    assert is_paired(paired(noise(0)))
    assert not is_paired(dict(img=1))


def test_one_size():
    sample = paired(noise(0))
    assert require_one_size(sample) == (48, 64)
    sample['imgs']['ir'] = np.zeros((9, 8, 1))
    del sample['img_paths']['ir']
    with pytest.raises(
        PairError, match=r'rgb 64x48 \(rgb/7\.png\), ir 8x9 \(no file\)'
    ):
        require_one_size(sample)
    for empty in ({}, dict(imgs={})):
        with pytest.raises(PairError, match='LoadPairedImages must come first'):
            require_one_size(empty)


@pytest.mark.parametrize('lead', [(), (2,), (2, 3)])
def test_split(lead):
    inputs = torch.rand(*lead, 6, 4, 5)
    parts = split_modalities(inputs, META)
    assert {n: p.shape[-3] for n, p in parts.items()} == dict(rgb=3, ir=1, nir=2)
    assert torch.equal(torch.cat(list(parts.values()), -3), inputs)
    parts['ir'].zero_()
    assert inputs[..., 3, :, :].abs().max() == 0  # views


def test_split_reads_a_batch_whose_samples_agree():
    inputs = torch.rand(2, 6, 4, 5)
    assert split_modalities(inputs, [META, META]).keys() == {'rgb', 'ir', 'nir'}
    other = META | dict(channels=(1, 3, 2))
    with pytest.raises(PairError, match='samples of one batch differ in modalities'):
        split_modalities(inputs, [META, other])


def test_split_says_what_is_wrong():
    with pytest.raises(PairError, match=r'has 5 channels, but its .* have \(3, 1, 2\)'):
        split_modalities(torch.rand(5, 4, 4), META)
    with pytest.raises(
        PairError, match=r"no 'modalities': .*PackPairedInputs must end"
    ):
        split_modalities(torch.rand(6, 4, 4), dict(img_path='x'))


@pytest.mark.parametrize('names', [['ir'], 'ir', ('nir', 'ir'), {'rgb', 'nir'}])
@pytest.mark.parametrize('stacked', [False, True])
def test_dropped_channels_are_zero_and_named(names, stacked):
    given = batch()
    if stacked:
        given['inputs'] = torch.stack([x[..., :5] for x in given['inputs']])
    before = copy.deepcopy(given)
    out = drop_modalities(given, names)
    names = {names} if isinstance(names, str) else set(names)
    assert type(out['inputs']) is type(given['inputs'])
    for k, sample in enumerate(out['data_samples']):
        assert set(sample.metainfo['absent']) == names
        parts = split_modalities(out['inputs'][k], sample.metainfo)
        whole = split_modalities(before['inputs'][k], META)
        for name, part in parts.items():
            expected = torch.zeros_like(part) if name in names else whole[name]
            assert torch.equal(part, expected)
        assert torch.equal(given['inputs'][k], before['inputs'][k])
        assert given['data_samples'][k].metainfo['absent'] == ()


def test_dropping_nothing_and_dropping_twice():
    given = batch()
    assert drop_modalities(given, ()) is given
    twice = drop_modalities(drop_modalities(given, ['nir']), ['rgb'])
    assert twice['data_samples'][0].metainfo['absent'] == ('rgb', 'nir')
    with pytest.raises(PairError, match='no modality would be left'):
        drop_modalities(twice, ['ir'])


def test_dropping_from_augmented_views():
    views = dict(
        inputs=[batch()['inputs'], batch()['inputs']],
        data_samples=[batch()['data_samples'], batch()['data_samples']],
    )
    out = drop_modalities(views, ['rgb'])
    assert len(out['inputs']) == 2
    for images, samples in zip(out['inputs'], out['data_samples'], strict=True):
        for img, sample in zip(images, samples, strict=True):
            assert img[:3].abs().max() == 0
            assert img[3:].min() > 0
            assert sample.metainfo['absent'] == ('rgb',)


def test_unknown_names_are_refused():
    with pytest.raises(
        PairError, match=r"unknown modalities \['fir'\], known: \['rgb'"
    ):
        drop_modalities(batch(), ['ir', 'fir'])
