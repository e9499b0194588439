"""`TwoStemBackbone`: the modality decides on the stem; plain checkpoints load."""

import copy

import pytest
import torch
from mmengine.runner.checkpoint import load_state_dict
from reid_models import RESNET, build, two_stem

from mmir.utils.errors import UserError

MIXED = ['ir', 'rgb', 'rgb', 'ir', 'rgb']


@pytest.fixture(scope='module')
def images():
    return torch.randn(5, 3, 32, 16, generator=torch.Generator().manual_seed(1))


def with_stem(backbone, name):
    """The plain network with the stem of a modality."""
    plain = copy.deepcopy(backbone.backbone)
    for stem in ('conv1', 'bn1'):
        plain.set_submodule(stem, plain.get_submodule(stem).copies[name])
    return plain


def test_each_image_goes_through_the_stem_of_its_modality(images):
    backbone = two_stem()
    (mixed,) = backbone(images, MIXED)
    for name in ('rgb', 'ir'):
        rows = [k for k, given in enumerate(MIXED) if given == name]
        (alone,) = with_stem(backbone, name)(images[rows])
        torch.testing.assert_close(mixed[rows], alone)
        (only,) = backbone(images[rows], [name] * len(rows))
        torch.testing.assert_close(only, alone)
    (swapped,) = backbone(images, ['rgb' if m == 'ir' else 'ir' for m in MIXED])
    assert (swapped - mixed).flatten(1).norm(dim=1).min() > 1e-3


def test_the_order_of_a_batch_does_not_matter(images):
    backbone = two_stem()
    order = [3, 1, 4, 0, 2]
    (direct,) = backbone(images, MIXED)
    (shuffled,) = backbone(images[order], [MIXED[k] for k in order])
    torch.testing.assert_close(shuffled, direct[order])


def test_statistics_of_a_stem_come_from_its_modality(images):
    backbone = two_stem(non_local=(0, 0, 0, 0)).train()
    backbone(images, MIXED)
    rows = [k for k, given in enumerate(MIXED) if given == 'ir']
    norm, conv = backbone.backbone.bn1.copies['ir'], backbone.backbone.conv1
    expected = 0.1 * conv.copies['ir'](images[rows]).mean((0, 2, 3))
    torch.testing.assert_close(norm.running_mean, expected)


@pytest.mark.parametrize('prefix', ['', 'backbone.'])
def test_a_plain_checkpoint_loads_into_both_stems(images, prefix):
    plain = build(RESNET | dict(non_local=(0, 0, 0, 0)), seed=3)
    backbone = two_stem(non_local=(0, 0, 0, 0))
    state = {f'{prefix}{key}': value for key, value in plain.state_dict().items()}
    holder = torch.nn.ModuleDict({'backbone': backbone}) if prefix else backbone
    load_state_dict(holder, state, strict=True)
    torch.testing.assert_close(backbone(images, MIXED)[0], plain(images)[0])


def test_its_own_checkpoint_loads(images):
    first, second = two_stem(), two_stem(strides=(1, 2, 2, 1))
    with torch.no_grad():
        for weight in second.parameters():
            weight.add_(1)
    second.load_state_dict(first.state_dict())
    for key, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[key], value), key


def test_a_copy_runs_on_its_own(images):
    """As that of a moving average does."""
    backbone = two_stem()
    (expected,) = backbone(images, MIXED)
    twin = copy.deepcopy(backbone)
    with torch.no_grad():
        backbone.backbone.conv1.copies['rgb'].weight.zero_()
    torch.testing.assert_close(twin(images, MIXED)[0], expected)
    assert not torch.allclose(backbone(images, MIXED)[0], expected)


def test_init_cfg_of_the_backbone_loads_into_both_stems(tmp_path):
    plain = build(RESNET, seed=3)
    torch.save({'state_dict': plain.state_dict()}, tmp_path / 'plain.pth')
    pretrained = dict(type='Pretrained', checkpoint=str(tmp_path / 'plain.pth'))
    backbone = two_stem(init_cfg=pretrained)
    for name in ('rgb', 'ir'):
        state = with_stem(backbone, name).state_dict()
        for key, value in plain.state_dict().items():
            assert torch.equal(state[key], value), key


def test_a_batch_of_one_modality_gives_all_parameters_a_gradient(images):
    backbone = two_stem().train()
    backbone(images, ['ir'] * 5)[0].sum().backward()
    stems = backbone.backbone.conv1.copies
    assert stems['ir'].weight.grad.abs().sum() > 0
    assert stems['rgb'].weight.grad.abs().sum() == 0
    assert all(weight.grad is not None for weight in backbone.parameters())


def test_other_backbones_and_stems(images):
    cfg = dict(type='mmpretrain.MobileNetV3', arch='small_050')
    stem = ('layer0', 'layer1')
    backbone = build(dict(type='mmir.TwoStemBackbone', backbone=cfg, stem=stem))
    out, other = (backbone(images, [name] * 5)[0] for name in ('rgb', 'ir'))
    assert out.shape == other.shape
    assert not torch.allclose(out, other)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(stem=('conv7',)), 'conv7'),
        (dict(stem=()), 'no modules'),
        (dict(stem=('layer1', 'layer1.0')), 'part of another'),
        (dict(backbone=RESNET | dict(with_cp=True)), 'with_cp=False'),
    ],
)
def test_bad_stems_are_refused(changes, message):
    cfg = dict(type='mmir.TwoStemBackbone', backbone=RESNET) | changes
    with pytest.raises(UserError, match=message):
        build(cfg)


@pytest.mark.parametrize('given', ['rgb', ['rgb'] * 4, ['thermal'] * 5])
def test_bad_modalities_are_refused(images, given):
    with pytest.raises(UserError, match='modalities'):
        two_stem()(images, given)
