"""Ranks from weights: kept energy, budgets, kernels of a checkpoint."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.cnn import ConvModule
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import nn

from mmir.layers import SPLITS, TensorFactConv, factorize_
from mmir.layers.kernels import dense_kernels
from mmir.layers.rank_search import (
    rank_for_energy,
    rank_of_kernel,
    search_ranks,
    spectrum,
    spend,
)
from mmir.layers.split import get_split
from mmir.utils.checkpoint import CheckpointError

ALL = pytest.mark.parametrize('split', SPLITS)


def kernel_of(values, shape=(6, 5, 3, 3), split='ts_dd'):
    """A kernel whose matrix has the given singular values, the others zero."""
    cut = get_split(split)
    rows, cols = cut.matrix_shape(shape)
    u, v = (torch.linalg.qr(torch.randn(n, n).double()).Q for n in (rows, cols))
    matrix = (u[:, : len(values)] * torch.tensor(values).double()) @ v[: len(values)]
    shapes = cut.factor_shapes(shape, cols)
    eye = torch.eye(cols, dtype=torch.float64)
    return cut.fold([(matrix.reshape(shapes[0]), eye.reshape(shapes[1]))])


def net():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3), nn.Conv2d(16, 8, 1)
    )
    with torch.no_grad():
        model[1].weight.copy_(kernel_of([9, 5, 2, 1, 0.5], (16, 16, 3, 3)))
    return model


@ALL
def test_spectrum_is_that_of_the_matrix(split):
    kernel = torch.randn(6, 5, 3, 2)
    values = torch.linalg.svdvals(get_split(split).unfold(kernel.double())).square()
    torch.testing.assert_close(spectrum(kernel, get_split(split)), values)


@ALL
@pytest.mark.parametrize(
    ('energy', 'rank'), [(0.01, 1), (0.6, 1), (0.65, 2), (0.9, 2), (0.99, 3), (1, 4)]
)
def test_energy_is_the_kept_part_of_the_squared_norm(split, energy, rank):
    # Squares 64, 32, 3, 1: 64 %, 96 %, 99 % and all of the energy.
    torch.manual_seed(0)
    kernel = kernel_of([8, 32**0.5, 3**0.5, 1], split=split)
    rule = {'energy': energy - 1e-9}
    assert rank_of_kernel(rule, kernel, get_split(split)) == rank
    layer = TensorFactConv.from_conv(conv_with(kernel), rule, split=split)
    assert layer.rank == rank
    kept = layer.kernel().square().sum() / kernel.square().sum()
    assert kept >= energy - 1e-8


def conv_with(kernel):
    conv = nn.Conv2d(kernel.shape[1], kernel.shape[0], kernel.shape[2:]).double()
    conv.weight = nn.Parameter(kernel)
    return conv


@given(
    squares=st.lists(st.floats(0, 1e3), min_size=1, max_size=12),
    energy=st.floats(1e-3, 1),
)
def test_energy_takes_the_smallest_rank(squares, energy):
    values = torch.tensor(sorted(squares, reverse=True), dtype=torch.float64)
    rank = rank_for_energy(values, energy)
    assert 1 <= rank <= len(values)
    assert values[:rank].sum() >= energy * values.sum() - 1e-9
    assert rank == 1 or values[: rank - 1].sum() < energy * values.sum() + 1e-9


@pytest.mark.parametrize('energy', [0, -1, 1.5, True, '0.9', float('nan')])
def test_wrong_energy(energy):
    with pytest.raises(ValueError, match=r'6x5x3x3 .*above 0 and up to 1'):
        rank_of_kernel({'energy': energy}, torch.ones(6, 5, 3, 3), get_split('ts_dd'))


def test_zero_kernel_has_rank_one():
    kernel = torch.zeros(4, 4, 3, 3)
    assert rank_of_kernel({'energy': 0.9}, kernel, get_split('ts_dd')) == 1


spectra_of_layers = st.lists(
    st.lists(st.floats(0.01, 100), min_size=1, max_size=4), min_size=1, max_size=3
)


@settings(max_examples=60, deadline=None)
@given(spectra=spectra_of_layers, steps=st.integers(0, 8))
def test_budget_is_optimal_where_ranks_cost_the_same(spectra, steps):
    values = {str(k): sorted(s, reverse=True) for k, s in enumerate(spectra)}
    budget = 7 * (len(values) + steps)
    ranks = spend(budget, values, dict.fromkeys(values, 7))
    kept = sum(sum(values[name][:rank]) for name, rank in ranks.items())
    best = max(
        sum(sum(s[:r]) for s, r in zip(values.values(), choice, strict=True))
        for choice in itertools.product(
            *(range(1, len(s) + 1) for s in values.values())
        )
        if 7 * sum(choice) <= budget
    )
    assert 7 * sum(ranks.values()) <= budget
    assert kept == pytest.approx(best)


def test_budget_goes_where_a_parameter_gains_most():
    spectra = {'a': [100.0, 30.0, 20.0], 'b': [50.0, 24.0, 1.0]}
    costs = {'a': 10, 'b': 5}
    # Gains per parameter: a 3.0, 2.0; b 4.8, 0.2. Rank 1 of both takes 15.
    expected = {15: (1, 1), 19: (1, 1), 20: (1, 2), 25: (1, 3), 29: (1, 3)}
    expected |= {30: (2, 2), 35: (2, 3), 40: (3, 2), 45: (3, 3), 99: (3, 3)}
    for budget, ranks in expected.items():
        assert tuple(spend(budget, spectra, costs).values()) == ranks, budget
    with pytest.raises(ValueError, match=r'14 parameters is too small: .* takes 15'):
        spend(14, spectra, costs)


def test_budget_buys_nothing_that_gains_nothing():
    assert spend(10**6, {'a': [4.0, 1.0, 0.0, 0.0]}, {'a': 2}) == {'a': 2}


@ALL
@pytest.mark.parametrize('budget', [900, 0.3])
def test_model_under_a_budget(split, budget):
    model, dense = net(), net()
    report = factorize_(model, {'budget': budget}, split)
    layers = {name: model.get_submodule(name) for name in report.layers}
    spent = sum(m.A.numel() + m.B.numel() for m in layers.values())
    convs = {name: dense.get_submodule(name) for name in layers}
    limit = (
        budget
        if budget > 1
        else int(budget * sum(conv.weight.numel() for conv in convs.values()))
    )
    unit = {name: (m.A.numel() + m.B.numel()) // m.rank for name, m in layers.items()}
    assert limit - max(unit.values()) < spent <= limit
    assert '1' in layers
    assert ('2' in layers) == (split != 'ts_dd')
    assert 'convolutions factorised' in str(report)


def test_budget_never_buys_factors_as_large_as_the_kernel():
    report = factorize_(net(), {'budget': 10**9})
    assert report.ranks['0'] == 7  # 7 (48 + 9) < 48 * 9 <= 8 (48 + 9)
    assert factorize_(net(), {'budget': 10**9}, skip_growing=False).ranks['0'] == 9


@pytest.mark.parametrize('budget', [0, -5, 1.0, 2.5, True, '9', float('inf')])
def test_wrong_budget(budget):
    with pytest.raises(ValueError, match='budget is a positive integer'):
        factorize_(net(), {'budget': budget})


def test_energy_of_a_model_reads_its_weights():
    model = net()
    # Squares 81, 25, 4, 1, 0.25.
    report = factorize_(model, {'energy': 0.95}, exclude=['0'])
    assert report.ranks == {'1': 2}
    assert factorize_(net(), {'energy': 0.98}, exclude=['0']).ranks == {'1': 3}


def test_energy_names_the_damaged_layer():
    for rule in ({'energy': 0.9}, {'budget': 900}):
        model = net()
        with torch.no_grad():
            model[1].weight[0] = float('nan')
        with pytest.raises(ValueError, match=r'^1: NaN or infinite'):
            factorize_(model, rule)
        assert type(model[0]) is nn.Conv2d


def test_hundred_layers_take_no_time():
    kernels = {str(k): torch.randn(256, 256, 3, 3) for k in range(20)}
    ranks = search_ranks({'budget': 0.5}, kernels, get_split('ts_dd'), True)
    assert sum(ranks.values()) * (256 * 256 + 9) <= 0.5 * 20 * 256 * 256 * 9
    spectra = {str(k): torch.linspace(2, 1, 512).tolist() for k in range(99)}
    assert sum(spend(10**7, spectra, dict.fromkeys(spectra, 4608)).values()) == 2170


@pytest.mark.parametrize('prefix', ['', 'module.', 'ema.module.'])
@pytest.mark.parametrize('wrap', [True, False])
def test_factors_come_from_the_checkpoint(tmp_path, prefix, wrap):
    trained = {prefix + key: value for key, value in net().state_dict().items()}
    torch.save({'state_dict': trained} if wrap else trained, tmp_path / 'rgb.pth')
    torch.manual_seed(5)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.Conv2d(16, 16, 3), nn.Conv2d(16, 8, 1)
    )
    bias = model[1].bias.clone()
    rank = {'energy': 0.95}
    report = factorize_(model, rank, checkpoint=tmp_path / 'rgb.pth')
    assert report.ranks['1'] == 2
    expected = net()
    factorize_(expected, rank)
    assert torch.equal(model[1].kernel(), expected[1].kernel())
    assert torch.equal(model[1].bias, bias)


def test_kernels_missing_in_a_checkpoint_are_named(tmp_path):
    path, state = tmp_path / 'rgb.pth', net().state_dict()
    del state['1.weight']
    torch.save(state, path)
    model = net()
    with pytest.raises(
        ValueError, match=r'rgb\.pth lacks 1 of 2 dense kernels: 1\.wei'
    ):
        factorize_(model, 2, checkpoint=path)
    with pytest.raises(ValueError, match=r'0\.weight has shape'):
        factorize_(nn.Sequential(nn.Conv2d(3, 9, 3)), 2, checkpoint=path)
    factorize_(model, 2)
    torch.save(model.state_dict(), path)
    with pytest.raises(ValueError, match=r'lacks 2 of 2 .*merge_checkpoint it first'):
        factorize_(net(), 2, checkpoint=path)
    with pytest.raises(FileNotFoundError, match='nowhere'):
        factorize_(net(), 2, checkpoint='nowhere.pth')
    path.write_bytes(b'no checkpoint')
    with pytest.raises(CheckpointError, match=r'rgb\.pth'):
        factorize_(net(), 2, checkpoint=path)
    assert not any(isinstance(m, TensorFactConv) for m in net().modules())


def test_prefix_is_the_one_that_fits_most():
    kernel = torch.ones(2, 2, 3, 3)
    state = {'a.weight': 0 * kernel, 'm.a.weight': kernel, 'm.b.weight': kernel}
    found = dense_kernels(state, {'a': (2, 2, 3, 3), 'b': (2, 2, 3, 3)})
    assert found['a'].min() == found['b'].min() == 1
    assert dense_kernels(state, {'a': (2, 2, 3, 3)})['a'].max() == 0
    assert dense_kernels({'weight': kernel}, {'': (2, 2, 3, 3)})[''] is kernel


class RankSearchToy(BaseModel):
    """A model that a host would build."""

    def __init__(self):
        super().__init__()
        self.backbone = ConvModule(8, 16, 3, norm_cfg={'type': 'BN'})

    def forward(self, x):
        return self.backbone(x)


@pytest.mark.parametrize('rank', [2, {'energy': 0.8}, {'budget': 0.5}])
def test_builder_takes_ranks_and_residual_directions_from_a_checkpoint(tmp_path, rank):
    torch.manual_seed(0)
    trained = RankSearchToy()
    torch.save({'state_dict': trained.state_dict()}, tmp_path / 'rgb.pth')
    cfg = dict(rank=rank, checkpoint=str(tmp_path / 'rgb.pth'))
    cfg['delta'] = dict(name='ir', rank=1, init='residual')
    MODELS.register_module(name='RankSearchToy', module=RankSearchToy)
    try:
        model = MODELS.build(
            dict(type='factorized', target='RankSearchToy', factorize=cfg)
        )
    finally:
        MODELS.module_dict.pop('RankSearchToy')
    layer, conv = model.backbone.conv, trained.backbone.conv
    expected = TensorFactConv.from_conv(conv, layer.rank)
    assert torch.equal(layer.kernel(), expected.kernel())
    expected.augment('ir', 1, 'residual')
    assert torch.equal(layer.deltas['ir'].B, expected.deltas['ir'].B)
    model.load_state_dict(trained.state_dict(), strict=False)
    assert torch.equal(layer.kernel(), expected.kernel())
