"""Paired batches for mmseg: each modality as from mmseg's preprocessor."""

import torch
from mmengine.registry import MODELS
from mmengine.structures import PixelData
from paired_batches import META, ROWS, batch, part, same_pattern, twins
from torch import nn

from mmir.seg import PairedSegDataPreprocessor
from mmir.structures import split_modalities

SIZES = [(33, 40), (48, 31)]


def sample(meta):
    from mmseg.structures import SegDataSample

    seg_map = torch.ones(1, *meta['img_shape'], dtype=torch.long)
    return SegDataSample(metainfo=meta, gt_sem_seg=PixelData(data=seg_map))


def test_each_modality_equals_the_stock_one():
    from mmseg.models import SegDataPreProcessor

    options = dict(size=(64, 48), pad_val=0, seg_pad_val=255)
    pair = MODELS.build(
        dict(type='mmir.PairedSegDataPreprocessor', modalities=ROWS, **options)
    )
    out = pair(batch(SIZES, sample), training=True)
    parts = split_modalities(out['inputs'], META)
    assert out['inputs'].shape == (2, 7, 64, 48)
    for name, row in ROWS.items():
        row = {k: v for k, v in row.items() if k != 'channels'}
        stock = SegDataPreProcessor(**row, **options)
        alone = stock(part(batch(SIZES, sample), name), training=True)
        assert torch.equal(parts[name], alone['inputs']), name
    for mine, theirs in zip(out['data_samples'], alone['data_samples'], strict=True):
        assert mine.metainfo == theirs.metainfo
        assert torch.equal(mine.gt_sem_seg.data, theirs.gt_sem_seg.data)
        assert (mine.gt_sem_seg.data == 255).any()


def test_padding_of_the_test_config():
    pair = PairedSegDataPreprocessor(modalities=ROWS, test_cfg=dict(size_divisor=32))
    out = pair(batch([(33, 40)], sample))
    assert out['inputs'].shape == (1, 7, 64, 64)
    assert out['data_samples'][0].metainfo['img_padding_size'] == (0, 24, 0, 31)


class Erase(nn.Module):
    """A batch augment as mmseg calls them."""

    def forward(self, inputs, data_samples):
        at = int(torch.randint(0, 30, ()))
        inputs[..., at : at + 9, at : at + 9] = 0
        return inputs, data_samples


def test_batch_augments_do_the_same_to_all_modalities():
    rows = ROWS | dict(nir=ROWS['rgb'])
    pair = PairedSegDataPreprocessor(
        modalities=rows, size=(48, 48), batch_augments=Erase()
    )
    out = pair(twins(batch(SIZES, sample)), training=True)['inputs']
    assert same_pattern(out)
    assert ((out[:, :3] == 0) == (out[:, 4:] == 0)).all()
    assert (out[:, 3] == 0).sum() >= 2 * 81


def test_absent_modalities():
    data = batch([(32, 32)] * 2, sample)
    data['data_samples'][0].set_metainfo(dict(absent=('ir',)))
    pair = PairedSegDataPreprocessor(modalities=ROWS, absent_value=1.5)
    out = pair(data)['inputs']
    assert (out[0, 3] == 1.5).all()
    assert out[1, 3].std() > 0.5
