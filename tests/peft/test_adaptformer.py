"""AdaptFormer: blocks against the equation of the paper, written out."""

import pytest
import torch
from torch import nn

from mmir.adapters import adapt_
from mmir.peft import AdaptFormer


def vit() -> nn.Module:
    """A tiny ViT of mmpretrain, in evaluation mode."""
    backbones = pytest.importorskip('mmpretrain.models.backbones')
    torch.manual_seed(0)
    arch = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
    made = backbones.VisionTransformer(arch=arch, img_size=64, patch_size=16)
    return nn.ModuleDict(dict(backbone=made)).eval()


def test_a_block_adds_the_bottleneck_of_the_sum_after_attention():
    model = vit()
    adapt_(model, AdaptFormer(rank=3, scale=0.5), trainable=[])
    block = model.backbone.layers[0]
    bottleneck = block.adapters['ir']
    x = torch.randn(2, 17, 32)
    with torch.no_grad():
        middle = x + block.attn(block.ln1(x))
        plain = block.ffn(block.ln2(middle), identity=middle)
        assert torch.equal(block(x), plain)
        for parameter in bottleneck.parameters():
            nn.init.normal_(parameter)
        down, up = bottleneck.down, bottleneck.up
        hidden = (middle @ down.weight.T + down.bias).clamp(min=0)
        expected = plain + 0.5 * (hidden @ up.weight.T + up.bias)
        torch.testing.assert_close(block(x), expected, rtol=1e-5, atol=1e-5)
        block.enable_adapter('ir', False)
        assert torch.equal(block(x), plain)


def test_the_options_of_the_paper_are_the_defaults():
    model = vit()
    report = adapt_(model, AdaptFormer(), trainable=[])
    assert model.backbone.layers[0].adapters['ir'].scale == 0.1
    assert sum(report.trainable.values()) == 2 * (2 * 32 * 64 + 64 + 32)
    with pytest.raises(ValueError, match='rank 0 is not a positive integer'):
        AdaptFormer(rank=0)


def test_a_model_without_a_transformer_is_refused():
    with pytest.raises(ValueError, match='has no vision transformer of a known form'):
        adapt_(nn.Sequential(nn.Conv2d(3, 4, 1)), AdaptFormer(), trainable=[])
