"""LoRA: the layer against closed forms and peft, the method on whole models."""

import pytest
import torch
from torch import nn

from mmir.adapters import adapt_, merge_, merge_state_dict
from mmir.peft import LoRA, LoRALinear


def layer_of(linear: nn.Linear, **ranks: int) -> LoRALinear:
    """A layer on a linear layer, with random updates by name."""
    layer = LoRALinear.from_base(linear)
    for name, rank in ranks.items():
        layer.add_adapter(name, rank=rank)
        nn.init.normal_(layer.adapters[name].A)
    return layer


@pytest.mark.parametrize('bias', [True, False])
def test_an_update_is_two_linear_layers_in_a_row(bias):
    torch.manual_seed(0)
    linear = nn.Linear(6, 5, bias=bias).double()
    layer, x = layer_of(linear, ir=2, night=9), torch.randn(2, 3, 6).double()
    assert [layer.adapters[n].rank for n in ('ir', 'night')] == [2, 5]
    expected = linear(x)
    for update in layer.adapters.values():
        expected = expected + x @ update.B.T @ update.A.T
    torch.testing.assert_close(layer(x), expected, rtol=1e-12, atol=1e-12)
    merged = layer.merge()
    assert type(merged) is nn.Linear
    assert torch.equal(merged(x), layer(x))
    layer.enable_adapter('ir', False)
    layer.enable_adapter('night', False)
    assert torch.equal(layer(x), linear(x))


def test_it_equals_peft():
    pytest.importorskip('peft.tuners')  # `tests/peft` answers to the short name
    import peft

    torch.manual_seed(0)
    linear, x = nn.Linear(6, 7), torch.randn(4, 6)
    layer = layer_of(linear, ir=3)
    theirs = peft.get_peft_model(
        nn.Sequential(linear),
        peft.LoraConfig(r=3, lora_alpha=3, target_modules=['0']),
    )
    with torch.no_grad():
        wrapped = theirs.base_model.model[0]
        wrapped.lora_A['default'].weight.copy_(layer.adapters['ir'].B)
        wrapped.lora_B['default'].weight.copy_(layer.adapters['ir'].A)
    torch.testing.assert_close(layer(x), theirs(x))


def test_plain_models_get_updates_in_all_linear_layers_but_heads():
    model = nn.Sequential()
    model.body = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4))
    model.attention = nn.MultiheadAttention(4, 2)
    model.head = nn.Linear(4, 2)
    report = str(adapt_(model, LoRA(2), trainable=[]))
    assert {n for n, m in model.named_modules() if isinstance(m, LoRALinear)} == {
        'body.0', 'body.1'
    }  # fmt: skip
    # `forward` of this projection is never called
    assert 'NonDynamicallyQuantizableLinear is not a plain nn.Linear' in report
    state = model.state_dict()
    merged = merge_(model).state_dict()
    assert all(torch.equal(v, merged[k]) for k, v in merge_state_dict(state).items())


def vit(kind: str) -> nn.Module:
    """A tiny backbone of mmpretrain in a model."""
    backbones = pytest.importorskip('mmpretrain.models.backbones')
    arch = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
    backbone = getattr(backbones, kind)(arch=arch, img_size=64, patch_size=16)
    return nn.ModuleDict(dict(backbone=backbone, other=nn.Linear(3, 3)))


def test_a_transformer_gets_updates_in_its_attention():
    model = vit('VisionTransformer')
    adapt_(model, LoRA(2), trainable=[])
    names = {n for n, m in model.named_modules() if isinstance(m, LoRALinear)}
    assert names == {
        f'backbone.layers.{i}.attn.{k}' for i in (0, 1) for k in ('qkv', 'proj')
    }
    model = vit('VisionTransformer')
    adapt_(model, LoRA(2, include=['ffn']), trainable=[])
    names = {n for n, m in model.named_modules() if isinstance(m, LoRALinear)}
    assert len(names) == 4
    assert all('.ffn.' in n for n in names)


def test_a_weight_that_is_read_without_a_call_is_left_alone():
    model = vit('BEiTViT')
    report = str(adapt_(model, LoRA(2), trainable=[]))
    names = {n for n, m in model.named_modules() if isinstance(m, LoRALinear)}
    assert names == {f'backbone.layers.{i}.attn.proj' for i in (0, 1)}
    assert 'not adapted, 2 layers' in report
    assert 'backbone.layers.0.attn.qkv' in report
    with pytest.raises(ValueError, match=r'attn\.qkv is read, not called'):
        adapt_(vit('BEiTViT'), LoRA(2, include=['qkv']), trainable=[])


def test_a_rank_is_a_positive_integer():
    with pytest.raises(ValueError, match='rank 0 is not a positive integer'):
        LoRA(rank=0)
