"""`NonLocalResNet`: begins as the plain network, with the size of AGW's."""

import copy

import pytest
import torch
from mmcv.cnn import NonLocal2d
from mmengine.registry import DefaultScope
from reid_models import RESNET, build
from torch import nn

from mmir.registry import MODELS
from mmir.utils.errors import UserError

PLAIN = {k: v for k, v in RESNET.items() if k != 'non_local'}
PLAIN['type'] = 'mmpretrain.ResNet'


@pytest.fixture(scope='module')
def images():
    return torch.randn(2, 3, 32, 16, generator=torch.Generator().manual_seed(1))


def conv_macs(network, images):
    """Multiply-adds of the convolutions of a run."""
    found = []

    def count(conv, args, out):
        size = conv.in_channels // conv.groups * conv.kernel_size[0] ** 2
        found.append(out.numel() * size)

    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(count)
    network(images)
    return sum(found)


def test_it_begins_as_the_plain_network(images):
    network, plain = build(RESNET), build(PLAIN, seed=1)
    missing = network.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing
    assert all('non_local' in key for key in missing)
    torch.testing.assert_close(network(images)[0], plain(images)[0], rtol=0, atol=0)


def test_the_block_computes_its_formula():
    network = build(RESNET)
    block = network.layer3[1].non_local
    block.conv_out.norm.weight.data.fill_(0.7)
    x = torch.randn(2, block.in_channels, 4, 3)
    theta, phi, g = (
        getattr(block, name).conv(x).flatten(1) for name in ('theta', 'phi', 'g')
    )
    mixed = torch.einsum('ni,nj,nj->ni', theta, phi, g) / 12
    expected = x + block.conv_out(mixed.view(2, 1, 4, 3))
    torch.testing.assert_close(block(x), expected)


def test_a_copy_attends_with_its_own_weights(images):
    network = build(RESNET)
    twin = copy.deepcopy(network)
    twin.layer3[1].non_local.conv_out.norm.weight.data.fill_(1.0)
    twin.layer3[1].non_local.g.conv.bias.data.fill_(1.0)
    assert not torch.allclose(twin(images)[0], network(images)[0])


def test_pretrained_non_local_blocks_are_kept(tmp_path):
    network = build(RESNET)
    network.layer2[1].non_local.conv_out.norm.weight.data.fill_(0.5)
    torch.save({'state_dict': network.state_dict()}, tmp_path / 'agw.pth')
    pretrained = dict(type='Pretrained', checkpoint=str(tmp_path / 'agw.pth'))
    again = build(RESNET | dict(init_cfg=pretrained), seed=1)
    weight = again.layer2[1].non_local.conv_out.norm.weight
    torch.testing.assert_close(weight, torch.full_like(weight, 0.5))


def test_size_of_agw():
    """24,359,311 parameters of the release, less the biases that a norm cancels."""
    cfg = dict(type='mmir.NonLocalResNet', depth=50, strides=(1, 2, 2, 1))
    head = dict(type='mmir.VIReIDHead', num_classes=395, in_channels=2048)
    resnet, backbone, head = (
        without_weights(c)
        for c in (cfg, dict(type='mmir.TwoStemBackbone', backbone=cfg), head)
    )
    images = torch.empty(1, 3, 288, 144, device='meta')
    blocks = [m for m in resnet.modules() if isinstance(m, NonLocal2d)]
    assert [block.in_channels for block in blocks] == [512] * 2 + [1024] * 3
    biases = sum(block.in_channels for block in blocks)
    assert sum(p.numel() for p in [p for b in blocks for p in b.parameters()]) == (
        28_687 - biases
    )
    size = sum(p.numel() for m in (backbone, head) for p in m.parameters())
    assert size == 24_359_311 - biases
    assert conv_macs(resnet, images) == 5_134_565_376


def without_weights(cfg):
    """Build a module that has no memory for weights."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(cfg).to('meta')


@pytest.mark.parametrize('non_local', [(0, 3, 0, 0), (0, 1, 1), (0, -1, 0, 0)])
def test_stages_without_enough_blocks_are_refused(non_local):
    with pytest.raises(UserError, match='blocks of each stage'):
        build(RESNET | dict(non_local=non_local))
