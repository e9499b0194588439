"""Deep ResNets of segmentors become narrow, with all that is connected to them."""

import copy

from mmir.testing.small_convolutional import BASE, shrink_convolutional_

WEIGHTS = dict(type='Pretrained', checkpoint='r50.pth')


def resnet(depth: int) -> dict:
    return dict(type='mmseg.ResNetV1c', depth=depth, init_cfg=WEIGHTS)


def test_head_and_contrast_follow() -> None:
    decoder = dict(in_channels=2048, c1_in_channels=256, c1_channels=48, channels=512)
    model = dict(
        backbone=resnet(50),
        decode_head=dict(type='mmir.CSKHead', decoder=decoder),
        contrast=dict(channels=(256, 512, 1024, 2048)),
    )
    assert shrink_convolutional_(model)
    backbone = model['backbone']
    assert (backbone['base_channels'], backbone['stem_channels']) == (BASE, BASE)
    assert backbone['depth'] == 50
    assert backbone['init_cfg'] is None
    small = model['decode_head']['decoder']
    assert (small['in_channels'], small['c1_in_channels']) == (32 * BASE, 4 * BASE)
    assert (small['channels'], small['c1_channels']) == (64, 48)
    assert model['contrast']['channels'] == tuple(4 * BASE * 2**k for k in range(4))


def test_mobile_networks_become_narrow() -> None:
    model = dict(
        backbone=dict(type='mmseg.MobileNetV2', widen_factor=1.0, init_cfg=WEIGHTS),
        decode_head=dict(in_channels=320, c1_in_channels=24, channels=128),
    )
    assert shrink_convolutional_(model)
    assert model['backbone'] == dict(
        type='mmseg.MobileNetV2', widen_factor=0.25, init_cfg=None
    )
    assert model['decode_head'] == dict(in_channels=80, c1_in_channels=8, channels=16)


def test_light_networks_lose_only_their_weights() -> None:
    model = dict(backbone=resnet(18), decode_head=dict(in_channels=512))
    before = copy.deepcopy(model)
    assert not shrink_convolutional_(model)
    before['backbone']['init_cfg'] = None
    assert model == before


def test_detectors_and_other_backbones_are_left_alone() -> None:
    detector = dict(backbone=dict(resnet(50), type='mmdet.ResNet'), neck=dict())
    other = dict(
        backbone=dict(type='mmir.TwoStreamBackbone', backbone=resnet(50)),
        decode_head=dict(in_channels=2048),
    )
    for model in (detector, other, dict(decode_head=dict())):
        before = copy.deepcopy(model)
        assert not shrink_convolutional_(model)
        assert model == before
