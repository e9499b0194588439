"""Every stock transform that PairedTransform supports, see `replay_rows`."""

import copy
import importlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mmengine.registry import TRANSFORMS, DefaultScope
from paired_samples import (
    CHANNELS,
    HEIGHT,
    NAMES,
    WIDTH,
    boxes_of,
    labels_of,
    noise,
    paired,
    run,
    same,
    seed_all,
    single,
)
from replay_rows import MMCV_LISTS, ROWS, SCALE, Row, known

from mmir.transforms import PairedTransform

SEEDS = st.integers(0, 2**32 - 1)
EXAMPLES = 6


EVERY = pytest.mark.parametrize(
    'row', [pytest.param(row, id=row.label) for row in ROWS if known(row)]
)
MARKED = pytest.mark.parametrize(
    'row',
    [pytest.param(row, id=row.label) for row in ROWS if row.marks and known(row)],
)


def built(row: Row) -> tuple[PairedTransform, list]:
    """The paired transform and the stock ones, built as in a config of the host."""
    with DefaultScope.overwrite_default_scope(row.host):
        pair = PairedTransform(copy.deepcopy(row.transforms))
        listed = (
            row.transforms if isinstance(row.transforms, list) else [row.transforms]
        )
        return pair, [TRANSFORMS.build(copy.deepcopy(t)) for t in listed]


def samples(row: Row, seed: int, marked: bool = False) -> dict:
    """A sample to transform, with those to mix in."""
    made = []
    for k in range(row.mix + 1):
        boxes = boxes_of(seed + k, 1 if marked else 3)
        imgs = noise(seed + k, row.dtype)
        if marked:
            for img in imgs.values():
                img[:] = 0
                for x1, y1, x2, y2 in boxes.astype(int):
                    img[y1:y2, x1:x2] = 255
        made.append(paired(imgs, **labels_of(row.host, boxes, row.masks)))
    return made[0] | dict(mix_results=made[1:]) if row.mix else made[0]


def next_draws() -> tuple:
    """Return the next numbers of the generators."""
    import random

    import torch

    drawn = np.random.standard_normal(3)  # noqa: NPY002
    return random.random(), tuple(drawn), torch.rand(1).item()


@EVERY
def test_each_modality_is_what_the_stock_transform_makes_of_it(row):
    pair, stock = built(row)

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(SEEDS)
    @example(0)
    def check(seed):
        sample = samples(row, seed)
        alone = {}
        for name in NAMES:
            seed_all(seed)
            alone[name] = run(stock, single(sample, name))
        expected_draws = next_draws()
        seed_all(seed)
        out = pair(sample)
        assert next_draws() == expected_draws
        if alone['rgb'] is None:
            assert out is None
            return
        assert 'img' not in out
        assert out['modalities'] == NAMES
        assert out['absent'] == ()
        assert list(out['imgs']) == list(NAMES)
        for name in NAMES:
            img = alone[name].pop('img')
            img = img[..., None] if img.ndim == 2 else img
            if CHANNELS[name] == 1:
                img = img[..., :1]
            np.testing.assert_array_equal(out['imgs'][name], img, name)
            for key, value in alone[name].items():
                if key not in ('img_path', 'mix_results'):
                    assert same(out[key], value), key
        assert out['img_path'] == 'rgb/7.png'

    check()


def extent(mask: np.ndarray) -> np.ndarray | None:
    """Return the box (x1, y1, x2, y2) around the nonzero pixels."""
    ys, xs = np.nonzero(mask)
    if not len(ys):
        return None
    return np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], float)


def touches_edge(box: np.ndarray, shape: tuple[int, int]) -> bool:
    """Whether a box reaches an edge of the image."""
    return bool((box[:2] <= 1).any() or (box[2:] >= np.array(shape[::-1]) - 1).any())


@MARKED
def test_marks_stay_together_and_under_their_labels(row):
    pair, _ = built(row)
    slanted = any(word in row.label for word in ('Affine', 'Rotate', 'Shear'))

    @settings(max_examples=EXAMPLES, deadline=None)
    @given(SEEDS)
    @example(0)
    @example(4816)  # CopyPaste covers most of an object
    def check(seed):
        sample = samples(row, seed, marked=True)
        seed_all(seed)
        out = pair(sample)
        if out is None:
            return
        seen = {name: img[..., 0] > row.marks for name, img in out['imgs'].items()}
        for name in NAMES[1:]:
            np.testing.assert_array_equal(seen[name], seen['rgb'], name)
        found = extent(seen['rgb'])
        if found is not None and slanted and touches_edge(found, seen['rgb'].shape):
            return  # its box was drawn around the whole, then cut
        if 'gt_bboxes' in out and found is not None:
            boxes = np.asarray(getattr(out['gt_bboxes'], 'tensor', out['gt_bboxes']))
            around = np.concatenate([boxes[:, :2].min(0), boxes[:, 2:].max(0)])
            if 'CopyPaste' in row.label:
                # it drops the box of an object that is mostly covered, not its rest
                found[:2] = np.maximum(found[:2], around[:2])
                found[2:] = np.minimum(found[2:], around[2:])
            np.testing.assert_allclose(found, around, atol=2.5)
        if 'gt_seg_map' in out and row.host != 'mmdet':
            labelled = extent(out['gt_seg_map'] == 1)
            if found is None or labelled is None:
                return
            np.testing.assert_allclose(found, labelled, atol=2.5)

    check()


@pytest.mark.parametrize('dtype', [np.uint16, np.float32])
@pytest.mark.parametrize(
    'row',
    [
        pytest.param(row, id=row.label)
        for row in (
            Row('mmengine', MMCV_LISTS[0]),
            Row('mmdet', dict(type='Rotate', max_mag=20.0)),
            Row('mmdet', dict(type='RandomAffine'), masks=False),
            Row('mmdet', dict(type='Mosaic', img_scale=SCALE), 3, masks=False),
            Row('mmdet', dict(type='CopyPaste'), 1),
            Row('mmseg', dict(type='RandomRotate', prob=1.0, degree=20)),
            Row('mmpretrain', dict(type='RandomResizedCrop', scale=32)),
        )
    ],
)
def test_counts_of_any_depth_keep_their_values(row, dtype):
    pair, stock = built(row)
    sample = samples(row, 3)
    deep = samples(Row(row.host, row.transforms, row.mix, row.masks, np.uint16), 4)
    for one, other in zip(
        [sample, *sample.get('mix_results', ())],
        [deep, *deep.get('mix_results', ())],
        strict=True,
    ):
        one['imgs']['ir'] = other['imgs']['ir'].astype(dtype)
    seed_all(5)
    alone = run(stock, single(sample, 'ir'))['img'][..., :1]
    seed_all(5)
    out = pair(sample)['imgs']
    assert out['rgb'].dtype == np.uint8
    assert out['ir'].max() > 256
    assert out['ir'].dtype == dtype or 'CopyPaste' in row.label
    np.testing.assert_array_equal(out['ir'], alone)


@pytest.mark.parametrize(
    ('dtype', 'message'),
    [
        (np.uint16, r'MixUp is for 8-bit images .* rgb/7.png of uint16'),
        (np.float32, r"MixUp turned the float32 image of 'rgb'"),
    ],
)
def test_mixing_that_squeezes_counts_into_8_bits_is_refused(dtype, message):
    pair, _ = built(Row('mmdet', dict(type='MixUp', img_scale=SCALE), 1, masks=False))
    sample = samples(Row('mmdet', dict(type='MixUp'), 1, False, dtype), 3)
    with pytest.raises(ValueError, match=message):
        pair(sample)


@pytest.mark.parametrize('name', ['CachedMosaic', 'CachedMixUp'])
def test_transforms_with_a_cache_are_refused_by_name(name):
    with pytest.raises(
        TypeError, match=rf'{name} keeps its own cache .* Use {name[6:]} '
    ):
        built(Row('mmdet', dict(type=name)))


def test_a_cache_in_a_list_of_choices_is_found():
    inner = dict(type='RandomApply', transforms=[dict(type='CachedMosaic')])
    with pytest.raises(TypeError, match='CachedMosaic keeps its own cache'):
        built(Row('mmdet', dict(type='RandomChoice', transforms=[[inner]])))


@pytest.mark.parametrize(
    'row',
    [
        pytest.param(row, id=row.label)
        for row in ROWS
        if known(row) and (row.marks or row.label.endswith('Augment'))
    ],
)
def test_transforms_that_move_pixels_are_refused_on_one_modality(row):
    from mmir.transforms import OnModality

    with (
        DefaultScope.overwrite_default_scope(row.host),
        pytest.raises(
            ValueError, match=r"OnModality: .* would move pixels of 'ir' alone"
        ),
    ):
        OnModality('ir', copy.deepcopy(row.transforms))


def test_the_mixing_data_set_of_mmseg_finds_the_samples():
    from mmengine.dataset import BaseDataset
    from mmengine.registry import DATASETS

    class Frames(BaseDataset):
        def load_data_list(self):
            return [{} for _ in range(4)]

    def load(info):
        k = info['sample_idx']
        img = noise(k)['rgb']
        imgs = {name: img.copy() for name in NAMES}
        return paired(imgs, **labels_of('mmseg', boxes_of(k)))

    importlib.import_module('mmseg.datasets')
    mosaic = dict(type='RandomMosaic', prob=1.0, img_scale=(HEIGHT, WIDTH))
    with DefaultScope.overwrite_default_scope('mmseg'):
        data = DATASETS.build(
            dict(
                type='MultiImageMixDataset',
                dataset=dict(type=Frames, pipeline=[load]),
                pipeline=[dict(type='mmir.PairedTransform', transforms=mosaic)],
            )
        )
    out = data[0]
    assert out['gt_seg_map'].shape == (2 * HEIGHT, 2 * WIDTH)
    for name in NAMES:
        np.testing.assert_array_equal(out['imgs'][name], out['imgs']['rgb'])
