"""Complementarity loss in small real models of every host, without code changes."""

import copy
from collections.abc import Callable

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData, PixelData
from torch import Tensor, nn

from mmir.adapters import freeze_
from mmir.tensorfact import TensorFactConv, augment_, factorize_
from mmir.tensorfact.complementarity_hook import (
    attach_complementarity_,
    detach_complementarity_,
)

BN = dict(type='BN')
Host = tuple[nn.Module, list]


def yolov7() -> Host:
    """A one-stage detector of this package, whose losses are sums over the batch."""
    models = pytest.importorskip('mmdet.registry').MODELS
    head = dict(type='mmir.YOLOHeadModule', in_channels=(128, 256, 512), num_classes=2)
    model = models.build(
        dict(
            type='mmir.YOLOv7',
            data_preprocessor=dict(type='mmdet.DetDataPreprocessor'),
            backbone=dict(type='mmir.YOLOv7Backbone', arch='tiny'),
            neck=dict(type='mmir.YOLOv7Neck', arch='tiny'),
            bbox_head=dict(type='mmir.YOLOHead', head_module=head),
        )
    )
    return model, [boxes() for _ in range(2)]


def rtmdet() -> Host:
    """A one-stage detector of mmdet with shared convolutions in its head."""
    models = pytest.importorskip('mmdet.registry').MODELS
    model = models.build(
        dict(
            type='mmdet.RTMDet',
            data_preprocessor=dict(type='mmdet.DetDataPreprocessor'),
            backbone=dict(
                type='mmdet.CSPNeXt',
                deepen_factor=0.167,
                widen_factor=0.125,
                norm_cfg=BN,
            ),
            neck=dict(
                type='mmdet.CSPNeXtPAFPN',
                in_channels=[32, 64, 128],
                out_channels=32,
                num_csp_blocks=1,
                norm_cfg=BN,
            ),
            bbox_head=dict(
                type='mmdet.RTMDetSepBNHead',
                num_classes=2,
                in_channels=32,
                feat_channels=32,
                stacked_convs=1,
                anchor_generator=dict(
                    type='mmdet.MlvlPointGenerator', offset=0, strides=[8, 16, 32]
                ),
                bbox_coder=dict(type='mmdet.DistancePointBBoxCoder'),
                loss_cls=dict(type='mmdet.QualityFocalLoss', use_sigmoid=True),
                loss_bbox=dict(type='mmdet.GIoULoss'),
                with_objectness=False,
                norm_cfg=BN,
            ),
            train_cfg=dict(
                assigner=dict(type='mmdet.DynamicSoftLabelAssigner', topk=13),
                allowed_border=-1,
                pos_weight=-1,
            ),
        )
    )
    return model, [boxes() for _ in range(2)]


def fcn() -> Host:
    """A segmentor of mmseg."""
    models = pytest.importorskip('mmseg.registry').MODELS
    model = models.build(
        dict(
            type='mmseg.EncoderDecoder',
            data_preprocessor=dict(type='mmseg.SegDataPreProcessor', size=(64, 64)),
            backbone=dict(
                type='mmseg.ResNetV1c',
                depth=18,
                base_channels=8,
                stem_channels=8,
                norm_cfg=BN,
            ),
            decode_head=dict(
                type='mmseg.FCNHead',
                in_channels=64,
                channels=16,
                num_classes=3,
                norm_cfg=BN,
                align_corners=False,
                loss_decode=dict(type='mmseg.CrossEntropyLoss'),
            ),
            train_cfg=dict(),
            test_cfg=dict(mode='whole'),
        )
    )
    sample = pytest.importorskip('mmseg.structures').SegDataSample
    samples = [sample(metainfo=dict(img_shape=(64, 64))) for _ in range(2)]
    for one in samples:
        labels = torch.randint(0, 3, (1, 64, 64))
        one.gt_sem_seg = PixelData(data=labels)
    return model, samples


def resnet() -> Host:
    """A classifier of mmpretrain."""
    models = pytest.importorskip('mmpretrain.registry').MODELS
    model = models.build(
        dict(
            type='mmpretrain.ImageClassifier',
            data_preprocessor=dict(type='mmpretrain.ClsDataPreprocessor'),
            backbone=dict(
                type='mmpretrain.ResNet_CIFAR',
                depth=18,
                stem_channels=8,
                base_channels=8,
            ),
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(type='mmpretrain.LinearClsHead', num_classes=4, in_channels=64),
        )
    )
    sample = pytest.importorskip('mmpretrain.structures').DataSample
    return model, [sample().set_gt_label(i) for i in (1, 3)]


def boxes():
    sample = pytest.importorskip('mmdet.structures').DetDataSample
    shape = dict(img_shape=(64, 64), pad_shape=(64, 64), ori_shape=(64, 64))
    one = sample(metainfo={**shape, 'scale_factor': (1.0, 1.0)})
    one.gt_instances = InstanceData(
        bboxes=torch.tensor([[8.0, 10.0, 30.0, 40.0], [20.0, 4.0, 60.0, 44.0]]),
        labels=torch.tensor([0, 1]),
    )
    one.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4))
    return one


@pytest.fixture(params=[yolov7, rtmdet, fcn, resnet], ids=lambda build: build.__name__)
def host(request) -> tuple[nn.Module, Callable[[], dict]]:
    """A model in its infrared stage, and a function that gives a batch."""
    torch.manual_seed(0)
    # the host's defaults have no scope of their own
    scope = {fcn: 'mmseg', resnet: 'mmpretrain'}.get(request.param, 'mmdet')
    with DefaultScope.overwrite_default_scope(scope):
        model, samples = request.param()
    factorize_(model, 4)
    augment_(model, 'ir', 1)
    freeze_(model, 'ir')
    for layer in model.modules():
        if isinstance(layer, TensorFactConv):
            nn.init.normal_(layer.deltas.ir.A, std=0.02)
    images = list(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))

    def batch() -> dict:
        return dict(inputs=list(images), data_samples=copy.deepcopy(samples))

    return model.train(), batch


def losses_of(model: nn.Module, batch: Callable[[], dict]) -> dict[str, Tensor]:
    torch.manual_seed(1)
    data = model.data_preprocessor(batch(), training=True)
    return model(**data, mode='loss')


def total(value: Tensor | list[Tensor]) -> Tensor:
    return sum(v.sum() for v in value) if isinstance(value, list) else value.sum()


@pytest.mark.parametrize('form', ['cos2', 'weight'])
def test_train_step(host, form):
    model, batch = host
    plain = losses_of(copy.deepcopy(model), batch)
    attach_complementarity_(model, 0.1, form)
    losses = losses_of(copy.deepcopy(model), batch)
    assert list(losses) == [*plain, 'loss_comp']
    for key, value in plain.items():
        torch.testing.assert_close(total(losses[key]), total(value), rtol=1e-3, atol=0)

    wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), 0.01))
    start = {k: v.clone() for k, v in model.state_dict().items()}
    found = model.train_step(batch(), wrapper)
    assert found['loss_comp'].isfinite()
    assert found['loss_comp'] > 0
    if 'loss' not in plain:  # else the log names the part like the sum
        parts = sum(v for k, v in found.items() if 'loss' in k and k != 'loss')
        assert found['loss'].item() == pytest.approx(parts.item(), rel=1e-5)
    for key, value in model.state_dict().items():
        frozen = key.endswith(('.A', '.B')) and '.deltas.' not in key
        assert not frozen or torch.equal(value, start[key]), key
    copy.deepcopy(model)


def test_gradient_of_the_loss_reaches_deltas_only(host):
    model, batch = host
    attach_complementarity_(model)
    losses_of(model, batch)['loss_comp'].backward()
    got = {n for n, p in model.named_parameters() if p.grad is not None}
    deltas = {n for n, p in model.named_parameters() if '.deltas.' in n}
    assert got == deltas
    assert all(model.get_parameter(n).grad.isfinite().all() for n in got)
    assert any(model.get_parameter(n).grad.abs().sum() > 0 for n in got)


def test_off_is_free(host):
    model, batch = host
    twin = copy.deepcopy(model)
    attach_complementarity_(twin, 0)
    third = copy.deepcopy(model)
    attach_complementarity_(third)
    detach_complementarity_(third)
    expected = losses_of(model, batch)
    for other in (twin, third):
        assert not other._forward_hooks
        assert not other._forward_pre_hooks
        losses = losses_of(other, batch)
        assert list(losses) == list(expected)
        for key, value in expected.items():
            assert torch.equal(total(losses[key]), total(value))


def test_scale_follows_the_losses_of_the_head(monkeypatch):
    """YOLOv7 multiplies its losses by the size of the batch."""
    torch.manual_seed(0)
    model, samples = yolov7()
    monkeypatch.setattr(
        type(model.bbox_head), 'losses_sum_over_batch', True, raising=False
    )
    factorize_(model, 4)
    augment_(model, 'ir', 1)
    for layer in model.modules():
        if isinstance(layer, TensorFactConv):
            nn.init.normal_(layer.deltas.ir.A, std=0.02)
    images = list(torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8))
    found = {}
    for number in (1, 3):
        twin = copy.deepcopy(model).train()
        attach_complementarity_(twin)
        data = dict(inputs=images * number, data_samples=samples[:1] * number)
        losses = losses_of(twin, lambda data=data: copy.deepcopy(data))
        found[number] = {k: v.item() for k, v in losses.items()}
    # The same image three times: every loss of the model is three times as large.
    for key, value in found[1].items():
        assert found[3][key] == pytest.approx(3 * value, rel=2e-3), key
