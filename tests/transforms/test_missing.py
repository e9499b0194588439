import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.registry import TRANSFORMS

from mmir.structures import PairError
from mmir.transforms.missing import DropModality, stand_in

NAMES = ('rgb', 'ir', 'depth')


def sample(names=('rgb', 'ir'), absent=(), dtype=np.uint8, size=(4, 5)):
    rng = np.random.default_rng(0)
    channels = dict(rgb=3, ir=1, depth=1)
    imgs = {
        name: rng.integers(1, 256, (*size, channels[name])).astype(dtype)
        for name in names
    }
    for name in absent:
        imgs[name][:] = 0
    paths = {name: f'{name}/1.png' for name in names}
    boxes = rng.random((3, 4))
    return dict(
        modalities=names, imgs=imgs, img_paths=paths, absent=absent, gt_bboxes=boxes
    )


def shares(transform, times=8000, **kwargs):
    """Return how often each set of modalities is absent."""
    np.random.seed(0)  # noqa: NPY002
    pair, counts = sample(**kwargs), {}
    for _ in range(times):
        gone = transform(pair)['absent']
        counts[gone] = counts.get(gone, 0) + 1 / times
    return counts


def test_two_modalities_go_as_the_closed_form_says():
    p, q = 0.5, 0.3
    found = shares(DropModality(dict(rgb=p, ir=q)))
    both = p * q / 2  # of the cases in which both would go, either stays
    wanted = {
        (): (1 - p) * (1 - q),
        ('rgb',): p * (1 - q) + both,
        ('ir',): q * (1 - p) + both,
    }
    assert found.keys() == wanted.keys()
    for gone, share in wanted.items():
        deviation = np.sqrt(share * (1 - share) / 8000)
        assert abs(found[gone] - share) < 4 * deviation
    # the formula of the docstring
    assert wanted[('rgb',)] == pytest.approx(p * (1 - q / 2))


def test_certain_loss_of_all_keeps_each_as_often():
    found = shares(DropModality(dict(rgb=1, ir=1, depth=1)), names=NAMES, times=3000)
    assert found.keys() == {('rgb', 'ir'), ('rgb', 'depth'), ('ir', 'depth')}
    assert all(abs(share - 1 / 3) < 0.04 for share in found.values())


def test_what_is_absent_already_is_respected():
    found = shares(DropModality(dict(rgb=1, ir=1)), absent=('ir',), times=50)
    assert found == {('ir',): pytest.approx(1)}
    three = shares(DropModality(dict(rgb=1)), names=NAMES, absent=('depth',), times=50)
    assert three == {('rgb', 'depth'): pytest.approx(1)}  # in the order of the channels


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(NAMES), unique=True, min_size=1),
    st.sampled_from(['absent', 'zero', 'noise']),
    st.sampled_from([np.uint8, np.uint16, np.float32]),
)
def test_a_subset_is_kept_and_nothing_else(subset, fill, dtype):
    before = sample(NAMES, dtype=dtype)
    kept = {name: img.copy() for name, img in before['imgs'].items()}
    after = DropModality(subset=subset, fill=fill)(before)
    gone = tuple(name for name in NAMES if name not in subset)
    assert after['absent'] == (gone if fill == 'absent' else ())
    assert np.shares_memory(after['gt_bboxes'], before['gt_bboxes'])
    for name in NAMES:
        out = after['imgs'][name]
        np.testing.assert_array_equal(before['imgs'][name], kept[name])
        assert (out.shape, out.dtype) == (kept[name].shape, dtype)
        if name in subset:
            np.testing.assert_array_equal(out, kept[name])
        elif fill == 'noise':
            assert not np.array_equal(out, kept[name])
        else:
            assert not out.any()


def test_noise_covers_the_range():
    rng = np.random.default_rng(0)
    img = np.full((64, 64, 1), 7, np.uint8)
    noise = stand_in(img, 'noise', rng).astype(float)
    assert noise.min() < 4
    assert noise.max() > 251
    assert abs(noise.mean() - 127.5) < 4
    assert abs(noise.std() - 256 / 12**0.5) < 3
    counts = np.linspace(7000, 9000, 4096).reshape(64, 64).astype(np.uint16)
    noise = stand_in(counts, 'noise', rng)
    assert 7000 <= noise.min() < 7010
    assert 8990 < noise.max() <= 9000


def test_draws_come_from_the_global_generator():
    transform = DropModality(dict(rgb=0.5, ir=0.5), fill='noise')
    runs = []
    for _ in range(2):
        np.random.seed(3)  # noqa: NPY002
        runs.append([transform(sample())['imgs'] for _ in range(20)])
    for one, two in zip(*runs, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], two[name])
    assert any(not np.array_equal(runs[0][0]['ir'], x['ir']) for x in runs[0])


def test_nothing_to_drop_returns_the_sample():
    pair = sample()
    assert DropModality(dict(rgb=0.0))(pair) is pair
    assert DropModality(subset=('rgb', 'ir'))(pair) is pair


def test_it_stands_in_the_registry():
    transform = TRANSFORMS.build(dict(type='DropModality', subset=('ir',)))
    assert isinstance(transform, DropModality)
    assert "subset=('ir',)" in repr(transform)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({}, 'either probs or subset'),
        (dict(probs=dict(rgb=0.1), subset=('ir',)), 'either probs or subset'),
        (dict(probs=dict(rgb=1.2)), r'in \[0, 1\]'),
        (dict(subset='ir'), r"such as \('ir',\)"),
        (dict(subset=()), 'modalities to keep'),
        (dict(subset=('ir',), fill='mean'), "fill must be one of .*'mean'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        DropModality(**options)


@pytest.mark.parametrize('options', [dict(probs=dict(nir=0.1)), dict(subset=('nir',))])
def test_unknown_modality_is_named(options):
    with pytest.raises(
        PairError, match=r"unknown modalities \['nir'\]; the sample has"
    ):
        DropModality(**options)(sample())


def test_a_sample_without_the_subset_is_named():
    with pytest.raises(PairError, match=r'no modality would be left.*rgb/1\.png'):
        DropModality(subset=('ir',))(sample(absent=('ir',)))


def test_unpaired_sample_is_refused():
    with pytest.raises(PairError, match='LoadPairedImages must come first'):
        DropModality(subset=('ir',))(dict(img=np.zeros((2, 2, 3))))
