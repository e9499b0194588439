"""Paired batches for mmdet: each modality as from mmdet's preprocessor."""

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.registry import MODELS
from mmengine.structures import InstanceData
from paired_batches import META, ROWS, batch, part, same_pattern, twins

from mmir.det import PairedDetDataPreprocessor
from mmir.structures import split_modalities

SIZES = [(33, 40), (48, 31)]


def sample(meta):
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    height, width = meta['img_shape']
    boxes = torch.tensor([[2.0, 3, 20, 30]])
    masks = BitmapMasks(torch.ones(1, height, width).numpy(), height, width)
    return DetDataSample(
        metainfo=meta, gt_instances=InstanceData(bboxes=boxes, masks=masks)
    )


def test_each_modality_equals_the_stock_one():
    from mmdet.models import DetDataPreprocessor

    pair = MODELS.build(
        dict(
            type='mmir.PairedDetDataPreprocessor',
            modalities=ROWS,
            pad_size_divisor=32,
            pad_value=0,
            pad_mask=True,
        )
    )
    assert isinstance(pair, PairedDetDataPreprocessor)
    out = pair(batch(SIZES, sample), training=True)
    assert out['inputs'].shape == (2, 7, 64, 64)
    parts = split_modalities(out['inputs'], META)
    for name, row in ROWS.items():
        row = {k: v for k, v in row.items() if k != 'channels'}
        stock = DetDataPreprocessor(**row, pad_size_divisor=32, pad_mask=True)
        alone = stock(part(batch(SIZES, sample), name), training=True)
        assert torch.equal(parts[name], alone['inputs']), name
    for mine, theirs in zip(out['data_samples'], alone['data_samples'], strict=True):
        assert mine.metainfo == theirs.metainfo
        assert mine.metainfo['batch_input_shape'] == (64, 64)
        one, other = mine.gt_instances.masks, theirs.gt_instances.masks
        assert one.masks.shape == other.masks.shape == (1, 64, 64)


@pytest.mark.parametrize(
    ('augment', 'sides'),
    [
        (dict(type='BatchFixedSizePad', size=(96, 128)), {(96, 128)}),
        (
            dict(
                type='BatchSyncRandomResize', random_size_range=(32, 96), interval=1,
                size_divisor=32,
            ),
            {(32, 32), (64, 64), (96, 96)},
        ),
    ],
)  # fmt: skip
def test_batch_augments_do_the_same_to_all_modalities(augment, sides):
    rows = ROWS | dict(nir=ROWS['rgb'])
    augments = [{**augment, 'type': f'mmdet.{augment["type"]}'}]
    pair = PairedDetDataPreprocessor(
        modalities=rows, pad_size_divisor=32, batch_augments=augments
    )
    MessageHub.get_current_instance().update_info('iter', 0)  # the runner does
    seen = set()
    for seed in range(3):
        torch.manual_seed(seed)
        out = pair(twins(batch(SIZES, sample)), training=True)['inputs']
        assert same_pattern(out)
        seen.add(tuple(out.shape[-2:]))
    assert seen <= sides


def test_absent_modalities():
    data = batch(SIZES, sample)
    data['data_samples'][1].set_metainfo(dict(absent=('rgb', 'nir')))
    out = PairedDetDataPreprocessor(modalities=ROWS)(data)
    first, second = out['inputs']
    assert second[:3].abs().max() == second[4:].abs().max() == 0
    assert min(first[:3].std(), first[4:].std(), second[3].std()) > 0.5


def test_settings_of_the_host_are_passed_on():
    pair = PairedDetDataPreprocessor(modalities=ROWS, pad_size_divisor=16, pad_value=7)
    out = pair(batch([(9, 9)], sample))['inputs']
    assert out.shape[-2:] == (16, 16)
    assert (out[..., 9:, :] == 7).all()
    with pytest.raises(ValueError, match=r"set \['mean'\] per modality"):
        PairedDetDataPreprocessor(modalities=ROWS, mean=[0])
