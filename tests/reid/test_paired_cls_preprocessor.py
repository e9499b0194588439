"""Paired batches for mmpretrain: each modality as from its own preprocessor."""

import pytest
import torch
from mmengine.dataset import default_collate
from mmengine.registry import MODELS, DefaultScope
from paired_batches import META, ROWS, batch, part, same_pattern, twins

from mmir.reid import PairedClsDataPreprocessor
from mmir.structures import split_modalities

SIZES = [(32, 24)] * 4


def sample(meta):
    from mmpretrain.structures import DataSample

    return DataSample(metainfo=meta).set_gt_label(len(meta['modalities']))


def stacked(data: dict) -> dict:
    """Return the batch as from mmpretrain's default collate function."""
    pairs = zip(data['inputs'], data['data_samples'], strict=True)
    return default_collate([dict(inputs=x, data_samples=s) for x, s in pairs])


@pytest.mark.parametrize('collate', [stacked, dict])
def test_each_modality_equals_the_stock_one(collate):
    from mmpretrain.models import ClsDataPreprocessor

    options = dict(pad_size_divisor=16, num_classes=5, to_onehot=True)
    pair = MODELS.build(
        dict(type='mmir.PairedClsDataPreprocessor', modalities=ROWS, **options)
    )
    out = pair(collate(batch(SIZES, sample)), training=True)
    assert out['inputs'].shape == (4, 7, 32, 32)
    parts = split_modalities(out['inputs'], META)
    for name, row in ROWS.items():
        stats = dict(mean=row['mean'], std=row['std'])
        stock = ClsDataPreprocessor(
            **stats, to_rgb=row.get('bgr_to_rgb', False), **options
        )
        alone = stock(collate(part(batch(SIZES, sample), name)), training=True)
        assert torch.equal(parts[name], alone['inputs']), name
    for mine, theirs in zip(out['data_samples'], alone['data_samples'], strict=True):
        assert torch.equal(mine.gt_score, theirs.gt_score)


@pytest.mark.parametrize('kind', ['Mixup', 'CutMix'])
def test_batch_augments_do_the_same_to_all_modalities(kind):
    rows = ROWS | dict(nir=ROWS['rgb'])
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        pair = PairedClsDataPreprocessor(
            modalities=rows,
            num_classes=5,
            batch_augments=dict(augments=[dict(type=kind, alpha=1.0)]),
        )
    plain = PairedClsDataPreprocessor(modalities=rows)
    data = twins(batch(SIZES, sample))
    torch.manual_seed(1)
    mixed = pair(data, training=True)['inputs']
    assert same_pattern(mixed)
    changed = mixed != plain(data)['inputs']
    moved = changed.flatten(1).any(1)  # a shuffle may keep an image in its place
    assert moved.any()
    if kind == 'CutMix':  # one box of every channel
        ys, xs = changed.any(0).any(0).nonzero().T
        box = changed[moved][..., ys.min() : ys.max() + 1, xs.min() : xs.max() + 1]
        assert box.float().mean() > 0.98  # some gray values are alike by chance


def test_absent_modalities_of_a_stacked_batch():
    data = batch(SIZES, sample)
    data['data_samples'][2].set_metainfo(dict(absent=('rgb',)))
    out = PairedClsDataPreprocessor(modalities=ROWS)(stacked(data))['inputs']
    assert out[2, :3].abs().max() == 0
    assert out[1, :3].std() > 0.5
