"""Light networks: weights of torchvision, timm and mmpretrain give their outputs."""

from collections.abc import Callable

import pytest
import torch
import torchvision
from reid_models import build
from torch import Tensor, nn

from mmir.utils.errors import UserError

CASES = {
    'mobilenet_v3_large': dict(type='mmir.LightMobileNetV3', arch='large'),
    'mobilenet_v3_small': dict(type='mmir.LightMobileNetV3', arch='small'),
    'mobilenet_v2': dict(type='mmir.LightMobileNetV2'),
    'shufflenet_v2_x1_0': dict(type='mmir.LightShuffleNetV2', widen_factor=1.0),
    'shufflenet_v2_x1_5': dict(type='mmir.LightShuffleNetV2', widen_factor=1.5),
}
TIMM = {
    'mobilenetv3_large_100': CASES['mobilenet_v3_large'],
    'mobilenetv3_small_100': CASES['mobilenet_v3_small'],
    'mobilenetv2_100': CASES['mobilenet_v2'],
    'ghostnet_100': dict(type='mmir.LightGhostNet', width=1.0),
    'ghostnet_130': dict(type='mmir.LightGhostNet', width=1.3),
}


def image() -> Tensor:
    return torch.rand(1, 3, 64, 32, generator=torch.Generator().manual_seed(1))


def varied(model: nn.Module) -> nn.Module:
    """Statistics and scales of the norms that differ from channel to channel."""
    torch.manual_seed(2)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.7, 1.3)
            module.bias.data.normal_(0, 0.1)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.7, 1.3)
    return model.eval()


def torchvision_map(net: nn.Module) -> Tensor:
    """The last map of a network of torchvision, with the first layer of its head."""
    if hasattr(net, 'stage2'):
        stages = (net.conv1, net.maxpool, net.stage2, net.stage3, net.stage4, net.conv5)
        return nn.Sequential(*stages)(image())
    x = net.features(image())
    if isinstance(net.classifier[0], nn.Linear):
        x = net.classifier[1](net.classifier[0](x.movedim(1, -1))).movedim(-1, 1)
    return x


def check_loads(theirs: nn.Module, cfg: dict, expected: Tensor, tmp_path) -> None:
    """A file of the other library gives its map, by `init_cfg`, keys in any order."""
    state = dict(sorted(theirs.state_dict().items()))  # safetensors sorts them
    torch.save(state, tmp_path / 'x.pth')
    start = dict(type='Pretrained', checkpoint=str(tmp_path / 'x.pth'))
    ours = build(cfg | dict(init_cfg=start), seed=3)
    torch.testing.assert_close(ours(image())[-1], expected)
    missing, unexpected = build(cfg).load_state_dict(state, strict=False)
    assert [*missing] == []
    assert [*unexpected] == []


@pytest.mark.parametrize('name', CASES)
def test_weights_of_torchvision(name: str, tmp_path) -> None:
    theirs = varied(getattr(torchvision.models, name)())
    with torch.no_grad():
        check_loads(theirs, CASES[name], torchvision_map(theirs), tmp_path)


@pytest.mark.parametrize('name', TIMM)
def test_weights_of_timm(name: str, tmp_path) -> None:
    timm = pytest.importorskip('timm')
    theirs = varied(timm.create_model(name))
    cfg = dict(TIMM[name])
    if 'MobileNetV3' in cfg['type']:
        cfg['norm_cfg'] = dict(type='BN', eps=1e-5)
    with torch.no_grad():
        x = theirs.forward_features(image())
        if not name.startswith('mobilenetv2'):
            x = theirs.act2(theirs.conv_head(x))
        check_loads(theirs, cfg, x, tmp_path)


def classifier(backbone: dict, head: dict) -> nn.Module:
    """A classifier of mmpretrain."""
    neck = dict(type='GlobalAveragePooling')
    cfg = dict(type='ImageClassifier', backbone=backbone, neck=neck, head=head)
    return varied(build(cfg))


def with_hidden(net: nn.Module) -> Tensor:
    """The map of MobileNetV3 after the first layer of its head."""
    (x,) = net.backbone(image())
    layer = net.head.layers[0]
    return layer.act(layer.fc(x.movedim(1, -1))).movedim(-1, 1)


@pytest.mark.parametrize(
    ('their', 'ours', 'head', 'run'),
    [
        (
            dict(type='MobileNetV3', arch='small'),
            CASES['mobilenet_v3_small'],
            dict(
                type='StackedLinearClsHead',
                num_classes=3,
                in_channels=576,
                mid_channels=[1024],
                act_cfg=dict(type='HSwish'),
            ),
            with_hidden,
        ),
        (
            dict(type='ShuffleNetV2'),
            CASES['shufflenet_v2_x1_0'],
            dict(type='LinearClsHead', num_classes=3, in_channels=1024),
            lambda net: net.backbone(image())[0],
        ),
    ],
)
def test_classifiers_of_mmpretrain(
    their: dict, ours: dict, head: dict, run: Callable, tmp_path
) -> None:
    theirs = classifier(their, head)
    with torch.no_grad():
        check_loads(theirs, ours, run(theirs), tmp_path)


@pytest.mark.parametrize('inside', [True, False])
def test_other_libraries_fill_both_stems(inside: bool, tmp_path) -> None:
    theirs = varied(torchvision.models.mobilenet_v3_small())
    torch.save(theirs.state_dict(), tmp_path / 'x.pth')
    start = dict(type='Pretrained', checkpoint=str(tmp_path / 'x.pth'))
    cfg = dict(
        type='mmir.TwoStemBackbone',
        stem=['layer0'],
        backbone=CASES['mobilenet_v3_small'],
    )
    if inside:
        cfg['backbone'] = cfg['backbone'] | dict(init_cfg=start)
    else:
        cfg['init_cfg'] = start
    ours = build(cfg)
    with torch.no_grad():
        expected = torchvision_map(theirs)
        for name in ('rgb', 'ir'):
            torch.testing.assert_close(ours(image(), [name])[-1], expected)


@pytest.mark.parametrize('name', [n for n in CASES if n != 'mobilenet_v2'])
def test_files_of_other_networks_are_refused(name: str) -> None:
    from mmir.utils import light_networks as convert

    state = torchvision.models.mobilenet_v2().state_dict()
    kind = 'mobilenet_v3' if 'mobile' in name else 'shufflenet_v2'
    with pytest.raises(ValueError, match='features'):
        getattr(convert, f'convert_{kind}')(state)


def test_unknown_sizes_are_refused() -> None:
    with pytest.raises(UserError, match='small_050'):
        build(dict(type='mmir.LightMobileNetV3', arch='huge'))
    with pytest.raises(UserError, match='width'):
        build(dict(type='mmir.LightGhostNet', width=2.0))
