"""`MFE` and `TMPABackbone`: sizes, routes, branches and checkpoints."""

from pathlib import Path

import pytest
import torch
from mmpretrain.models import ResNet
from reid_models import PLAIN, TRANSFER, WIDTH, build
from torch import nn

from mmir.registry import MODELS
from mmir.utils.errors import UserError

MIXED = ['ir', 'rgb', 'rgb', 'ir', 'rgb']


MOBILE = dict(type='mmpretrain.MobileNetV2', widen_factor=0.25)


def mfe(variant: str = 'light') -> nn.Module:
    return build(dict(type='mmir.MFE', backbone=PLAIN, variant=variant))


def tmpa() -> nn.Module:
    """A backbone whose branches differ."""
    module = build(dict(type='mmir.TMPABackbone', backbone=PLAIN, transfer=TRANSFER))
    for _, p in sorted(module.named_parameters()):
        p.data += 0.1 * torch.randn(p.shape)
    return module


def images() -> torch.Tensor:
    return torch.rand(5, 3, 64, 32, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ('variant', 'count'),
    [
        ('light', 2 * 9536 + 8533760 + 3 * 14964736),
        ('full', 2 * 1444928 + 3 * 22063104),
    ],
)
def test_parameters_of_a_resnet_50(variant: str, count: int) -> None:
    resnet = dict(type='mmpretrain.ResNet', depth=50, strides=(1, 2, 2, 1))
    module = MODELS.build(dict(type='mmir.MFE', backbone=resnet, variant=variant))
    assert sum(p.numel() for p in module.parameters()) == count


@pytest.mark.parametrize('variant', ['light', 'full'])
@pytest.mark.parametrize(
    ('backbone', 'shape'), [(PLAIN, (WIDTH, 4, 2)), (MOBILE, (1280, 2, 1))]
)
def test_all_branches_begin_as_the_pretrained_backbone(
    variant: str, backbone: dict, shape: tuple[int, ...], tmp_path: Path
) -> None:
    plain = build(backbone, seed=7)
    torch.save({'state_dict': plain.state_dict()}, tmp_path / 'plain.pth')
    start = dict(type='Pretrained', checkpoint=str(tmp_path / 'plain.pth'))
    started = {**backbone, 'init_cfg': start}
    module = build(dict(type='mmir.MFE', backbone=started, variant=variant))
    shared, own = module(images(), MIXED)
    (expected,) = plain(images())
    assert shared.shape == (5, *shape)
    torch.testing.assert_close(shared, expected)
    torch.testing.assert_close(own, expected)


def test_branches_begin_alike_from_random_weights() -> None:
    shared, own = mfe()(images(), MIXED)
    torch.testing.assert_close(shared, own)


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
@pytest.mark.parametrize('variant', ['light', 'full'])
def test_checkpoints_of_the_plain_resnet_fill_all_branches(
    variant: str, prefix: str
) -> None:
    plain, module = build(PLAIN, seed=7), mfe(variant)
    weights = {prefix + key: value for key, value in plain.state_dict().items()}
    module.load_state_dict(weights)
    shared, own = module(images(), MIXED)
    (expected,) = plain(images())
    torch.testing.assert_close(shared, expected)
    torch.testing.assert_close(own, expected)


def test_own_checkpoints_keep_the_branches_apart() -> None:
    module = tmpa()
    other = build(
        dict(type='mmir.TMPABackbone', backbone=PLAIN, transfer=TRANSFER), seed=4
    )
    other.load_state_dict(module.state_dict())
    for one, two in zip(module(images(), MIXED), other(images(), MIXED), strict=True):
        assert torch.equal(one, two)


def test_own_maps_are_kept_and_missing_ones_generated() -> None:
    module = tmpa()
    shared, rgb, ir = module(images(), MIXED)
    for k, name in enumerate(MIXED):
        one = module(images()[k : k + 1], [name])
        torch.testing.assert_close(shared[k], one[0][0])
        torch.testing.assert_close(rgb[k], one[1][0])
        torch.testing.assert_close(ir[k], one[2][0])
        made = module.transfer.copies[name](
            shared[k : k + 1], (rgb if name == 'rgb' else ir)[k : k + 1]
        )
        torch.testing.assert_close((ir if name == 'rgb' else rgb)[k], made[0])


def test_modality_decides_and_not_the_order() -> None:
    module, order = tmpa(), [3, 1, 0, 4, 2]
    outs = module(images(), MIXED)
    again = module(images()[order], [MIXED[k] for k in order])
    for one, two in zip(outs, again, strict=True):
        torch.testing.assert_close(one[order], two)
    swapped = module(images(), ['rgb' if n == 'ir' else 'ir' for n in MIXED])
    assert not torch.allclose(outs[1], swapped[1])


@pytest.mark.parametrize('names', [MIXED, ['ir'] * 5])
def test_every_parameter_has_a_gradient(names: list[str]) -> None:
    module = tmpa().train()
    sum(x.square().sum() for x in module(images(), names)).backward()
    assert [n for n, p in module.named_parameters() if p.grad is None] == []
    idle = module.specific.copies['rgb'].layer4[0].conv1.weight.grad
    assert idle.any() == ('rgb' in names)


@pytest.mark.parametrize(('variant', 'shared'), [('light', 6), ('full', 4)])
def test_stages_of_mobilenet(variant: str, shared: int) -> None:
    """A stem, or half of the network, per modality; the last stages three times."""
    plain = build(MOBILE)
    module = build(dict(type='mmir.MFE', backbone=MOBILE, variant=variant))
    names = ['conv1', *(f'layer{k}' for k in range(1, 8)), 'conv2']
    sizes = [sum(p.numel() for p in plain.get_submodule(n).parameters()) for n in names]
    copies = [2, *[1 if variant == 'light' else 2] * 3, *[1] * 2, *[3] * 3]
    if variant == 'full':
        copies[4:6] = [3, 3]
    expected = sum(n * size for n, size in zip(copies, sizes, strict=True))
    assert sum(p.numel() for p in module.parameters()) == expected
    assert module.branch == tuple(names[shared:])


@pytest.mark.parametrize('kind', ['ResNet', 'mmpretrain.ResNet', ResNet])
def test_backbones_are_known_by_any_name(kind: str | type) -> None:
    resnet = {**PLAIN, 'type': kind}
    assert build(dict(type='mmir.MFE', backbone=resnet)).branch == ('layer4',)


def test_unknown_variants_and_backbones_are_refused() -> None:
    vgg = dict(type='mmpretrain.VGG', depth=11)
    with pytest.raises(UserError, match=r"VGG: its stages .*'ResNet', 'MobileNetV2'"):
        MODELS.build(dict(type='mmir.MFE', backbone=vgg))
    with pytest.raises(UserError, match="'light', 'full'"):
        mfe('middle')


def test_settings_that_would_not_reach_the_branches_are_refused() -> None:
    for setting in (dict(norm_eval=True), dict(frozen_stages=1)):
        with pytest.raises(UserError, match='leave them out'):
            build(dict(type='mmir.MFE', backbone=PLAIN | setting))


def test_initializers_may_come_in_a_list() -> None:
    zero = [dict(type='Constant', layer='BatchNorm2d', val=0.25)]
    module = build(dict(type='mmir.MFE', backbone=PLAIN, init_cfg=zero))
    shared = module.backbone.layer4.state_dict()
    for stages in module.specific.copies.values():
        own = stages.layer4.state_dict()
        assert all(torch.equal(own[key], shared[key]) for key in shared)
