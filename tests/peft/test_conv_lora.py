"""ConvLoRA: the layer against closed forms, the method on whole models."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from mmir.adapters import adapt_, merge_, merge_state_dict, trainable_report
from mmir.peft import ConvLoRA, LoRAConv2d


def layer_of(conv: nn.Conv2d, **ranks: int) -> LoRAConv2d:
    """A layer on a convolution, with random updates by name."""
    layer = LoRAConv2d.from_base(conv)
    for name, rank in ranks.items():
        layer.add_adapter(name, rank=rank)
        nn.init.normal_(layer.adapters[name].A)
    return layer


@given(
    groups=st.sampled_from([1, 2]),
    size=st.sampled_from([1, 3, (3, 1)]),
    stride=st.sampled_from([1, 2]),
    padding=st.sampled_from([0, 1]),
    mode=st.sampled_from(['zeros', 'reflect']),
    bias=st.booleans(),
    rank=st.integers(1, 5),
)
@settings(max_examples=40, deadline=None)
def test_it_is_a_convolution_to_few_channels_and_a_pointwise_one(
    groups, size, stride, padding, mode, bias, rank
):
    torch.manual_seed(0)
    options = dict(stride=stride, padding=padding, padding_mode=mode, groups=groups)
    conv = nn.Conv2d(4, 6, size, bias=bias, **options).double()
    layer = layer_of(conv, ir=rank)
    x, update = torch.randn(2, 4, 9, 8, dtype=torch.double), layer.adapters['ir']
    assert update.rank == min(rank, layer.full_rank)
    # the reference: x -> B -> A, each group of outputs from its own inputs
    padded = F.pad(
        x,
        conv._reversed_padding_repeated_twice,
        'constant' if mode == 'zeros' else mode,
    )
    parts = []
    for k, part in enumerate(padded.chunk(groups, 1)):
        few = F.conv2d(part, update.B, stride=stride)
        mix = update.A.chunk(groups)[k][..., None, None]
        parts.append(F.conv2d(few, mix))
    expected = conv(x) + torch.cat(parts, 1)
    torch.testing.assert_close(layer(x), expected, rtol=1e-9, atol=1e-12)


def test_the_base_is_shared_and_comes_back():
    conv = nn.Conv2d(3, 5, 3, dilation=2, padding='same').eval()
    conv.register_forward_hook(lambda *_: None)
    layer = layer_of(conv, ir=2, night=1)
    assert layer.weight is conv.weight
    assert layer.bias is conv.bias
    assert set(layer.state_dict()) == {
        'weight', 'bias', *(f'adapters.{n}.{k}' for n in ('ir', 'night') for k in 'AB')
    }  # fmt: skip
    assert 'adapters' not in conv._modules
    again = layer.release()
    assert type(again) is nn.Conv2d
    assert repr(again) == repr(conv)
    assert again._forward_hooks is conv._forward_hooks
    x = torch.randn(1, 3, 8, 8)
    assert torch.equal(again(x), conv(x))


def test_switched_off_is_the_base_bit_for_bit():
    conv = nn.Conv2d(3, 5, 3)
    layer, x = layer_of(conv, ir=2, night=3), torch.randn(1, 3, 8, 8)
    both = layer(x)
    layer.enable_adapter('night', False)
    one = layer(x)
    assert not torch.equal(one, both)
    layer.enable_adapter('ir', False)
    assert torch.equal(layer(x), conv(x))
    layer.enable_adapter('ir')
    assert torch.equal(layer(x), one)
    with pytest.raises(KeyError, match=r"no adapter 'uv', there are \['ir', 'night'\]"):
        layer.enable_adapter('uv')


def test_half_precision_adds_in_float32():
    conv = nn.Conv2d(8, 16, 3).to(torch.bfloat16)
    layer = layer_of(conv, ir=2).eval().requires_grad_(False)
    update = layer.adapters['ir']
    exact = conv.weight.double().flatten(
        1
    ) + update.A.double() @ update.B.double().flatten(1)
    assert torch.equal(layer.kernel().flatten(1), exact.float().to(torch.bfloat16))
    with torch.autocast('cpu', torch.bfloat16):
        single = layer_of(nn.Conv2d(8, 16, 3), ir=2)
        assert single.kernel().dtype == torch.float32


def test_the_kernel_is_kept_in_evaluation_until_something_changes():
    layer = layer_of(nn.Conv2d(3, 5, 3), ir=2).eval().requires_grad_(False)
    x = torch.randn(1, 3, 8, 8)
    first = layer(x)
    assert layer.effective_kernel() is layer.effective_kernel()
    with torch.no_grad():
        layer.adapters['ir'].A.mul_(2)
    assert not torch.equal(layer(x), first)
    assert copy.deepcopy(layer)._cache is None


def test_updates_start_at_zero_with_rows_of_norm_one():
    torch.manual_seed(0)
    layer = LoRAConv2d.from_base(nn.Conv2d(64, 64, 3))
    layer.add_adapter('ir', rank=32)
    update = layer.adapters['ir']
    assert update.A.shape == (64, 32)
    assert update.B.shape == (32, 64, 3, 3)
    assert not update.A.any()
    squares = update.B.detach().flatten(1).square().sum(1)
    assert squares.mean().item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ('module', 'message'),
    [
        (nn.ConvTranspose2d(3, 4, 2), 'ConvTranspose2d'),
        (nn.Linear(3, 4), 'Linear'),
        (type('Own', (nn.Conv2d,), {})(3, 4, 3), 'Own'),
    ],
)
def test_what_is_no_plain_convolution_is_refused(module, message):
    with pytest.raises(ValueError, match=message):
        LoRAConv2d.from_base(module)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 4, 3)
    )


def test_a_rank_is_cut_layer_by_layer_and_reported():
    model = net()
    report = adapt_(model, ConvLoRA(rank=6), trainable=[], norm='frozen')
    layers = [model[i] for i in (0, 2, 3)]
    assert [layer.adapters['ir'].rank for layer in layers] == [6, 4, 4]
    count = 6 * (8 + 27) + 4 * (4 + 8) + 4 * (4 + 36)
    assert report.trainable == {'adapters': count}
    text = str(report)
    assert text.startswith(f"ConvLoRA 'ir': {count:,} of {report.total:,} parameters")
    assert 'rank 6 cut to the full rank of 2 of 3 layers: 2 4, 3 4' in text
    assert report.share == pytest.approx(count / report.total)
    whole = 'parameters train (100.0%): norms 16, rest 408'
    assert str(trainable_report(net())).endswith(whole)


def test_layers_are_chosen_by_name():
    model = net()
    adapt_(model, ConvLoRA(rank=1, include=['^0$', '^3$'], exclude=['3']), trainable=[])
    assert [type(m) for m in model] == [
        LoRAConv2d, nn.BatchNorm2d, nn.Conv2d, nn.Conv2d
    ]  # fmt: skip
    with pytest.raises(ValueError, match='check include'):
        adapt_(net(), ConvLoRA(include=['neck']), trainable=[])
    with pytest.raises(ValueError, match='rank 0 is not a positive integer'):
        ConvLoRA(rank=0)


def test_two_adapters_on_one_model():
    model, x = net(), torch.randn(1, 3, 9, 9)
    for name in ('day', 'night'):
        adapt_(model, ConvLoRA(rank=2), name, trainable=[], norm='frozen')
        for i in (0, 2, 3):
            nn.init.normal_(model[i].adapters[name].A)
    learns = {n.split('.')[2] for n, p in model.named_parameters() if p.requires_grad}
    assert learns == {'night'}
    model.eval()
    expected, state = model(x), model.state_dict()
    merged = merge_(model)
    torch.testing.assert_close(merged(x), expected, rtol=1e-4, atol=1e-5)
    found = merge_state_dict(state)
    assert found.keys() == net().state_dict().keys()
    assert all(torch.equal(v, merged.state_dict()[k]) for k, v in found.items())


def test_export_to_onnx_asks_to_merge(monkeypatch):
    monkeypatch.setattr(torch.onnx, 'is_in_onnx_export', lambda: True)
    layer, x = layer_of(nn.Conv2d(3, 4, 3), ir=1), torch.randn(1, 3, 5, 5)
    with pytest.raises(RuntimeError, match=r'merge_\(model\) for plain convolutions'):
        layer(x)
    layer.enable_adapter('ir', False)
    assert layer(x).shape == (1, 4, 3, 3)


def test_a_name_taken_on_one_layer_changes_no_other():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1))
    adapt_(model, ConvLoRA(1, include=['0']), 'night')
    adapt_(model, ConvLoRA(1, include=['1']), 'ir')
    keys = list(model.state_dict())
    with pytest.raises(ValueError, match=r"^1: there is an adapter 'ir' already"):
        adapt_(model, ConvLoRA(1), 'ir')
    assert list(model.state_dict()) == keys
