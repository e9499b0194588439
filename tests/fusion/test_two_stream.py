"""Two backbones of any host in place of one."""

import copy

import pytest
import torch
from any_host import HOSTS
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint
from paired_host import SMALL_DEEPLAB, assert_same, backbone_maps, lively, paired_config

from mmir.fusion.stem import widened
from mmir.fusion.two_stream import TwoStreamBackbone

ANY = {k: HOSTS[k] for k in ('rtmdet', 'segformer', 'mobilenet_v3')}
ANY['deeplab'] = SMALL_DEEPLAB
YOLO = dict(type='mmir.YOLOv7Backbone', arch='tiny')
FUSE = ['add', 'concat', 'cross_attention']


@pytest.fixture(params=ANY)
def host(request):
    host = ANY[request.param]
    pytest.importorskip(host.scope)
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(host.scope):
        yield host


@pytest.fixture
def mmdet():
    pytest.importorskip('mmdet')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def two_stream(host, fuse, **channels):
    cfg = paired_config(host, **channels)
    cfg.backbone = dict(
        type='mmir.TwoStreamBackbone',
        backbone=cfg.backbone,
        channels=channels,
        fuse=fuse,
    )
    return MODELS.build(cfg)


def test_a_dense_checkpoint_loads_into_both_streams(host, tmp_path):
    """Model, neck and head of the host; on the same image twice it is that model."""
    plain = lively(MODELS.build(paired_config(host, rgb=3)))
    torch.save(dict(state_dict=plain.state_dict()), tmp_path / 'plain.pth')
    image = torch.randn(2, 3, 64, 64).double()
    gray = image.mean(1, keepdim=True)
    model = two_stream(host, 'add', rgb=3, ir=3).double()
    load_checkpoint(model, str(tmp_path / 'plain.pth'), strict=True)
    stacked = torch.cat([image, image], 1)
    assert_same(backbone_maps(model, stacked), backbone_maps(plain, image))

    own, dense = model.state_dict(), plain.state_dict()
    for key, value in dense.items():
        last = key.removeprefix('backbone.')
        copies = [key] if last == key else [
            f'backbone.streams.{name}.{last}' for name in ('rgb', 'ir')
        ]  # fmt: skip
        assert all(torch.equal(own.pop(each), value) for each in copies), key
    assert not own

    # one thermal channel: reads what the colors read of a gray image
    model = two_stream(host, 'add', rgb=3, ir=1).double()
    load_checkpoint(model, str(tmp_path / 'plain.pth'), strict=True)
    three = gray.expand(-1, 3, -1, -1)
    stacked = torch.cat([three, gray], 1)
    assert_same(backbone_maps(model, stacked), backbone_maps(plain, three))


@pytest.mark.parametrize('fuse', FUSE)
def test_streams_and_fusion_by_hand(mmdet, fuse):
    model = MODELS.build(dict(type='mmir.TwoStreamBackbone', backbone=YOLO, fuse=fuse))
    assert model.out_channels == (128, 256, 512)
    model.double().eval()
    rgb, ir = torch.randn(2, 1, 3, 64, 96).double()
    fused = model(torch.cat([rgb, ir], 1))
    alone = zip(model.streams.rgb(rgb), model.streams.ir(ir), strict=True)
    for level, (one, other) in zip(fused, alone, strict=True):
        torch.testing.assert_close(level, (one + other) / 2)
    assert [x.shape[1:] for x in fused] == [(128, 8, 12), (256, 4, 6), (512, 2, 3)]


@pytest.mark.parametrize('fuse', FUSE)
def test_every_parameter_has_a_gradient(mmdet, fuse):
    model = MODELS.build(dict(type='mmir.TwoStreamBackbone', backbone=YOLO, fuse=fuse))
    model.init_weights()
    sum(x.square().mean() for x in model(torch.randn(2, 6, 64, 64))).backward()
    assert [k for k, p in model.named_parameters() if p.grad is None] == []


def test_levels_that_nothing_reads_have_no_parameters(mmdet):
    model = TwoStreamBackbone(backbone=YOLO, fuse='concat', levels=(1, 2))
    kinds = [type(fusion).__name__ for fusion in model.fusions]
    assert kinds == ['AddFusion', 'ConcatFusion', 'ConcatFusion']
    assert not list(model.fusions[0].parameters())


def test_its_own_checkpoint_loads_as_it_is(mmdet):
    cfg = dict(type='mmir.TwoStreamBackbone', backbone=YOLO, fuse='concat')
    first, second = MODELS.build(cfg), MODELS.build(cfg)
    for parameter in first.parameters():
        torch.nn.init.normal_(parameter)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    assert all(
        torch.equal(v, second.state_dict()[k]) for k, v in first.state_dict().items()
    )


def test_weights_of_each_modality_by_init_cfg(mmdet, tmp_path):
    for name in ('rgb', 'ir'):
        weights = MODELS.build(YOLO).state_dict()
        weights = {
            f'backbone.{k}': torch.randn_like(v.float()) for k, v in weights.items()
        }
        torch.save(dict(state_dict=weights), tmp_path / f'{name}.pth')
    start = dict(type='Pretrained', prefix='backbone.')
    cfgs = {
        name: dict(YOLO, init_cfg=dict(start, checkpoint=str(tmp_path / f'{name}.pth')))
        for name in ('rgb', 'ir')
    }
    model = TwoStreamBackbone(dict(rgb=3, ir=1), backbones=cfgs, fuse='concat')
    model.init_weights()
    key = 'stem.0.conv.weight'
    kernels = {
        name: torch.load(tmp_path / f'{name}.pth')['state_dict'][f'backbone.{key}']
        for name in cfgs
    }
    own = model.state_dict()
    assert torch.equal(own[f'streams.rgb.{key}'], kernels['rgb'])
    gray = widened(kernels['ir'], (1,), 'copy')
    assert torch.equal(own[f'streams.ir.{key}'], gray)


def test_options_of_the_backbones_are_theirs(mmdet):
    resnet = dict(type='ResNet', depth=18, frozen_stages=1, norm_eval=True)
    model = TwoStreamBackbone(backbone=resnet)
    for mode in (True, False, True):
        model.train(mode)
        for stream in model.streams.values():
            assert stream.layer4.training == mode
            assert not stream.layer4[0].bn1.training
            assert not any(p.requires_grad for p in stream.layer1.parameters())
            assert all(p.requires_grad for p in stream.layer2.parameters())
    fresh = TwoStreamBackbone(backbone=YOLO)
    assert all(m.training for m in fresh.modules())  # the trial run leaves no trace
    assert fresh.streams.rgb.stem[0].bn.num_batches_tracked == 0


def test_three_modalities_and_a_module_of_ones_own(mmdet):
    channels = dict(nir=1, ir=1, rgb=3)
    fuse = dict(type='mmir.AddFusion', mean=False)
    model = TwoStreamBackbone(channels, backbone=YOLO, fuse=fuse).double().eval()
    image = torch.randn(1, 5, 64, 64).double()
    parts = dict(rgb=image[:, :3], ir=image[:, 3:4], nir=image[:, 4:])
    alone = [model.streams[name](part) for name, part in parts.items()]
    for level, feats in zip(model(image), zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(level, sum(feats))


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(backbone=YOLO, channels=dict(rgb=3)), 'needs two modalities or more'),
        (dict(), 'give either backbone'),
        (dict(backbone=YOLO, levels=(1, 3)), r'levels=\(1, 3\), but there are 3'),
        (dict(backbone=YOLO, backbones=dict(rgb=YOLO, ir=YOLO)), 'give either'),
        (dict(backbones=dict(rgb=YOLO, nir=YOLO)), r"\['rgb', 'nir'\] for the modal"),
        (
            dict(backbones=dict(rgb=YOLO, ir=dict(YOLO, out_indices=(3, 4)))),
            r"same output channels, got {'rgb': \(128, 256, 512\), 'ir': \(256, 512\)}",
        ),
    ],
)
def test_what_does_not_fit_is_named(mmdet, options, message):
    with pytest.raises(ValueError, match=message):
        TwoStreamBackbone(**options)


def test_wrong_number_of_channels(mmdet):
    model = TwoStreamBackbone(backbone=YOLO)
    with pytest.raises(ValueError, match=r"has 4 channels, .* {'rgb': 3, 'ir': 3}"):
        model(torch.zeros(1, 4, 64, 64))
