"""Progressive decoder: its form, its values by hand, its place in a segmentor."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import nn
from torch.nn import functional as F

from mmir.seg import SODHead, SODLoss
from mmir.seg.sod.decoder import ConvNeXtBlock, normalize

PAGE = Path(__file__).parents[3] / 'docs/salient_objects.md'


def features(channels, sizes, batch=2, seed=0):
    torch.manual_seed(seed)
    return [
        torch.randn(batch, c, *size) for c, size in zip(channels, sizes, strict=True)
    ]


def sample(label):
    return SegDataSample(gt_sem_seg=PixelData(data=torch.as_tensor(label)[None]))


def test_form_and_parameters_as_published():
    with torch.device('meta'):
        head = SODHead([1024] * 4)
    convs = [stage.conv for stage in head.stages]
    assert [(c.in_channels, c.out_channels) for c in convs] == [
        (1024, 768), (1792, 384), (1408, 192), (1216, 96),
    ]  # fmt: skip
    assert all(c.bias is None and c.kernel_size == (3, 3) for c in convs)
    assert [c.in_channels for c in head.sides] == [768, 384, 192]
    assert head.last.conv.out_channels == head.conv_seg.in_channels == 48
    counts = {
        name: sum(p.numel() for p in part.parameters())
        for name, part in head.named_children()
        if name != 'loss_decode'
    }
    widths = (768, 384, 192, 96)
    stages = 9 * (1024 * 768 + 1792 * 384 + 1408 * 192 + 1216 * 96) + 2 * sum(widths)
    # depthwise 49 + bias, layer norm 2, MLP 8 per channel squared, its biases, scale
    blocks = sum(8 * c * c + (50 + 2 + 4 + 1 + 1) * c for c in widths[1:])
    assert counts == dict(
        stages=stages,
        blocks=blocks,
        sides=sum(9 * c + 1 for c in widths[:3]),
        last=9 * 96 * 48 + 2 * 48,
        conv_seg=9 * 48 + 1,
    )


def up(conv, norm, x, size):
    """Convolution, batch norm of the batch, exact GELU, corners aligned: by hand."""
    x = F.conv2d(x, conv.weight, padding=1)
    mean = x.mean((0, 2, 3), keepdim=True)
    var = ((x - mean) ** 2).mean((0, 2, 3), keepdim=True)
    x = (x - mean) / (var + 1e-5).sqrt()
    x = x * norm.weight.view(1, -1, 1, 1) + norm.bias.view(1, -1, 1, 1)
    x = x * (1 + torch.erf(x / 2**0.5)) / 2
    return aligned(x, size)


def aligned(x, size):
    """Bilinear interpolation with the corner pixels in the corners, as two matrices."""
    weights = []
    for old, new in zip(x.shape[-2:], size, strict=True):
        place = torch.arange(new).double() * (old - 1) / max(new - 1, 1)
        grid = torch.arange(old)
        weights.append((1 - (place[:, None] - grid).abs()).clamp(min=0).to(x))
    return weights[0] @ x @ weights[1].T


def convnext(block, x):
    y = F.conv2d(
        x, block.depthwise.weight, block.depthwise.bias, padding=3, groups=x.shape[1]
    )
    mean = y.mean(1, keepdim=True)
    y = (y - mean) / (((y - mean) ** 2).mean(1, keepdim=True) + 1e-6).sqrt()
    y = y * block.norm.weight.view(-1, 1, 1) + block.norm.bias.view(-1, 1, 1)
    y = torch.einsum('oc,nchw->nohw', block.expand.weight, y)
    y = y + block.expand.bias.view(-1, 1, 1)
    y = y * (1 + torch.erf(y / 2**0.5)) / 2
    y = torch.einsum('oc,nchw->nohw', block.reduce.weight, y)
    y = y + block.reduce.bias.view(-1, 1, 1)
    return x + block.gamma.view(-1, 1, 1) * y


SIZES = [(12, 20), (6, 10), (3, 5), (2, 3)]  # 3 x 5 is not twice 2 x 3


def test_outputs_equal_the_decoder_by_hand():
    channels = (3, 4, 5, 6)
    head = SODHead(channels, channels=4).double()
    torch.manual_seed(5)
    for p in head.parameters():  # so that layer scale and norms have a part
        torch.nn.init.normal_(p, std=0.5)
    x = [f.double() for f in features(channels, SIZES)]
    stages, blocks = head.stages, head.blocks
    deep = up(stages[0].conv, stages[0].norm, x[3], SIZES[2])
    outputs = [(head.sides[0], deep)]
    for level in (1, 2, 3):
        size = SIZES[2 - level] if level < 3 else (24, 40)
        deep = torch.cat((deep, x[3 - level]), 1)
        deep = up(stages[level].conv, stages[level].norm, deep, size)
        deep = convnext(blocks[level - 1], deep)
        outputs.append((head.sides[level] if level < 3 else None, deep))
    last = up(head.last.conv, head.last.norm, outputs[-1][1], (48, 80))
    wanted = F.conv2d(last, head.conv_seg.weight, head.conv_seg.bias, padding=1)
    torch.testing.assert_close(head(x), wanted, rtol=1e-9, atol=1e-9)
    assert wanted.shape == (2, 1, 48, 80)

    label = torch.randint(0, 2, (2, 50, 70))
    losses = head.loss(x, [sample(row) for row in label], {})
    sides = [F.conv2d(y, s.weight, s.bias, padding=1) for s, y in outputs[:3]]
    for name, logits in zip(
        ('loss_sod', 'loss_sod_side1', 'loss_sod_side2', 'loss_sod_side3'),
        (wanted, *sides[::-1]),
        strict=True,
    ):
        logits = F.interpolate(logits, (50, 70), mode='bilinear', align_corners=False)
        torch.testing.assert_close(losses.pop(name), SODLoss()(logits, label))
    assert losses == {}


def test_every_parameter_trains():
    head = SODHead((8, 8, 8, 8), channels=8)
    x = features((8,) * 4, [(16, 16), (8, 8), (4, 4), (2, 2)])
    label = torch.randint(0, 2, (2, 64, 64))
    losses = head.loss(x, [sample(row) for row in label], {})
    sum(losses.values()).backward()
    assert [n for n, p in head.named_parameters() if p.grad is None] == []
    assert all((p.grad != 0).any() for p in head.parameters())


def test_a_block_begins_near_the_identity():
    block, x = ConvNeXtBlock(6), torch.randn(2, 6, 9, 7)
    torch.testing.assert_close(block(x), x, atol=1e-4, rtol=0)
    assert not torch.equal(block(x), x)
    assert torch.equal(block.gamma, torch.full((6,), 1e-6))


def test_batch_norm_of_a_single_pixel():
    """One pixel at the deepest level: the running statistics, which do not change."""
    head = SODHead((4,) * 4, channels=4).train()
    x = features((4,) * 4, [(8, 8), (4, 4), (2, 2), (1, 1)], batch=1)
    norm = head.stages[0].norm
    norm.running_mean.uniform_(), norm.running_var.uniform_(1, 2)
    before = norm.running_mean.clone()
    losses = head.loss(x, [sample(torch.ones(32, 32).long())], {})
    assert torch.isfinite(sum(losses.values()))
    assert torch.equal(norm.running_mean, before)
    y = head.stages[0](x[3])
    torch.testing.assert_close(y, head.eval().stages[0](x[3]))
    head.train().stages[0](torch.randn(1, 4, 1, 2))  # two pixels: as usual
    assert not torch.equal(norm.running_mean, before)


def test_a_synchronized_norm_is_left_alone():
    pixel = torch.ones(1, 4, 1, 1)
    normalize(nn.BatchNorm2d(4), pixel)
    for norm in (nn.SyncBatchNorm(4), nn.BatchNorm2d(4, track_running_stats=False)):
        with pytest.raises(ValueError, match='more than 1 value per channel'):
            normalize(norm, pixel)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_autocast(dtype):
    head = SODHead((8, 8, 8), channels=8)
    x = features((8,) * 3, [(16, 16), (8, 8), (4, 4)])
    label = [sample(row) for row in torch.randint(0, 2, (2, 64, 64))]
    full = sum(head.loss(x, label, {}).values())
    with torch.autocast('cpu', dtype):
        half = sum(head.loss(x, label, {}).values())
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(full.item(), rel=0.02)


def test_other_numbers_of_maps():
    head = SODHead((5, 7), channels=4, in_index=(0, 2)).eval()
    x = features((5, 6, 7), [(9, 11), (5, 6), (5, 6)])
    assert head(x).shape == (2, 1, 36, 44)
    assert len(head.sides) == 1


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        (dict(in_channels=[8]), 'at least 2 maps, got 1'),
        (dict(channels=5), 'even, got 5'),
        (dict(num_classes=9), 'num_classes=2 and out_channels=1, got 9 and 1'),
        (dict(out_channels=2), 'got 2 and 2'),
    ],
)
def test_refusals(options, said):
    with pytest.raises(ValueError, match=said):
        SODHead(**(dict(in_channels=[8, 8]) | options))


def segmentor(test_cfg):
    colour = dict(mean=[120.0, 115.0, 105.0], std=[58.0, 57.0, 57.0], bgr_to_rgb=True)
    init_default_scope('mmseg')
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type='mmir.EarlyFusion',
            target='mmseg.EncoderDecoder',
            data_preprocessor=dict(
                type='mmir.PairedSegDataPreprocessor',
                modalities=dict(rgb=colour, ir=dict(mean=0.0, std=255.0, channels=1)),
                size_divisor=32,
                test_cfg=dict(size_divisor=32),
            ),
            backbone=dict(
                type='mmseg.ResNet', depth=18, stem_channels=8, base_channels=8,
                norm_cfg=dict(type='BN'),
            ),
            decode_head=dict(
                type='mmir.SODHead', in_channels=[8, 16, 32, 64], channels=8
            ),
            test_cfg=ConfigDict(test_cfg),
        )
    )  # fmt: skip


def batch(*sizes):
    rng = np.random.default_rng(0)
    data = dict(inputs=[], data_samples=[])
    for size in sizes:
        data['inputs'].append(torch.from_numpy(rng.integers(0, 256, (4, *size), 'u1')))
        item = sample(rng.integers(0, 2, size))
        item.set_metainfo(
            dict(
                modalities=('rgb', 'ir'), channels=(3, 1), img_shape=size,
                ori_shape=(size[0] + 3, size[1] - 1), pad_shape=size,
            )
        )  # fmt: skip
        data['data_samples'].append(item)
    return data


def test_a_training_step_lowers_the_loss():
    model = segmentor(dict(mode='whole'))
    optim = torch.optim.Adam(model.parameters(), 2e-3)
    data = model.data_preprocessor(batch((64, 96), (50, 70)), training=True)
    totals = []
    for _ in range(4):
        total, log = model.parse_losses(model(**data, mode='loss'))
        optim.zero_grad()
        total.backward()
        optim.step()
        totals.append(total.item())
    assert totals[-1] < totals[0]
    names = [f'decode.loss_sod{side}' for side in ('', '_side1', '_side2', '_side3')]
    assert {*log} == {*names, 'loss'}
    assert log['loss'].item() == pytest.approx(sum(log[n].item() for n in names))


@pytest.mark.parametrize(
    'test_cfg',
    [dict(mode='whole'), dict(mode='slide', crop_size=(64, 64), stride=(40, 40))],
    ids=['whole', 'slide'],
)
def test_prediction_has_the_original_size(test_cfg):
    model = segmentor(test_cfg).eval()
    data = batch((75, 101))
    with torch.no_grad():
        result = model.test_step(data)[0]
    assert result.seg_logits.data.shape == (1, 78, 100)
    saliency = result.seg_logits.data
    assert 0 < saliency.min() < saliency.max() < 1
    assert torch.equal(result.pred_sem_seg.data > 0, saliency > 0.5)


def test_the_prediction_is_the_sigmoid_of_the_first_output():
    model = segmentor(dict(mode='whole')).eval()
    data = model.data_preprocessor(batch((64, 96)))
    with torch.no_grad():
        logits = model(**data, mode='tensor')
        saliency = model(**data, mode='predict')[0].seg_logits.data
    wanted = F.interpolate(logits, (67, 95), mode='bilinear', align_corners=False)
    torch.testing.assert_close(saliency, wanted[0].sigmoid())


def test_the_page():
    """The model on the page of salient objects works as printed."""
    block = re.search(
        r'<!-- config: sod -->\n```python\n(.*?)```', PAGE.read_text(), re.S
    )
    found = {}
    exec(block[1], found)
    init_default_scope('mmseg')
    config = ConfigDict(found['model'])
    config.backbone.update(stem_channels=8, base_channels=8)
    config.decode_head.in_channels = [8, 16, 32, 64]
    model = MODELS.build(config).eval()
    inputs = torch.zeros(1, 6, 64, 96)
    with torch.no_grad():
        assert model(inputs).shape == (1, 1, 64, 96)
