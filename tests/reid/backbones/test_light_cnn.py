"""`LightCNN`: layers, published names, mirrored features."""

import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmir.registry import MODELS
from mmir.reid import LightCNN
from mmir.utils.errors import UserError


def faces(size: int = 32) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def small(**options: object) -> LightCNN:
    torch.manual_seed(0)
    return LightCNN(size=32, width=1 / 4, **options).eval()


def test_sizes_of_the_paper() -> None:
    net = LightCNN()
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 1 + 2 * (1 + 2 + 3 + 4) + 2 * 4 + 1  # 29 and the feature
    assert net.fc['filter'].weight.shape == (512, 8 * 8 * 128)
    widths = [net.get_submodule(f'group{k}').conv.filter for k in range(1, 5)]
    assert [w.weight.shape[0] // 2 for w in widths] == [96, 192, 128, 128]
    assert net.conv1.filter.weight.shape == (96, 1, 5, 5)


def test_shapes() -> None:
    assert small()(faces())[0].shape == (2, 256, 1, 1)
    assert small(feature=False)(faces())[0].shape == (2, 32, 2, 2)
    with pytest.raises(UserError, match='multiple of 16'):
        LightCNN(size=112 + 8)


def test_against_plain_functions() -> None:
    """Published names of weights, and what they do."""
    net = small()
    state = net.state_dict()

    def layer(x: Tensor, name: str) -> Tensor:
        weight, bias = state[f'{name}.filter.weight'], state[f'{name}.filter.bias']
        if weight.ndim == 2:
            x = x.flatten(1) @ weight.T + bias
        else:
            x = torch.conv2d(x, weight, bias, padding=weight.shape[-1] // 2)
        half = x.shape[1] // 2
        return torch.maximum(x[:, :half], x[:, half:])

    x = torch.max_pool2d(layer(faces().mean(1, keepdim=True), 'conv1'), 2)
    for k in range(1, 5):
        for b in range(k):
            inner = layer(layer(x, f'block{k}.{b}.conv1'), f'block{k}.{b}.conv2')
            x = x + inner
        x = layer(layer(x, f'group{k}.conv_a'), f'group{k}.conv')
        x = x if k == 3 else torch.max_pool2d(x, 2)
    torch.testing.assert_close(net(faces())[0].flatten(1), layer(x, 'fc'))


def test_features_of_mirror_images_are_added() -> None:
    cfg = dict(
        type='mmir.MirroredVIReID',
        backbone=dict(
            type='mmir.TwoStemBackbone',
            backbone=dict(type='mmir.LightCNN', size=32, width=1 / 4),
            stem=('conv1',),
        ),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='mmir.VIReIDHead', num_classes=2, in_channels=256),
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        torch.manual_seed(0)
        model = MODELS.build(cfg).eval()
        samples = [DataSample(metainfo=dict(modality=m)) for m in ('rgb', 'ir')]
        found = model.predict(faces(), samples)
        names = ['rgb', 'ir']
        both = [
            model.backbone(x, names)[0].flatten(1) for x in (faces(), faces().flip(3))
        ]
    pooled = torch.stack([sample.pooled for sample in found])
    torch.testing.assert_close(pooled, both[0] + both[1])
    feature = torch.stack([sample.feature for sample in found])
    torch.testing.assert_close(feature, model.head.bn(both[0]) + model.head.bn(both[1]))
