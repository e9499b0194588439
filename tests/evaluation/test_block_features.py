"""Features of blocks and embeddings, against the networks' own modules."""

import copy
from importlib import import_module

import pytest
import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.functional import conv2d

from mmir.adapters import adapt_
from mmir.adapters.layer import AdapterLayer
from mmir.adapters.transformers import the_transformer
from mmir.evaluation.block_features import BlockFeatures
from mmir.fusion import widen_stem_
from mmir.ivtuning import IVTuning

PAIR = dict(rgb=3, ir=3)
ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
VIT = dict(arch=ARCH, img_size=64, patch_size=16, out_type='featmap')
CONFIGS = {
    'vit': dict(type='mmpretrain.VisionTransformer', **VIT),
    'eva02': dict(type='mmpretrain.ViTEVA02', **VIT),
    'swin': dict(
        type='mmpretrain.SwinTransformer',
        arch=dict(embed_dims=32, depths=[1, 1], num_heads=[2, 4]),
        img_size=64,
        window_size=4,
        out_indices=(1,),
    ),
    'mmseg_vit': dict(
        type='mmseg.VisionTransformer',
        img_size=64,
        patch_size=16,
        embed_dims=32,
        num_layers=2,
        num_heads=2,
        out_indices=1,
    ),
}
every = pytest.mark.parametrize('name', CONFIGS)


def build(name: str) -> nn.Module:
    host = CONFIGS[name]['type'].partition('.')[0]
    pytest.importorskip(host)
    import_module(f'{host}.models')
    torch.manual_seed(0)
    model = MODELS.build(copy.deepcopy(CONFIGS[name]))
    model.eval()
    return model


def image(channels: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, channels, 64, 96, generator=generator)


def hooks_of(model: nn.Module) -> int:
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()
    )


@every
def test_blocks_are_the_outputs_of_the_modules(name):
    model, raw = build(name), {}
    names = list(the_transformer(model, 'test').blocks)
    for key in names:
        model.get_submodule(key).register_forward_hook(
            lambda _, inputs, out, key=key: raw.update({key: out})
        )
    before = hooks_of(model)
    with BlockFeatures(model, {}) as features:
        model(image())
    assert hooks_of(model) == before
    assert list(features.blocks) == names
    for key, x in features.blocks.items():
        assert x.grad_fn is None
        assert raw[key].grad_fn is not None
        stride = 16 if name != 'swin' else 4 if 'stages.0' in key else 8
        assert x.shape[2:] == (64 // stride, 96 // stride)
        tokens = x.flatten(2).transpose(1, 2)
        extra = raw[key].shape[1] - tokens.shape[1]
        assert extra == (name != 'swin')  # the class token
        assert torch.equal(tokens, raw[key][:, extra:])


@every
@torch.no_grad()
def test_embeddings_of_a_wide_stem_add_up(name):
    model, x = build(name), image(6)
    widen_stem_(model, (3, 3), 'average')
    conv = next(m for m in model.patch_embed.modules() if isinstance(m, nn.Conv2d))
    conv.weight.copy_(torch.randn(conv.weight.shape))
    with BlockFeatures(model, PAIR) as features:
        model(x)
    rgb, ir = features.embeddings['rgb'], features.embeddings['ir']
    bias = 0 if conv.bias is None else conv.bias[:, None, None]
    torch.testing.assert_close(rgb + ir + bias, conv(x), rtol=1e-4, atol=1e-4)
    alone = conv2d(x[:, 3:], conv.weight[:, 3:], stride=conv.stride)
    torch.testing.assert_close(ir, alone)


@torch.no_grad()
def test_one_image_has_one_embedding():
    model = build('vit')
    with BlockFeatures(model, PAIR) as features:
        model(image())
    assert list(features.embeddings) == ['image']
    expected = model.patch_embed.projection(image())
    assert torch.equal(features.embeddings['image'], expected)


@every
@torch.no_grad()
def test_prompts_of_iv_tuning(name):
    model, x = build(name), image(6)
    plain = copy.deepcopy(model)
    adapt_(model, IVTuning(rank=8, prompt_rank=4), trainable=[])
    model.eval()
    with BlockFeatures(model, PAIR) as features:
        model(x)
    found = {k: v.flatten(2).transpose(1, 2) for k, v in features.embeddings.items()}
    assert list(found) == ['rgb', 'ir', 'prompt']
    assert features.embeddings['ir'].shape[2:] == features.embeddings['rgb'].shape[2:]
    tokens = plain.patch_embed(x[:, :3])[0]
    torch.testing.assert_close(found['rgb'], tokens.view(found['rgb'].shape))
    summed = model.patch_embed(x)[0]
    torch.testing.assert_close(found['rgb'] + found['prompt'], summed)
    other = model.patch_embed.adapters['ir']['embed'](x[:, 3:])[0]
    assert torch.equal(found['ir'], other)
    for layer in model.modules():
        if isinstance(layer, AdapterLayer):
            layer.adapters['ir'].enabled = False
    with BlockFeatures(model, PAIR) as features:
        model(x)
    assert list(features.embeddings) == ['image']


def test_hooks_are_removed_after_an_error():
    model = build('vit')
    before, features = hooks_of(model), BlockFeatures(model, PAIR)
    with pytest.raises(RuntimeError, match='weight of size'), features:
        model(image(5))
    assert hooks_of(model) == before
    with features:  # can be entered again
        model(image())
    assert len(features.blocks) == 2
    assert hooks_of(model) == before


def test_networks_without_a_transformer():
    with pytest.raises(ValueError, match=r'analysis of features: .* no vision'):
        BlockFeatures(nn.Sequential(nn.Conv2d(3, 4, 1)), PAIR)
