"""Deltas: without effect at first, what they learn, composition."""

import pytest
import torch
from torch import nn

from mmir.adapters import freeze_
from mmir.tensorfact import SPLITS, TensorFactConv, augment_, factorize_

ALL = pytest.mark.parametrize('split', SPLITS)


def dense(dtype=torch.float64, **options):
    torch.manual_seed(0)
    return nn.Conv2d(8, 12, 3, padding=1, dtype=dtype, **options)


def layer_of(split, rank=3, dtype=torch.float64, **options):
    return TensorFactConv.from_conv(dense(dtype), rank, split=split, **options)


@ALL
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_output_is_the_same_at_first_and_after_switching_off(split, dtype):
    layer = layer_of(split, dtype=dtype, mode='reconstruct')
    x = torch.randn(2, 8, 7, 9, dtype=dtype)
    before = layer(x)
    layer.augment('ir', 2)
    assert torch.equal(layer(x), before)
    delta = layer.deltas['ir']
    assert delta.A.abs().max() == 0
    assert delta.B.abs().max() > 0
    nn.init.normal_(delta.A)
    nn.init.normal_(delta.B)
    assert not torch.allclose(layer(x), before)
    layer.enable_adapter('ir', False)
    assert torch.equal(layer(x), before)


@ALL
def test_frozen_facts_of_three_steps(split):
    layer = layer_of(split)
    layer.requires_grad_(False).augment('ir', 2)
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    delta = layer.deltas['ir']
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.01, weight_decay=0.1)
    first, second = delta.A, delta.B
    for step in range(3):
        optimizer.zero_grad()
        layer(torch.randn(2, 8, 6, 6).double()).square().mean().backward()
        assert first.grad.abs().max() > 0
        assert (second.grad.abs().max() == 0) == (step == 0)
        optimizer.step()
    assert layer.A.grad is layer.B.grad is layer.bias.grad is None
    for key, value in layer.state_dict().items():
        assert torch.equal(value, before[key]) != key.startswith('deltas.'), key


@ALL
def test_batch_norm_statistics_and_base_stay_in_a_frozen_model(split):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3))
    factorize_(model, 2, split, checkpoint=model.state_dict())
    augment_(model, 'ir', 1)
    freeze_(model, 'ir', trainable=[], norm='frozen')
    before = {key: value.clone() for key, value in model.state_dict().items()}
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        model.train()(torch.randn(2, 3, 9, 9) + 1).square().mean().backward()
        optimizer.step()
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key]) != ('.deltas.' in key), key


@ALL
def test_drawn_factors_have_unit_norm_on_average(split):
    torch.manual_seed(0)
    layer = TensorFactConv(64, 64, 3, rank=4, split=split)
    layer.augment('a', 3)
    rows = layer.deltas['a'].B.detach().flatten(1)
    assert rows.norm(dim=1).square().mean().item() == pytest.approx(1, rel=0.7)


@ALL
@pytest.mark.parametrize('mode', ['reconstruct', 'two_conv', 'branch'])
def test_deltas_compose_and_equal_a_layer_of_concatenated_factors(split, mode):
    layer = layer_of(split, mode=mode).augment('ir', 1).augment('nir', 2)
    for delta in layer.deltas.values():
        nn.init.normal_(delta.A)
    x = torch.randn(1, 8, 7, 7, dtype=torch.float64)
    for on in ([True, True], [True, False], [False, True], [False, False]):
        for name, flag in zip(('ir', 'nir'), on, strict=True):
            layer.enable_adapter(name, flag)
        pairs = layer.factors()
        rank = 3 + on[0] + 2 * on[1]
        wide = TensorFactConv(
            8, 12, 3, padding=1, rank=rank, split=split, dtype=torch.float64
        )
        wide.load_state_dict(
            {
                'A': torch.cat([a for a, _ in pairs], -1),
                'B': torch.cat([b for _, b in pairs]),
                'bias': layer.bias,
            }
        )
        torch.testing.assert_close(layer(x), wide(x), rtol=1e-12, atol=1e-12)


@ALL
@pytest.mark.parametrize('trained', ['ir', 'nir'])
def test_each_delta_is_frozen_and_active_on_its_own(split, trained):
    layer = layer_of(split).augment('ir', 1).augment('nir', 1)
    layer.requires_grad_(False).deltas[trained].requires_grad_(True)
    (other,) = {'ir', 'nir'} - {trained}
    for delta in layer.deltas.values():
        nn.init.normal_(delta.A)
    x = torch.randn(1, 8, 6, 6, dtype=torch.float64)
    layer(x).sum().backward()
    assert layer.deltas[trained].A.grad.abs().max() > 0
    assert layer.deltas[other].A.grad is layer.A.grad is None
    layer.enable_adapter(trained, False)
    assert not layer(x).requires_grad


def test_a_failing_layer_leaves_the_model_as_it_was():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    factorize_(model, 4)
    model[2].augment('ir', 1)
    with pytest.raises(ValueError, match=r"^2: there is an adapter 'ir' already"):
        augment_(model, 'ir', 2)
    assert not model[0].deltas
    assert model[2].deltas['ir'].rank == 1
