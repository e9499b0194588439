"""Mona: blocks against the formula of the paper, in float64."""

import copy
import math
from importlib import import_module

import pytest
import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmir.adapters import adapt_
from mmir.adapters.grid_block import GridEmbedding
from mmir.ivtuning import IVTuning
from mmir.peft import Mona, MonaAdapter
from mmir.peft.mona import MonaOptions

D = 32
ARCH = dict(embed_dims=D, num_layers=2, num_heads=2, feedforward_channels=64)
CONFIGS = {
    'vit': dict(
        type='mmpretrain.VisionTransformer', arch=ARCH, img_size=64, out_type='featmap'
    ),
    'eva02': dict(
        type='mmpretrain.ViTEVA02', arch=ARCH, img_size=64, out_type='featmap'
    ),
    'swin': dict(
        type='mmpretrain.SwinTransformer',
        arch=dict(embed_dims=D, depths=[1, 1], num_heads=[2, 4]),
        img_size=64,
        window_size=4,
        out_indices=(1,),
    ),
}


def build(name: str) -> nn.Module:
    """A tiny backbone in evaluation mode and float64."""
    pytest.importorskip('mmpretrain')
    import_module('mmpretrain.models')
    torch.manual_seed(0)
    config = copy.deepcopy(CONFIGS[name])
    if name != 'swin':
        config['patch_size'] = 16
    model = nn.ModuleDict(dict(backbone=MODELS.build(config))).double()
    for parameter in model.parameters():  # class token and scales differ from 0 and 1
        nn.init.normal_(parameter, std=0.2)
    model.eval()
    return model


def randomize(module: nn.Module) -> None:
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)


def image() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 3, 64, 96, generator=generator, dtype=torch.float64)


def depthwise(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """Depthwise convolution of (N, h, w, C) by shifts."""
    size = conv.weight.shape[-1]
    half, (_, h, w, _) = size // 2, x.shape
    padded = torch.zeros(len(x), h + size - 1, w + size - 1, x.shape[3]).double()
    padded[:, half : half + h, half : half + w] = x
    out = conv.bias.expand_as(x).clone()
    for i in range(size):
        for j in range(size):
            out += padded[:, i : i + h, j : j + w] * conv.weight[:, 0, i, j]
    return out


def reference(adapter: MonaAdapter, x: Tensor, grid: tuple[int, int]) -> Tensor:
    """Tokens after a Mona adapter, from its weights alone."""
    weights = dict(adapter.named_parameters())
    centered = x - x.mean(-1, keepdim=True)
    normed = centered / (centered.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    normed = normed * weights['scale.norm.weight'] + weights['scale.norm.bias']
    scaled = normed * weights['scale.norm_scale'] + x * weights['scale.input_scale']
    low = scaled @ weights['down.weight'].T + weights['down.bias']
    low = low.view(len(x), *grid, -1)
    u = sum(depthwise(low, conv) for conv in adapter.conv.depthwise) / 3 + low
    mix = weights['conv.mix.weight'][:, :, 0, 0]
    y = (u @ mix.T + weights['conv.mix.bias'] + u).flatten(1, 2)
    gelu = y * 0.5 * (1 + torch.erf(y / math.sqrt(2)))
    return x + gelu @ weights['up.weight'].T + weights['up.bias']


@torch.no_grad()
def test_a_block_is_the_formula_at_both_places():
    model = build('vit')
    adapt_(model, Mona(rank=5), trainable=[])
    block = model.backbone.layers[1].eval()
    one, two = block.adapters['ir']
    randomize(one)
    randomize(two)
    model.backbone.patch_embed(image())  # says that the grid is (4, 6)
    x = torch.randn(2, 25, D, dtype=torch.float64)
    middle = x + block.attn(block.ln1(x))
    first = middle[:, :1]
    middle = torch.cat([first, reference(one, middle[:, 1:], (4, 6))], 1)
    out = block.ffn(block.ln2(middle), identity=middle)
    expected = torch.cat([out[:, :1], reference(two, out[:, 1:], (4, 6))], 1)
    torch.testing.assert_close(block(x), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('name', CONFIGS)
@torch.no_grad()
def test_the_grid_is_rows_by_columns(name):
    model, x = build(name), image()
    adapt_(model, Mona(rank=4), trainable=[])
    seen, maps = [], []
    for module in model.modules():
        if isinstance(module, MonaAdapter):
            randomize(module)
            module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
            module.conv.register_forward_pre_hook(
                lambda _, inputs: maps.append(tuple(inputs[0].shape[2:]))
            )
    model.backbone(x)
    stride = 16 if name != 'swin' else 4
    expected = [(64 // stride, 96 // stride)] * 4
    if name == 'swin':
        expected[2:] = [(8, 12)] * 2
    assert [grid for _, grid in seen] == maps == expected
    for tokens, (rows, columns) in seen:  # the class token is not in the map
        assert tokens.shape[:2] == (2, rows * columns + (name != 'swin'))


@torch.no_grad()
def test_the_start_is_the_published_one():
    model, x = build('vit'), image()
    expected = model.backbone(x)[-1]
    neutral = copy.deepcopy(model)
    adapt_(neutral, Mona(rank=4, zero_init=True), trainable=[])
    assert torch.equal(neutral.eval().backbone(x)[-1], expected)
    adapt_(model, Mona(), trainable=[])
    found = (model.eval().backbone(x)[-1] - expected).norm() / expected.norm()
    assert found > 1e-3
    adapter = model.backbone.layers[0].adapters['ir'][1]
    assert torch.allclose(adapter.scale.norm_scale, torch.tensor(1e-6).double(), 1e-6)
    assert (adapter.scale.input_scale == 1).all()
    assert adapter.dropout.p == 0.1
    assert [conv.kernel_size[0] for conv in adapter.conv.depthwise] == [3, 5, 7]
    for layer, size in ((adapter.down, D), (adapter.up, 64)):  # torch's own
        plain = nn.Linear(size, 8)
        bound = size**-0.5
        assert plain.weight.abs().max() <= bound
        assert 0.9 * bound < layer.weight.abs().max() <= bound
        assert layer.bias.std() > 0.3 * bound


def test_the_number_of_parameters():
    model = build('vit')
    report = adapt_(model, Mona(), trainable=[])
    # norm and scales 4 D, projections 2 D r + r + D, kernels (9 + 25 + 49) r + 3 r,
    # mixing r^2 + r; two adapters in each of two blocks
    r = 64
    each = 4 * D + 2 * D * r + r + D + 83 * r + 3 * r + r * r + r
    assert each == 5 * D + 2 * D * r + 88 * r + r * r
    assert sum(report.trainable.values()) == 4 * each


def test_two_adapters_are_added():
    model = build('vit')
    for name in ('ir', 'night'):
        adapt_(model, Mona(rank=4), name=name, trainable=[])
    block = model.backbone.layers[0].eval()
    x = torch.randn(1, 25, D, dtype=torch.float64)

    with torch.no_grad():
        model.backbone.patch_embed(image())
        for _, adapters in block.named_adapters():  # leave the place after the MLP
            nn.init.zeros_(adapters[0].up.weight)
            nn.init.zeros_(adapters[0].up.bias)
        block.enable_adapter('ir', False)
        block.enable_adapter('night', False)
        plain = block(x)
        block.enable_adapter('ir')
        one = block(x) - plain
        block.enable_adapter('night')
        both = block(x) - plain
        block.enable_adapter('ir', False)
        other = block(x) - plain
    assert min(one.norm(), other.norm()) > 1e-3
    torch.testing.assert_close(both, one + other)


def test_a_block_alone_does_not_know_the_grid():
    model = build('vit')
    adapt_(model, Mona(rank=4), trainable=[])
    block = model.backbone.layers[0]
    block.board = None
    with pytest.raises(RuntimeError, match='MonaBlock is used without the patch emb'):
        block(torch.randn(1, 25, D, dtype=torch.float64))


def test_what_cannot_be_adapted_is_refused():
    with pytest.raises(ValueError, match='rank 0 is not a positive integer'):
        Mona(rank=0)
    with pytest.raises(ValueError, match=r'Mona: .* no vision transformer of a known'):
        adapt_(nn.Sequential(nn.Conv2d(3, 4, 1)), Mona(), trainable=[])
    model = build('vit')
    adapt_(model, Mona(rank=4), trainable=[])
    before = list(model.state_dict())
    with pytest.raises(ValueError, match='adapters of another method'):
        adapt_(model, IVTuning(), name='late', trainable=[])
    assert list(model.state_dict()) == before
    assert isinstance(model.backbone.patch_embed, GridEmbedding)
    assert MonaOptions().rank == 64
