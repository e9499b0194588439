"""Ranks from weights: kept energy, budgets, kernels of a checkpoint."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmcv.cnn import ConvModule
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import nn

from mmir.tensorfact import SPLITS, TensorFactConv, compression_plan, factorize_
from mmir.tensorfact.kernels import dense_kernels
from mmir.tensorfact.rank_search import rank_for_energy, rank_of_kernel, search_ranks
from mmir.tensorfact.split import get_split
from mmir.tensorfact.svd import spectrum
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
    torch.testing.assert_close(spectrum(get_split(split).unfold(kernel)), values)


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


@ALL
@pytest.mark.parametrize('budget', [900, 0.4])
def test_model_under_a_budget(split, budget):
    model, dense = net(), net()
    report = factorize_(model, {'budget': budget}, split)
    names = [n for n in '012' if split != 'ts_dd' or n != '2']
    assert {*report.layers} <= {*names}
    total = sum(dense.get_submodule(name).weight.numel() for name in names)
    limit = budget if budget > 1 else int(budget * total)
    spent = sum(kernel_size(model.get_submodule(name)) for name in names)
    assert spent <= limit
    assert set(names) - set(report.layers) == {
        name for name, why in report.skipped.items() if why == 'dense by the budget'
    }
    assert 'convolutions factori' in str(report)


def kernel_size(layer):
    """Parameters of a layer without its bias."""
    return sum(p.numel() for n, p in layer.named_parameters() if n != 'bias')


@ALL
@pytest.mark.parametrize('part', [0.4, 0.6, 0.8])
def test_budget_is_the_plan_by_parameters(split, part):
    """The same algorithm: what a plan leaves to these layers is their budget."""
    model = net()
    plan = compression_plan(model, {'params': part}, split=split)
    kernels = sum(each.before.params for each in plan.layers)
    others = plan.before.params - kernels
    budget = int(part * plan.before.params) - others
    report = factorize_(model, {'budget': budget}, split)
    assert report.ranks == plan.ranks
    assert report.params_after == plan.after.params


def test_budget_of_the_dense_model_leaves_nothing_to_do():
    with pytest.raises(ValueError, match=r'nothing to factori.*dense by the budget'):
        factorize_(net(), {'budget': 10**9})


def test_budget_below_rank_one_names_the_least():
    with pytest.raises(ValueError, match='params: 14 cannot be reached, the least is'):
        factorize_(net(), {'budget': 14})


@pytest.mark.parametrize('budget', [0, -5, 1.0, 2.5, True, '9', float('inf')])
def test_wrong_budget(budget):
    with pytest.raises(ValueError, match='budget must be a positive integer'):
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


def test_many_layers_take_no_time():
    kernels = {str(k): torch.randn(256, 256, 3, 3) for k in range(20)}
    ranks = search_ranks({'budget': 0.5}, kernels, get_split('ts_dd'))
    dense = 256 * 256 * 9
    spent = [dense if r is None else r * (256 * 256 + 9) for r in ranks.values()]
    assert sum(spent) <= 0.5 * 20 * dense


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
    with pytest.raises(ValueError, match=r'lacks 2 of 2 .*run merge_checkpoint'):
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
def test_builder_takes_ranks_and_factors_from_a_checkpoint(tmp_path, rank):
    torch.manual_seed(0)
    trained = RankSearchToy()
    torch.save({'state_dict': trained.state_dict()}, tmp_path / 'rgb.pth')
    cfg = dict(rank=rank, checkpoint=str(tmp_path / 'rgb.pth'))
    cfg['delta'] = 1
    MODELS.register_module(name='RankSearchToy', module=RankSearchToy)
    try:
        model = MODELS.build(
            dict(
                type='Adapted',
                target='RankSearchToy',
                adapt=dict(type='TensorFact', **cfg),
            )
        )
    finally:
        MODELS.module_dict.pop('RankSearchToy')
    layer, conv = model.backbone.conv, trained.backbone.conv
    expected = TensorFactConv.from_conv(conv, layer.rank)
    assert torch.equal(layer.kernel(), expected.kernel())
    model.load_state_dict(trained.state_dict(), strict=False)
    assert torch.equal(layer.kernel(), expected.kernel())
