"""Any network's stem is widened; color checkpoints give the same result."""

import copy
import logging
import pickle

import pytest
import torch
from any_host import HOSTS, MMDET, Host
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import load_checkpoint
from paired_host import (
    SMALL_DEEPLAB,
    assert_same,
    backbone_maps,
    built_by,
    lively,
    paired_config,
)
from torch import nn
from torch.nn.utils import parametrizations, prune

from mmir.fusion import EarlyFusion
from mmir.fusion.stem import find_stem, widen_stem_, widened

ALL = {
    name: HOSTS[name] for name in ('rtmdet', 'segformer', 'mobilenet_v3', 'convnext')
}
ALL['yolox'] = Host(**MMDET, config='yolox/yolox_tiny_8xb8-300e_coco.py')
ALL['deep_stem'] = SMALL_DEEPLAB
STEMS = {
    'rtmdet': 'backbone.stem.0.conv',
    'segformer': 'backbone.layers.0.0.projection',
    'convnext': 'backbone.downsample_layers.0.0',
    'yolox': 'backbone.stem.conv.conv',
    'deep_stem': 'backbone.stem.0',
}
YOLO = dict(type='mmir.YOLOv7Backbone', arch='tiny')


@pytest.fixture(params=ALL)
def host(request):
    host = ALL[request.param]
    pytest.importorskip(host.scope)
    host.name = request.param
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope(host.scope):
        yield host


@pytest.fixture
def mmdet():
    pytest.importorskip('mmdet')
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        yield


def early(host, channels, init):
    names = [f'camera{k}' for k in range(len(channels))]
    cfg = paired_config(host, **dict(zip(names, channels, strict=True)))
    return built_by('EarlyFusion', cfg, fusion=dict(channels=channels, init=init))


def test_a_color_checkpoint_keeps_its_meaning(host, tmp_path):
    plain = lively(MODELS.build(paired_config(host, rgb=3)))
    torch.save(dict(state_dict=plain.state_dict()), tmp_path / 'plain.pth')
    rgb, other = torch.randn(2, 2, 3, 64, 64).double()
    gray = rgb.mean(1, keepdim=True)
    three = gray.expand(-1, 3, -1, -1)
    cases = [
        ((3, 3), 'average', rgb, [rgb, rgb]),
        ((3, 3), 'zero', rgb, [rgb, other]),
        ((3, 1), 'average', three, [three, gray]),
    ]
    for channels, init, alone, parts in cases:
        model = early(host, channels, init).double()
        load_checkpoint(model, str(tmp_path / 'plain.pth'), strict=True)
        stacked = torch.cat(parts, 1)
        assert_same(backbone_maps(model, stacked), backbone_maps(plain, alone))
    if host.name in STEMS:
        assert list(find_stem(plain)) == [STEMS[host.name]]


def test_kernels_closed_form():
    colors = torch.arange(1.0, 4.0).view(1, 3, 1, 1)  # 1 2 3, sum 6
    cases = {
        ((3, 3), 'copy'): [1, 2, 3, 1, 2, 3],
        ((3, 3), 'average'): [0.5, 1, 1.5, 0.5, 1, 1.5],
        ((3, 1), 'copy'): [1, 2, 3, 6],
        ((3, 1), 'zero'): [1, 2, 3, 0],
        ((1, 3), 'zero'): [6, 0, 0, 0],
        ((3, 2, 1), 'average'): [1 / 3, 2 / 3, 1, 1, 1, 2],
        ((1,), 'copy'): [6],
    }
    for (channels, init), expected in cases.items():
        assert widened(colors, channels, init).flatten().tolist() == pytest.approx(
            expected
        )
    # four pixels in the channels, each with its colors side by side
    pixels = torch.arange(12.0).view(1, 12, 1, 1)
    wide = widened(pixels, (3, 1), 'copy').flatten().tolist()
    assert wide == [0, 1, 2, 3, 3, 4, 5, 12, 6, 7, 8, 21, 9, 10, 11, 30]


def test_a_checkpoint_of_the_widened_network_loads_as_it_is(mmdet):
    first, second = (MODELS.build(YOLO) for _ in range(2))
    for model in (first, second):
        assert widen_stem_(model, (3, 3)) == ['stem.0.conv']
    second.load_state_dict(first.state_dict())
    assert all(
        torch.equal(v, second.state_dict()[k]) for k, v in first.state_dict().items()
    )
    assert first.stem[0].conv.weight.shape == (32, 6, 3, 3)
    assert first.stem[0].conv.in_channels == 6


def test_copies_and_pickles_still_translate(mmdet):
    plain = MODELS.build(YOLO)
    model = MODELS.build(YOLO)
    widen_stem_(model, (3, 3), 'zero')
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        other.load_state_dict(plain.state_dict())
        kernel = other.stem[0].conv.weight
        assert torch.equal(kernel[:, :3], plain.stem[0].conv.weight)
        assert not kernel[:, 3:].any()


def test_pretrained_init_goes_through_the_translation(mmdet, tmp_path):
    plain = MODELS.build(YOLO)
    file = tmp_path / 'backbone.pth'
    torch.save(plain.state_dict(), file)
    model = MODELS.build(
        dict(YOLO, init_cfg=dict(type='Pretrained', checkpoint=str(file)))
    )
    widen_stem_(model, (3, 1))
    model.init_weights()
    expected = widened(plain.stem[0].conv.weight.detach(), (3, 1), 'average')
    assert torch.equal(model.stem[0].conv.weight, expected)
    for key, value in plain.stage4.state_dict().items():
        assert torch.equal(model.stage4.state_dict()[key], value)


def test_a_frozen_stem_stays_frozen_and_is_named(mmdet, caplog):
    model = MODELS.build(dict(YOLO, frozen_stages=0))
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    with caplog.at_level(logging.WARNING):
        widen_stem_(model, (3, 3))
    logger.removeHandler(caplog.handler)
    assert 'stem.0.conv is frozen' in caplog.text
    assert not model.stem[0].conv.weight.requires_grad


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.fine, self.coarse = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3, groups=1)
        self.grouped = nn.Conv2d(6, 4, 3, groups=2)


@pytest.mark.parametrize(
    ('model', 'options', 'message'),
    [
        (Two(), {}, r"several may be: \['fine', 'coarse'\]. Name it"),
        (nn.Sequential(nn.Conv2d(4, 4, 1)), {}, 'none reads 3 channels'),
        (Two(), dict(stem='stem'), r"\['stem'\] are not convolutions of Two"),
        (Two(), dict(stem='grouped'), 'grouped has 6 input channels in 2 groups'),
        (Two(), dict(init='mean'), "init must be one of .* got 'mean'"),
        (Two(), dict(channels=(1, 2)), 'the stem needs no change'),
        (Two(), dict(channels=(3, 0)), 'every modality needs at least one'),
    ],
)
def test_what_cannot_be_widened_is_named(model, options, message):
    with pytest.raises(ValueError, match=message):
        widen_stem_(model, **{'channels': (3, 3), **options})


class Twice(nn.Conv2d):
    def forward(self, x):
        return 2 * super().forward(x)


def tied(net):
    net.append(nn.ConvTranspose2d(4, 3, 3))
    net[1].weight = net[0].weight


def own_forward(net):
    net[0] = Twice(3, 4, 3)


NO_STEMS = [
    (lambda net: nn.utils.weight_norm(net[0]), 'its weight is computed by WeightNorm'),
    (lambda net: parametrizations.weight_norm(net[0]), 'computed by _WeightNorm'),
    (lambda net: nn.utils.spectral_norm(net[0]), 'computed by SpectralNorm'),
    (lambda net: prune.l1_unstructured(net[0], 'bias', 0.5), 'by L1Unstructured'),
    (own_forward, 'Twice is not a plain nn.Conv2d'),
    (tied, 'shares its weight with 1'),
]


@pytest.mark.parametrize(('change', 'reason'), NO_STEMS)
def test_a_stem_that_is_not_plain_is_refused_and_unchanged(change, reason):
    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    change(net)
    x = torch.randn(1, 3, 6, 6)
    expected = net.eval()(x)
    with pytest.raises(ValueError, match=f'the stem 0 cannot be widened: .*{reason}'):
        widen_stem_(net, (3, 3), stem='0')
    assert torch.equal(net(x), expected)


def test_a_refused_stem_leaves_the_others_as_they_are():
    model = Two()
    nn.utils.weight_norm(model.coarse)
    with pytest.raises(ValueError, match='the stem coarse cannot be widened'):
        widen_stem_(model, (3, 3), stem=['fine', 'coarse'])
    assert model.fine.in_channels == model.fine.weight.shape[1] == 3


def test_hooks_of_a_stem_stay():
    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    net[0].register_forward_hook(lambda module, args, output: 2 * output)
    x = torch.randn(1, 3, 6, 6)
    expected = net(x)
    widen_stem_(net, (3, 3))
    torch.testing.assert_close(net(torch.cat([x, x], 1)), expected)


def test_several_stems_by_name():
    model = Two()
    assert widen_stem_(model, (3, 3), stem=['fine', 'coarse']) == ['fine', 'coarse']
    assert model.fine.in_channels == model.coarse.in_channels == 6


def test_preprocessor_and_stem_must_agree(mmdet):
    cfg = paired_config(HOSTS['rtmdet'], rgb=3, ir=1)
    with pytest.raises(ValueError, match=r'channels=\(3, 3\), but .* of \(3, 1\)'):
        built_by('EarlyFusion', cfg, fusion=dict(channels=(3, 3)))


def test_the_channels_are_those_of_the_preprocessor(mmdet):
    cfg = paired_config(HOSTS['rtmdet'], rgb=3, ir=1)
    assert built_by('EarlyFusion', cfg).backbone.stem[0].conv.in_channels == 4
    cfg.data_preprocessor.modalities.ir = {}
    model = built_by('EarlyFusion', cfg, fusion=dict(init='zero'))
    assert model.backbone.stem[0].conv.in_channels == 6  # 3 by default
    model = built_by('EarlyFusion', cfg, fusion=dict(channels=(3, 2)))
    assert model.data_preprocessor.channels == (3, 2)
    cfg.data_preprocessor = None
    with pytest.raises(TypeError, match='channels'):
        built_by('EarlyFusion', cfg)


def test_every_parameter_gets_a_gradient(mmdet):
    model = early(HOSTS['rtmdet'], (3, 1), 'zero')
    maps = model.backbone(torch.randn(2, 4, 64, 64))
    sum(x.square().mean() for x in maps).backward()
    stem = model.backbone.stem[0].conv.weight
    assert stem.grad[:, 3:].abs().sum() > 0  # weights that start at zero are trained
    assert all(p.grad is not None for p in model.backbone.parameters())


def test_it_is_found_by_name():
    assert MODELS.get('mmir.EarlyFusion') is EarlyFusion
