"""Mixing pairs in the datasets of mmdet and mmseg."""

import pickle

import numpy as np
import pytest
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, DefaultScope
from paired_samples import NAMES, boxes_of, labels_of, noise, paired, seed_all

from mmir.det import PairedMixDataset
from mmir.transforms import PairedTransform

MOSAIC = dict(type='Mosaic', img_scale=(64, 48))
AFFINE = dict(type='RandomAffine', border=(-32, -24))
MIX_UP = dict(type='MixUp', img_scale=(64, 48), ratio_range=(0.8, 1.2))


def load(info: dict) -> dict:
    """A pair whose modalities show the same image."""
    k = info['sample_idx']
    img = noise(k)['rgb']
    return paired(
        {n: img.copy() for n in NAMES}, **labels_of('mmdet', boxes_of(k), False)
    )


class Frames(BaseDataset):
    """Four pairs."""

    METAINFO = dict(classes=('a', 'b', 'c'))

    def load_data_list(self):
        return [{} for _ in range(4)]


def pair(*transforms: dict) -> dict:
    return dict(type='mmir.PairedTransform', transforms=list(transforms))


def build(*pipeline: dict, **kwargs) -> PairedMixDataset:
    with DefaultScope.overwrite_default_scope('mmdet'):
        return DATASETS.build(
            dict(
                type='mmir.PairedMixDataset',
                dataset=Frames(pipeline=[load]),
                pipeline=list(pipeline),
                **kwargs,
            )
        )


def get(dataset, index: int = 0) -> dict:
    seed_all(5)
    return dataset[index]


def test_mixtures_are_alike_in_all_modalities():
    out = get(
        build(
            pair(MOSAIC),
            pair(AFFINE),
            pair(MIX_UP),
            pair(dict(type='RandomFlip', prob=0.5)),
        )
    )
    imgs = out['imgs']
    assert imgs['rgb'].shape == (48, 64, 3)
    assert not np.array_equal(imgs['rgb'], noise(0)['rgb'])
    for name in NAMES:
        np.testing.assert_array_equal(imgs[name], imgs['rgb'])
    assert len(out['gt_bboxes']) == len(out['gt_bboxes_labels'])
    assert 'mix_results' not in out


def test_types_are_those_of_the_transforms_inside():
    filters = dict(type='FilterAnnotations', min_gt_bbox_wh=(1, 1))
    data = build(pair(MOSAIC), pair(AFFINE, dict(type='RandomFlip', prob=0.5)), filters)
    assert data.pipeline_types == [
        'Mosaic', 'RandomAffine, RandomFlip', 'FilterAnnotations'
    ]  # fmt: skip


def test_a_hook_switches_mixing_off():
    data = build(pair(MOSAIC), pair(AFFINE), pair(MIX_UP))
    data.update_skip_type_keys(('Mosaic', 'RandomAffine', 'MixUp'))
    np.testing.assert_array_equal(get(data, 2)['imgs']['rgb'], noise(2)['rgb'])
    off = build(pair(MOSAIC), pair(AFFINE), skip_type_keys=('Mosaic', 'RandomAffine'))
    np.testing.assert_array_equal(get(off, 2)['imgs']['rgb'], noise(2)['rgb'])


def test_what_is_to_be_skipped_stands_alone():
    pipeline = [pair(MOSAIC), pair(AFFINE, dict(type='RandomFlip', prob=0.5))]
    message = r"\['RandomAffine'\] cannot be skipped.*RandomAffine, RandomFlip"
    with pytest.raises(ValueError, match=message):
        build(*pipeline).update_skip_type_keys(('Mosaic', 'RandomAffine'))
    with pytest.raises(ValueError, match=message):
        build(*pipeline, skip_type_keys=('RandomAffine',))


def test_worker_processes_get_the_same_data_set():
    data = build(pair(MOSAIC), pair(AFFINE))
    clone = pickle.loads(pickle.dumps(data))
    np.testing.assert_array_equal(get(data)['imgs']['ir'], get(clone)['imgs']['ir'])


def test_a_transform_given_as_a_class():
    data = build(dict(type=PairedTransform, transforms=MOSAIC))
    assert data.pipeline_types == ['Mosaic']
    assert get(data)['imgs']['ir'].shape == (96, 128, 3)


def test_types_are_skipped_with_and_without_their_scope():
    centered = dict(type='mmir.CenteredRandomAffine', border=(-32, -24))
    for key in ('CenteredRandomAffine', 'mmir.CenteredRandomAffine'):
        data = build(pair(MOSAIC), pair(centered))
        assert get(data, 2)['imgs']['rgb'].shape == (48, 64, 3)
        data.update_skip_type_keys(('mmdet.Mosaic', key))
        np.testing.assert_array_equal(get(data, 2)['imgs']['rgb'], noise(2)['rgb'])
