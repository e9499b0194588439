"""PairedTransform and OnModality: replay, refusals, separation."""

import copy
import importlib
import pickle
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.transforms import BaseTransform
from mmengine.dataset import pseudo_collate
from mmengine.registry import TRANSFORMS, DefaultScope
from paired_samples import NAMES, noise, paired, seed_all

from mmir.structures import PairError, drop_modalities, split_modalities
from mmir.transforms import CannotReplayError, OnModality, PairedTransform

FLIP = dict(type='RandomFlip', prob=0.5)


class Add(BaseTransform):
    """Add a random gray value."""

    def transform(self, results):
        value = np.random.randint(1, 9)  # noqa: NPY002
        return results | {'img': results['img'] + results['img'].dtype.type(value)}


class PerPixel(BaseTransform):
    """Draw as many numbers as the image has bright pixels."""

    def transform(self, results):
        np.random.rand(int((results['img'] > 127).sum()) + 1)  # noqa: NPY002
        return results


class Blend(BaseTransform):
    """Mix as the hosts do: ask for indices, then read `mix_results`."""

    def __init__(self, idle=False):
        self.idle = idle

    def get_indexes(self, dataset):
        return [len(dataset) - 1]

    def transform(self, results):
        if self.idle:
            return results
        other = results['mix_results'][0]['img']
        return results | {'img': results['img'] // 2 + other // 2}


class Holder:
    """An object that is not a transform and wraps another object."""

    def __init__(self, thing):
        self.thing = thing


class Holding(BaseTransform):
    def __init__(self, thing):
        self.thing = thing

    def transform(self, results):
        return results


def sample(seed=0, **kwargs):
    return paired(noise(seed), **kwargs)


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_several_transforms_equal_one_each(seed):
    many = [dict(FLIP), dict(type='Resize', scale=(40, 30)), Add()]
    outs = []
    for transforms in ([PairedTransform(many)], [PairedTransform(t) for t in many]):
        seed_all(seed)
        out = sample()
        for transform in transforms:
            out = transform(out)
        outs.append(out)
    for name in NAMES:
        np.testing.assert_array_equal(outs[0]['imgs'][name], outs[1]['imgs'][name])
    assert outs[0]['flip'] == outs[1]['flip']


@pytest.mark.parametrize('count', [1, 2, 3])
def test_any_number_of_modalities(count):
    imgs = dict(list(noise(0).items())[:count])
    seed_all(1)
    out = PairedTransform(Add())(paired(imgs))
    steps = {int((out['imgs'][n] - imgs[n]).flat[0]) % 256 for n in imgs}
    assert len(steps) == 1
    assert steps.pop() in range(1, 9)


def test_other_draws_for_another_modality_are_refused_by_name():
    with pytest.raises(
        CannotReplayError, match=r"PerPixel drew other .* 'ir' than .* 'r"
    ):
        PairedTransform(PerPixel())(sample())


def test_one_modality_may_draw_as_it_likes():
    imgs = dict(rgb=noise(0)['rgb'])
    out = PairedTransform(PerPixel())(paired(imgs))
    np.testing.assert_array_equal(out['imgs']['rgb'], imgs['rgb'])


class _Library:
    """Stand-in for a library's composition with a private random generator."""


_Library.__module__ = 'albumentations.core.composition'


@pytest.mark.parametrize(
    ('thing', 'reason'),
    [
        (np.random.default_rng(0), 'Holding has its own random generator'),
        (random.Random(0), 'Holding has its own random generator'),
        (
            {'a': [Holder(np.random.default_rng(0))]},
            'Holder has its own random generator',
        ),
        (_Library(), 'Holding draws from the generator of albumentations'),
    ],
)
def test_private_generators_are_found_wherever_they_are_held(thing, reason):
    with pytest.raises(CannotReplayError, match=reason):
        PairedTransform(Holding(thing))
    nested = dict(type='RandomApply', transforms=[Holding(thing)])
    with pytest.raises(CannotReplayError, match=reason):
        PairedTransform(dict(type='RandomChoice', transforms=[[nested]]))


@pytest.mark.parametrize('inner', [OnModality('ir', Add()), PairedTransform(Add())])
def test_transforms_of_pairs_do_not_belong_inside(inner):
    with pytest.raises(
        ValueError, match=f'{type(inner).__name__} takes paired samples'
    ):
        PairedTransform([dict(type='RandomApply', transforms=[inner])])


def test_a_mixing_transform_stands_alone():
    with pytest.raises(ValueError, match='Blend mixes samples'):
        PairedTransform([Blend(), dict(FLIP)])


def test_only_a_mixing_transform_asks_for_samples():
    blend = PairedTransform(Blend())
    assert blend.get_indexes([1, 2, 3]) == [2]
    assert not hasattr(blend, 'get_indices')
    assert not hasattr(PairedTransform(dict(FLIP)), 'get_indexes')


@pytest.mark.parametrize('transform', [Blend(), dict(FLIP)])
def test_worker_processes_get_the_same(transform):
    first = PairedTransform(transform)
    mixed = dict(sample(), mix_results=[sample(1)])
    outs = []
    for pair in (first, pickle.loads(pickle.dumps(first)), copy.deepcopy(first)):
        seed_all(3)
        outs.append(pair(copy.deepcopy(mixed))['imgs']['ir'])
        assert hasattr(pair, 'get_indexes') == isinstance(transform, Blend)
    np.testing.assert_array_equal(outs[0], outs[1])
    np.testing.assert_array_equal(outs[0], outs[2])


def test_none_of_a_transform_is_passed_on():
    assert PairedTransform([lambda _: None, Add()])(sample()) is None
    assert OnModality('rgb', lambda _: None)(sample()) is None


def test_labels_are_changed_once():
    boxes = np.array([[1.0, 2, 3, 4]])

    def shift(results):
        results['gt_bboxes'] += 1
        results['count'] = results.get('count', 0) + 1
        return results

    out = PairedTransform(shift)(sample(gt_bboxes=boxes.copy()))
    np.testing.assert_array_equal(out['gt_bboxes'], boxes + 1)
    assert out['count'] == 1


def test_an_absent_modality_stays_zero():
    given = sample() | {'absent': ('ir',)}
    given['imgs']['ir'][:] = 0
    out = PairedTransform(Add())(given)
    assert out['absent'] == ('ir',)
    assert out['imgs']['ir'].max() == 0
    assert out['imgs']['rgb'].std() > 0


@pytest.mark.parametrize(
    ('main', 'other', 'idle', 'expected'),
    [
        ((), (), False, ()),
        (('ir',), (), False, ('ir',)),
        ((), ('nir', 'ir'), False, ('ir', 'nir')),
        ((), ('ir',), True, ()),  # nothing is mixed in
        (('ir', 'nir'), ('rgb',), False, ('ir', 'nir')),  # one must be left
    ],
)
def test_absence_in_mixtures(main, other, idle, expected):
    given = sample() | {'absent': main, 'mix_results': [sample(1) | {'absent': other}]}
    out = PairedTransform(Blend(idle))(given)
    assert out['absent'] == expected
    assert 'mix_results' not in out
    for name, img in out['imgs'].items():
        assert (img.max() == 0) == (name in expected)


def test_mixing_wants_the_same_modalities():
    other = paired(dict(rgb=noise(1)['rgb']))
    with pytest.raises(PairError, match=r"mix in has the modalities \('rgb',\), not"):
        PairedTransform(Blend())(dict(sample(), mix_results=[other]))


@pytest.mark.parametrize(
    'make', [lambda: PairedTransform(Add()), lambda: OnModality('ir', Add())]
)
def test_a_single_image_is_no_pair(make):
    with pytest.raises(PairError, match=r'LoadPairedImages must come first.*img'):
        make()(dict(img=np.zeros((4, 4, 3), np.uint8)))


def test_images_of_other_sizes_are_refused_before_anything_moves():
    given = sample()
    given['imgs']['ir'] = given['imgs']['ir'][:20]
    with pytest.raises(PairError, match=r'rgb 64x48 \(rgb/7.png\), ir 64x20'):
        PairedTransform(dict(type='Resize', scale=(40, 30)))(given)


@pytest.mark.parametrize(
    'transform',
    [
        lambda r: {k: v for k, v in r.items() if k != 'img'},
        lambda r: r | {'img': [r['img'], r['img']]},
    ],
)
def test_a_transform_must_leave_one_image(transform):
    with pytest.raises(
        PairError, match=r"function left no image of 'rgb'.*after or around"
    ):
        PairedTransform(transform)(sample())


def test_values_of_many_bits_are_not_lost():
    given = paired(dict(rgb=noise(0)['rgb'], ir=noise(0, np.uint16)['ir']))

    def squeeze(results):
        return results | {'img': results['img'].astype(np.uint8)}

    with pytest.raises(PairError, match=r"turned the uint16 image of 'ir' into uint8"):
        PairedTransform(squeeze)(given)


def test_one_modality_alone():
    given = sample()
    before = copy.deepcopy(given)
    seed_all(0)
    out = OnModality('nir', [Add(), Add()])(given)
    assert not np.array_equal(out['imgs']['nir'], before['imgs']['nir'])
    for name in ('rgb', 'ir'):
        np.testing.assert_array_equal(out['imgs'][name], before['imgs'][name])
    np.testing.assert_array_equal(given['imgs']['nir'], before['imgs']['nir'])
    assert out.keys() == before.keys()


def test_one_modality_may_change_its_depth():
    given = paired(noise(0, np.uint16))
    low_high = dict(mode='range', low=0, high=4000)
    out = OnModality('ir', dict(type='ThermalToUint8', **low_high))(given)
    assert out['imgs']['ir'].dtype == np.uint8
    assert out['imgs']['ir'].shape == given['imgs']['ir'].shape
    assert out['imgs']['rgb'].dtype == np.uint16


def test_colours_are_possible_on_one_channel():
    seen = []

    def brighten(results):
        seen.append(results['img'].shape)
        return results | {'img': results['img'] // 2}

    out = OnModality('ir', brighten)(sample())
    assert seen == [(48, 64, 3)]
    np.testing.assert_array_equal(out['imgs']['ir'], noise(0)['ir'] // 2)


def test_an_absent_modality_is_left_alone():
    given = sample() | {'absent': ('ir',)}
    assert OnModality('ir', Add())(given) is given


def test_unknown_modality():
    with pytest.raises(
        PairError, match=r"unknown modality 'fir'; the sample has \('rgb'"
    ):
        OnModality('fir', Add())(sample())


@pytest.mark.parametrize(
    'moving',
    [
        lambda r: r | {'img': r['img'][:-1]},
        lambda r: r | {'img': r['img'][:, ::-1], 'flip': True},
    ],
)
def test_moving_one_modality_is_refused_when_seen(moving):
    with pytest.raises(PairError, match="function moved pixels of 'ir' alone"):
        OnModality('ir', moving)(sample())


@pytest.mark.parametrize('host', ['mmdet', 'mmseg', 'mmpretrain'])
def test_test_time_augmentation(host):
    importlib.import_module(f'{host}.datasets.transforms')
    with DefaultScope.overwrite_default_scope(host):
        flips = [dict(type='RandomFlip', prob=p) for p in (0.0, 1.0)]
        sizes = [dict(type='Resize', scale=s) for s in ((64, 48), (32, 24))]
        tta = TRANSFORMS.build(
            dict(
                type='TestTimeAug',
                transforms=[
                    [PairedTransform(t) for t in sizes],
                    [PairedTransform(t) for t in flips],
                    [dict(type='PackPairedInputs')],
                ],
            )
        )
        batch = pseudo_collate([tta(sample(k)) for k in range(2)])
    batch = drop_modalities(batch, ['ir'])
    assert len(batch['inputs']) == 4
    plain, flipped = (batch['inputs'][k][1] for k in (0, 1))
    assert plain.shape == (7, 48, 64)
    assert batch['inputs'][3][0].shape == (7, 24, 32)
    np.testing.assert_array_equal(flipped, plain.flip(-1))
    for samples, inputs in zip(batch['data_samples'], batch['inputs'], strict=True):
        for data_sample, img in zip(samples, inputs, strict=True):
            assert data_sample.metainfo['absent'] == ('ir',)
            parts = split_modalities(img, data_sample.metainfo)
            assert parts['ir'].max() == 0
            assert parts['rgb'].float().std() > 0


def test_chosen_keys_of_the_sample_are_shown() -> None:
    """A gain of this very image is read; what is not chosen stays hidden."""
    given = sample() | {'ir_gain': 3.0, 'gt_labels': 'hidden'}
    seen = {}

    def scale(view: dict) -> dict:
        seen.update(view)
        return view | {'img': view['img'] // 3}

    out = OnModality('ir', scale, keys=['ir_gain', 'lacking'])(given)
    assert seen['ir_gain'] == 3.0
    assert not {'gt_labels', 'lacking', 'imgs'} & seen.keys()
    np.testing.assert_array_equal(out['imgs']['ir'], given['imgs']['ir'] // 3)
    assert out['gt_labels'] == 'hidden'
