"""Two segmentors, one per modality: votes, routing, losses, sliding windows."""

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData

pytest.importorskip('mmseg')

from mmseg.structures import SegDataSample

from mmir.seg.late_fusion import LateFusionSegmentor
from mmir.structures import drop_modalities

PAIR = dict(
    type='mmir.PairedSegDataPreprocessor',
    modalities=dict(rgb=dict(mean=99.0, std=50.0), ir=dict(channels=1)),
    size=(32, 48),
)


def segmentor(classes: int = 4, **test_cfg) -> ConfigDict:
    return ConfigDict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', mean=[9.0] * 3, std=[1.0]),
        backbone=dict(
            type='ResNet', depth=18, num_stages=2, out_indices=(0, 1), strides=(1, 2),
            dilations=(1, 1), base_channels=8, norm_cfg=dict(type='BN'),
        ),
        decode_head=dict(
            type='FCNHead', in_channels=16, in_index=1, channels=8, num_convs=1,
            num_classes=max(classes, 2), out_channels=classes, dropout_ratio=0,
            concat_input=False, norm_cfg=dict(type='BN'),
            threshold=0.5 if classes == 1 else None,
            loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=classes == 1),
        ),
        test_cfg=test_cfg or dict(mode='whole'),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def scope():
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def late(cfg: dict | None = None, **options) -> LateFusionSegmentor:
    cfg = cfg or segmentor()
    options = dict(dict(segmentors=dict(rgb=cfg, ir=cfg)), **options)
    model = LateFusionSegmentor(data_preprocessor=PAIR, **options)
    model.init_weights()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight, 1.0, 0.5)
    for member in model.members.values():
        torch.nn.init.normal_(member.decode_head.conv_seg.weight)
    return model.eval()


def batch(labels: int = 4) -> dict:
    generator = torch.Generator().manual_seed(1)
    samples, images = [], []
    for _ in range(3):
        size = dict(img_shape=(32, 48), ori_shape=(32, 48), pad_shape=(32, 48))
        meta = dict(modalities=('rgb', 'ir'), channels=(3, 1), absent=(), **size)
        truth = torch.randint(labels, (1, 32, 48), generator=generator)
        samples.append(SegDataSample(metainfo=meta, gt_sem_seg=PixelData(data=truth)))
        images.append(torch.randint(256, (4, 32, 48), generator=generator).byte())
    return dict(inputs=images, data_samples=samples)


def logits_alone(model: LateFusionSegmentor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of each segmentor on its own images, normalized once."""
    inputs = model.data_preprocessor(batch())['inputs']
    stacked = torch.stack(batch()['inputs']).float()
    torch.testing.assert_close(inputs[:, :3], (stacked[:, :3] - 99) / 50)
    metas = [sample.metainfo for sample in batch()['data_samples']]
    with torch.no_grad():
        return (
            model.members['rgb'].inference(inputs[:, :3], metas),
            model.members['ir'].inference(inputs[:, 3:], metas),
        )


def predicted(model: LateFusionSegmentor, data: dict) -> list[SegDataSample]:
    with torch.no_grad():
        return model.test_step(data)


def stacked_logits(samples: list[SegDataSample]) -> torch.Tensor:
    return torch.stack([sample.seg_logits.data for sample in samples])


def test_arithmetic_mean_of_probabilities():
    model = late()
    rgb, ir = logits_alone(model)
    expected = (rgb.softmax(1) + ir.softmax(1)) / 2
    samples = predicted(model, batch())
    torch.testing.assert_close(stacked_logits(samples).softmax(1), expected)
    classes = torch.stack([sample.pred_sem_seg.data[0] for sample in samples])
    assert torch.equal(classes, expected.argmax(1))
    assert (rgb.argmax(1) != ir.argmax(1)).any()  # else the mean would show nothing


def test_geometric_mean_is_the_mean_of_the_logits():
    model = late(fuse='geometric')
    rgb, ir = logits_alone(model)
    fused = stacked_logits(predicted(model, batch()))
    torch.testing.assert_close(fused, (rgb + ir) / 2)
    product = (rgb.softmax(1) * ir.softmax(1)).sqrt()
    product = product / product.sum(1, keepdim=True)
    torch.testing.assert_close(fused.softmax(1), product)


@pytest.mark.parametrize('fuse', ['arithmetic', 'geometric'])
def test_an_absent_modality_does_not_vote(fuse):
    model = late(fuse=fuse)
    rgb, ir = (x.softmax(1) for x in logits_alone(model))
    whole = batch()
    data = dict(inputs=[], data_samples=[])
    for k, gone in enumerate((['rgb'], ['ir'], [])):
        part = drop_modalities({key: [whole[key][k]] for key in whole}, gone)
        for key in data:
            data[key] += part[key]
    found = stacked_logits(predicted(model, data)).softmax(1)
    torch.testing.assert_close(found[0], ir[0])
    torch.testing.assert_close(found[1], rgb[1])
    assert not torch.allclose(found[2], rgb[2])


def test_nobody_there_means_all_classes_alike():
    model = late(segmentors=dict(ir=segmentor()))
    samples = predicted(model, drop_modalities(batch(), ['ir']))
    assert not stacked_logits(samples).any()


def test_sliding_windows_are_the_segmentors_own():
    torch.manual_seed(1)
    slide = segmentor(mode='slide', crop_size=(32, 32), stride=(16, 16))
    model = late(slide, fuse='geometric')
    rgb, ir = logits_alone(model)
    fused = stacked_logits(predicted(model, batch()))
    torch.testing.assert_close(fused, (rgb + ir) / 2)
    whole = late(segmentor(), fuse='geometric')
    whole.load_state_dict(model.state_dict())
    assert not torch.allclose(stacked_logits(predicted(whole, batch())), fused)


@pytest.mark.parametrize('fuse', ['arithmetic', 'geometric'])
def test_a_single_class(fuse):
    model = late(segmentor(1), fuse=fuse)
    rgb, ir = logits_alone(model)
    samples = predicted(model, batch())
    expected = (
        (rgb.sigmoid() + ir.sigmoid()) / 2
        if fuse == 'arithmetic'
        else ((rgb + ir) / 2).sigmoid()
    )
    # the host stores probabilities here
    torch.testing.assert_close(stacked_logits(samples), expected)
    for sample, probability in zip(samples, expected, strict=True):
        assert torch.equal(sample.pred_sem_seg.data, (probability > 0.5).float())


def test_losses_gradients_and_missing_images():
    model = late().train()
    data = model.data_preprocessor(batch(), training=True)
    losses = model.loss(**data)
    assert {'rgb.decode.loss_ce', 'ir.decode.loss_ce'} <= set(losses)
    model.parse_losses(losses)[0].backward()
    assert [k for k, p in model.named_parameters() if p.grad is None] == []

    model.zero_grad()
    data = model.data_preprocessor(drop_modalities(batch(), ['ir']), training=True)
    losses = model.loss(**data)
    assert losses['ir.decode.loss_ce'] == 0
    assert losses['rgb.decode.loss_ce'] > 0
    model.parse_losses(losses)[0].backward()
    assert not any(p.grad.any() for p in model.members['ir'].parameters())


def test_without_samples_and_crop_by_crop():
    model = late()
    inputs = model.data_preprocessor(batch())['inputs']
    with torch.no_grad():
        found = model(inputs, mode='predict')
        metas = [sample.metainfo for sample in batch()['data_samples']]
        logits = model.encode_decode(inputs, metas)
    assert torch.equal(stacked_logits(found), logits)
    assert torch.equal(logits, stacked_logits(predicted(model, batch())))


def test_checkpoints_and_options(tmp_path):
    dense = MODELS.build(segmentor())
    torch.save(dense.state_dict(), tmp_path / 'plain.pth')
    model = late(
        checkpoints=dict(rgb=tmp_path / 'plain.pth', ir=tmp_path / 'plain.pth')
    )
    key = 'backbone.conv1.weight'
    weight = dense.state_dict()[key]
    own = model.state_dict()
    assert torch.equal(own[f'members.rgb.{key}'], weight)
    torch.testing.assert_close(own[f'members.ir.{key}'], weight.sum(1, keepdim=True))
    with pytest.raises(ValueError, match=r"fuse must be one of .* got 'max'"):
        late(fuse='max')
