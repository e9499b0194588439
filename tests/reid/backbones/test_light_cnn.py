"""`LightCNN`: sizes of the paper, max feature maps, errors."""

import pytest
import torch
from reid_models import build

from mmir.reid import LightCNN
from mmir.reid.backbones.light_cnn import MaxFeatureMap
from mmir.utils.errors import UserError

TINY = dict(size=32, channels=(4, 6, 8, 6, 6), blocks=(1, 1, 1, 1), feature_channels=5)


def test_the_larger_of_each_pair_is_kept() -> None:
    layer = MaxFeatureMap(torch.nn.Linear(1, 4))
    layer.filter.weight.data[:, 0] = torch.tensor([1.0, -2.0, -1.0, 3.0])
    layer.filter.bias.data.zero_()
    # outputs 0 and 2 compete, and 1 and 3
    out = layer(torch.tensor([[2.0], [-1.0]]))
    assert out.tolist() == [[2.0, 6.0], [1.0, 2.0]]


def test_parameters_are_those_of_the_published_layers() -> None:
    def conv(inputs: int, outputs: int, kernel: int) -> int:
        return 2 * outputs * (inputs * kernel**2 + 1)

    def stage(blocks: int, inputs: int, outputs: int) -> int:
        residual = 2 * blocks * conv(inputs, inputs, 3)
        return residual + conv(inputs, inputs, 1) + conv(inputs, outputs, 3)

    expected = (
        conv(1, 48, 5)
        + stage(1, 48, 96)
        + stage(2, 96, 192)
        + stage(3, 192, 128)
        + stage(4, 128, 128)
        + 512 * (8 * 8 * 128 + 1)
    )
    found = sum(p.numel() for p in LightCNN().parameters())
    assert found == expected == 12_573_280


def test_forward_is_that_of_its_layers_one_by_one() -> None:
    net = build(dict(type='mmir.LightCNN', **TINY))
    image = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))

    def layer(module, x):
        first, second = module.filter(x).chunk(2, 1)
        return torch.where(first > second, first, second)

    def half(x):
        return x.unflatten(-1, (-1, 2)).unflatten(-3, (-1, 2)).amax((-1, -3))

    x = half(layer(net.conv1, image))
    for index in range(1, 5):
        block, group = getattr(net, f'block{index}')[0], getattr(net, f'group{index}')
        x = x + layer(block.conv2, layer(block.conv1, x))
        x = layer(group.conv, layer(group.conv_a, x))
        x = x if index == 3 else half(x)
    assert x.shape == (2, 6, 2, 2)
    torch.testing.assert_close(net(image)[0], layer(net.fc, x.flatten(1)))


def test_dropout_acts_in_training_only() -> None:
    net = build(dict(type='mmir.LightCNN', dropout=0.5, **TINY))
    image = torch.rand(4, 1, 32, 32)
    assert torch.equal(net(image)[0], net(image)[0])
    net.train()
    torch.manual_seed(0)
    assert (net(image)[0] == 0).any()


def test_errors_say_what_to_do() -> None:
    with pytest.raises(UserError, match='multiple of 16'):
        LightCNN(size=100)
    net = build(dict(type='mmir.LightCNN', **TINY))
    with pytest.raises(UserError, match='grayscale'):
        net(torch.rand(1, 3, 32, 32))
    with pytest.raises(UserError, match='32x32'):
        net(torch.rand(1, 1, 48, 48))
