"""VPT: prompts against a ViT whose blocks are called one by one."""

import pytest
import torch
from torch import nn

from mmir.adapters import adapt_
from mmir.peft import VPT


def network(kind: str = 'VisionTransformer') -> nn.Module:
    """A tiny backbone of mmpretrain in a model, in evaluation mode."""
    backbones = pytest.importorskip('mmpretrain.models.backbones')
    torch.manual_seed(0)
    if kind == 'SwinTransformer':
        arch = dict(embed_dims=16, depths=[1, 1], num_heads=[2, 2])
        made = backbones.SwinTransformer(
            arch=arch, img_size=64, window_size=4, out_indices=(1,)
        )
    else:
        arch = dict(embed_dims=32, num_layers=3, num_heads=2, feedforward_channels=64)
        made = getattr(backbones, kind)(arch=arch, img_size=64, patch_size=16)
    return nn.ModuleDict(dict(backbone=made)).eval()


@pytest.mark.parametrize('deep', [True, False])
@torch.no_grad()
def test_prompts_are_between_class_token_and_patches(deep):
    plain, model, x = network(), network(), torch.randn(2, 17, 32)
    adapt_(model, VPT(number=4, deep=deep), trainable=[])
    blocks = model.backbone.layers
    out, expected, prompts = x, x, None
    for block, host in zip(blocks, plain.backbone.layers, strict=True):
        out = block(out)
        if deep or prompts is None:
            prompts = block.adapters['ir'].tokens.expand(2, -1, -1)
        run = host(torch.cat([expected[:, :1], prompts, expected[:, 1:]], 1))
        prompts, expected = run[:, 1:5], torch.cat([run[:, :1], run[:, 5:]], 1)
        torch.testing.assert_close(out, expected)
    for block in blocks:
        block.enable_adapter('ir', False)
    assert torch.equal(blocks[0](x), plain.backbone.layers[0](x))


@pytest.mark.parametrize(('deep', 'blocks'), [(True, 3), (False, 1)])
def test_prompts_are_uniform_within_the_bound_of_the_paper(deep, blocks):
    model = network()
    report = adapt_(model, VPT(number=50, deep=deep), trainable=[])
    assert sum(report.trainable.values()) == blocks * 50 * 32
    tokens = model.backbone.layers[0].adapters['ir'].tokens
    bound = (6 / (3 * 16 * 16 + 32)) ** 0.5
    assert 0.97 * bound < tokens.abs().max() <= bound
    assert tokens.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)


@pytest.mark.parametrize('deep', [False, True])
def test_checkpointed_blocks_keep_the_prompts_of_their_own_image(deep):
    found = []
    for checkpoint in (False, True):
        model = network().backbone
        torch.manual_seed(1)
        adapt_(model, VPT(3, deep), trainable=[])
        model.double()
        model.train()
        for block in model.layers:
            block.with_cp = checkpoint
        torch.manual_seed(2)
        images = torch.randn(2, 1, 3, 64, 64, dtype=torch.float64)
        sum(model(image)[-1].square().mean() for image in images).backward()
        found.append([p.grad for p in model.parameters() if p.requires_grad])
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(
    ('kind', 'why'),
    [
        ('SwinTransformer', 'windows'),
        ('BEiTViT', 'relative position'),
        ('ViTEVA02', 'RoPE'),
    ],
)
def test_attention_by_position_is_refused(kind, why):
    model = network(kind)
    keys = list(model.state_dict())
    with pytest.raises(ValueError, match=f'cannot add tokens to {kind}: .*{why}'):
        adapt_(model, VPT(), trainable=[])
    assert list(model.state_dict()) == keys


def test_a_number_is_a_positive_integer():
    with pytest.raises(ValueError, match='number 0 is not a positive integer'):
        VPT(number=0)
