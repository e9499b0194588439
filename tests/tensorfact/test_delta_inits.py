"""Initialization of deltas: identity, orthogonality, residuals, composition."""

import copy

import pytest
import torch
from torch import nn

from mmir.adapters import freeze_
from mmir.tensorfact import SPLITS, TensorFactConv, augment_, factorize_
from mmir.tensorfact.low_rank import DELTA_INITS
from mmir.tensorfact.split import get_split

ALL = pytest.mark.parametrize('split', SPLITS)
INITS = pytest.mark.parametrize('init', DELTA_INITS)
FROM_DB = pytest.mark.parametrize('init', ['zero_A', 'residual', 'orth'])


def dense(dtype=torch.float64, **options):
    torch.manual_seed(0)
    return nn.Conv2d(8, 12, 3, padding=1, dtype=dtype, **options)


def layer_of(split, rank=3, dtype=torch.float64, **options):
    return TensorFactConv.from_conv(dense(dtype), rank, split=split, **options)


@ALL
@INITS
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_output_is_the_same_at_first_and_after_switching_off(split, init, dtype):
    layer = layer_of(split, dtype=dtype, mode='reconstruct')
    x = torch.randn(2, 8, 7, 9, dtype=dtype)
    before = layer(x)
    layer.augment('ir', 2, init)
    assert torch.equal(layer(x), before)
    delta = layer.deltas['ir']
    assert (delta.A.abs().max() == 0) != (delta.B.abs().max() == 0)
    nn.init.normal_(delta.A)
    nn.init.normal_(delta.B)
    assert not torch.allclose(layer(x), before)
    layer.enable_adapter('ir', False)
    assert torch.equal(layer(x), before)


@ALL
@INITS
def test_frozen_facts_of_three_steps(split, init):
    layer = layer_of(split)
    layer.requires_grad_(False).augment('ir', 2, init)
    before = {key: value.clone() for key, value in layer.state_dict().items()}
    delta = layer.deltas['ir']
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.01, weight_decay=0.1)
    first, second = (delta.B, delta.A) if init == 'zero_B' else (delta.A, delta.B)
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
@FROM_DB
def test_batch_norm_statistics_and_base_stay_in_a_frozen_model(split, init):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3))
    factorize_(model, 2, split, checkpoint=model.state_dict())
    augment_(model, 'ir', 1, init)
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
def test_orthogonal_deltas_have_no_part_in_the_base(split):
    layer = layer_of(split).augment('ir', 3, 'orth')
    delta = layer.deltas['ir']
    rows, base = delta.B.detach().flatten(1), layer.B.detach().flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(3).double())
    assert (rows @ base.T).abs().max() < 1e-13
    nn.init.normal_(delta.A)
    fold = get_split(split).fold
    k, dk = fold([(layer.A, layer.B)]), fold([(delta.A, delta.B)])
    assert abs((k * dk).sum()) < 1e-12 * k.norm() * dk.norm()


def test_orthogonal_to_a_base_of_lower_rank_than_it_says():
    layer = layer_of('ts_dd')
    with torch.no_grad():
        layer.B[1] = layer.B[0]
        layer.B[2] = 0
    rows = layer.augment('ir', 6, 'orth').deltas['ir'].B.detach().flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(6).double())
    assert (rows @ layer.B.detach().flatten(1).T).abs().max() < 1e-13


@ALL
def test_residual_directions_complete_the_decomposition(split):
    conv = dense()
    layer = TensorFactConv.from_conv(conv, 3, split=split).augment('ir', 2, 'residual')
    matrix = get_split(split).unfold(conv.weight.detach())
    v = torch.linalg.svd(matrix, full_matrices=False).Vh[3:5]
    rows = layer.deltas['ir'].B.detach().flatten(1)
    torch.testing.assert_close(rows.T @ rows, v.T @ v, rtol=0, atol=1e-10)
    # The best dA for these rows gives the best approximation of rank r + dr.
    with torch.no_grad():
        layer.deltas['ir'].A.copy_(
            (matrix @ rows.T).reshape(layer.deltas['ir'].A.shape)
        )
    best = TensorFactConv.from_conv(conv, 5, split=split)
    torch.testing.assert_close(layer.kernel(), best.kernel(), rtol=0, atol=1e-10)


def test_residual_of_a_kernel_with_nothing_left_still_learns():
    for shape in ((8, 2, 3), (2, 8, 3)):
        conv = nn.Conv2d(*shape)
        nn.init.zeros_(conv.weight)
        for split in SPLITS:
            layer = TensorFactConv.from_conv(conv, 2, split=split)
            if min(get_split(split).matrix_shape(layer.kernel_shape)) < 3:
                continue
            rows = layer.augment('ir', 1, 'residual').deltas['ir'].B.flatten(1)
            assert rows.norm(dim=1).item() == pytest.approx(1)


@ALL
@pytest.mark.parametrize('init', ['orth', 'residual'])
def test_no_direction_is_left(split, init):
    limit = min(get_split(split).matrix_shape((12, 8, 3, 3)))
    layer = layer_of(split, limit - 1)
    layer.augment('one', 1, init)
    with pytest.raises(ValueError, match=rf"'{init}' of rank 2 .* at most {limit}"):
        layer.augment('two', 2, init)
    assert list(layer.deltas) == ['one']


def changed_factor(layer):
    with torch.no_grad():
        layer.A.mul_(2)


@pytest.mark.parametrize(
    'change',
    [
        changed_factor,
        lambda layer: layer.float(),
        lambda layer: layer.train(),
        lambda layer: layer.load_state_dict(layer.state_dict()),
    ],
)
def test_dense_kernel_is_forgotten_when_anything_changes(change):
    layer = layer_of('ts_dd')
    assert layer.dense_kernel() is not None
    assert copy.deepcopy(layer).dense_kernel() is None
    change(layer)
    with pytest.raises(
        ValueError, match="'residual' needs the dense kernel: give kernel"
    ):
        layer.augment('ir', 1, 'residual')
    assert not layer.deltas
    layer.augment('ir', 1, 'residual', kernel=dense().weight)


def test_dense_kernel_that_changed_is_not_used():
    conv = dense()
    layer = TensorFactConv.from_conv(conv, 3)
    nn.init.normal_(conv.weight)
    with pytest.raises(ValueError, match='needs the dense kernel'):
        layer.augment('ir', 1, 'residual')
    with pytest.raises(
        ValueError, match=r'has shape \(12, 8, 1, 1\), the layer is 12x8'
    ):
        layer.augment('ir', 1, 'residual', kernel=conv.weight[..., :1, :1])


@ALL
def test_drawn_factors_have_unit_norm_on_average(split):
    torch.manual_seed(0)
    layer = TensorFactConv(64, 64, 3, rank=4, split=split)
    layer.augment('a', 3, 'zero_A').augment('b', 3, 'zero_B')
    rows = layer.deltas['a'].B.detach().flatten(1)
    columns = layer.deltas['b'].A.detach().flatten(0, -2)
    assert rows.norm(dim=1).square().mean().item() == pytest.approx(1, rel=0.7)
    assert columns.norm(dim=0).square().mean().item() == pytest.approx(1, rel=0.3)


@ALL
@pytest.mark.parametrize('mode', ['reconstruct', 'two_conv', 'branch'])
def test_deltas_compose_and_equal_a_layer_of_concatenated_factors(split, mode):
    layer = layer_of(split, mode=mode).augment('ir', 1, 'orth').augment('nir', 2)
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


def toy():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))


def test_residual_in_a_model_needs_its_dense_kernels(tmp_path):
    trained, model = toy().state_dict(), toy()
    factorize_(model, 2)
    with pytest.raises(ValueError, match=r'^0: .* checkpoint= .* to factorize_ or'):
        augment_(model, 'ir', 1, 'residual')
    with pytest.raises(ValueError, match="'residual' reads a checkpoint, 'orth' does"):
        augment_(model, 'ir', 1, 'orth', checkpoint=trained)
    assert not model[0].deltas
    torch.save(trained, tmp_path / 'rgb.pth')
    rows = []
    for source in (trained, tmp_path / 'rgb.pth'):
        other = copy.deepcopy(model)
        augment_(other, 'ir', 1, 'residual', checkpoint=source)
        rows.append(other[2].deltas['ir'].B)
    fresh = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
    factorize_(fresh, 2, checkpoint=tmp_path / 'rgb.pth')
    augment_(fresh, 'ir', 1, 'residual')
    rows.append(fresh[2].deltas['ir'].B)
    matrix = trained['2.weight'].reshape(64, 9)
    expected = torch.linalg.svd(matrix.double()).Vh[2]
    for row in rows:
        product = row.detach().double().flatten() @ expected
        assert abs(product.item()) == pytest.approx(1, abs=1e-6)


def test_a_failing_layer_leaves_the_model_as_it_was():
    model = toy()
    factorize_(model, 4)
    # The second layer has no room for five more directions orthogonal to its base.
    model[2] = TensorFactConv(8, 8, 3, rank=6)
    with pytest.raises(ValueError, match=r"^2: delta init 'orth' of rank 5"):
        augment_(model, 'ir', 5, 'orth')
    assert not model[0].deltas
    assert not model[2].deltas
