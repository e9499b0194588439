"""The four splits: entries, sizes, truncation, initialization, storage, 1x1."""

import copy
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.runner.checkpoint import weights_to_cpu
from torch import nn

from mmir.adapters import (
    adapter_state,
    freeze_,
    load_adapter_state,
    merge_,
    merge_checkpoint,
    merge_state_dict,
    switch_adapter_,
)
from mmir.adapters.low_rank import LowRank
from mmir.tensorfact import SPLITS, TensorFactConv, augment_, factorize_
from mmir.tensorfact.split import get_split

ALL = pytest.mark.parametrize('split', SPLITS)
# K[t, s, j, i] = sum over q of A[these, q] * B[q, these], table 1.1 of the method.
TERMS = {
    'ts_dd': 'tsq,qji->tsji',
    'td_sd': 'tjq,qsi->tsji',
    't_sdd': 'tq,qsji->tsji',
    'tdd_s': 'tjiq,qs->tsji',
}
SIDES = {'t': 6, 's': 4, 'j': 3, 'i': 5}


def layer_of(split, rank=2, **options):
    return TensorFactConv(4, 6, (3, 5), rank=rank, split=split, **options)


@ALL
def test_kernel_is_the_sum_of_products(split):
    layer = layer_of(split, 3, dtype=torch.float64)
    terms, sizes = TERMS[split], {**SIDES, 'q': 3}
    given = terms.partition('->')[0].split(',')
    rows, cols = (tuple(sizes[key] for key in term) for term in given)
    assert (tuple(layer.A.shape), tuple(layer.B.shape)) == (rows, cols)
    torch.testing.assert_close(
        layer.kernel(), torch.einsum(terms, layer.A, layer.B), rtol=0, atol=1e-13
    )
    assert layer.kernel().is_contiguous()


@ALL
def test_fold_undoes_unfold(split):
    kernel = torch.randn(6, 4, 3, 5)
    cut = get_split(split)
    matrix = cut.unfold(kernel)
    assert matrix.shape == cut.matrix_shape((6, 4, 3, 5))
    shapes = cut.factor_shapes((6, 4, 3, 5), matrix.shape[1])
    eye = torch.eye(matrix.shape[1]).reshape(shapes[1])
    assert torch.equal(cut.fold([(matrix.reshape(shapes[0]), eye)]), kernel)


@pytest.mark.parametrize(
    ('split', 'base', 'delta'),
    # r(TS + DD), r(T D2 + S D1), r(T + S DD), r(T DD + S) with S = 8 / groups
    [
        *(('ts_dd', 3 * (64 + 15), 64 + 15), ('td_sd', 3 * (48 + 20), 48 + 20)),
        *(('t_sdd', 3 * (16 + 60), 16 + 60), ('tdd_s', 3 * (240 + 4), 240 + 4)),
    ],
)
def test_parameter_count(split, base, delta):
    layer = TensorFactConv(8, 16, (3, 5), groups=2, rank=3, split=split)
    assert sum(p.numel() for p in layer.parameters()) == base + 16
    layer.requires_grad_(False).augment('ir', 1)
    assert sum(p.numel() for p in layer.parameters() if p.requires_grad) == delta


@ALL
def test_truncation_error_is_the_tail(split):
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 10, 3, bias=False).double()
    order = [' tsji'.index(k) - 1 for k in TERMS[split] if k in 'tsji'][:4]
    first = TERMS[split].index(',') - 1
    matrix = conv.weight.detach().permute(order).flatten(first).flatten(0, first - 1)
    values = torch.linalg.svdvals(matrix)
    for rank in range(1, min(8, len(values)) + 1):
        layer = TensorFactConv.from_conv(conv, rank, split=split)
        error = (conv.weight - layer.kernel()).norm()
        assert abs(error - values[rank:].square().sum().sqrt()) < 1e-12


@settings(max_examples=40, deadline=None)
@given(
    split=st.sampled_from(list(SPLITS)),
    shape=st.tuples(st.integers(2, 9), st.integers(2, 9), *[st.integers(1, 4)] * 2),
    planted=st.integers(1, 6),
    sigma=st.sampled_from(['sqrt', 'A', 'B']),
    seed=st.integers(0, 99),
)
def test_planted_rank_is_recovered(split, shape, planted, sigma, seed):
    torch.manual_seed(seed)
    limit = min(get_split(split).matrix_shape(shape))
    options = {'split': split, 'dtype': torch.float64}
    planted = min(planted, limit)
    kernel = TensorFactConv(
        shape[1], shape[0], shape[2:], rank=planted, **options
    ).merge()
    for rank in (planted, limit):
        layer = TensorFactConv.from_conv(kernel, rank, split=split, sigma=sigma)
        error = (layer.kernel() - kernel.weight).norm()
        assert error <= 1e-10 * kernel.weight.norm()
    if sigma == 'A':
        atoms = layer.B.detach().flatten(1)
        eye = torch.eye(limit, dtype=torch.float64)
        torch.testing.assert_close(atoms @ atoms.T, eye, rtol=0, atol=1e-10)


@ALL
def test_fresh_kernels_have_the_variance_of_kaiming(split):
    torch.manual_seed(0)
    fan, values = 32 * 9, []
    for rank in (4, 9):
        layers = [TensorFactConv(32, 32, 3, rank=rank, split=split) for _ in range(20)]
        kernels = torch.stack([layer.kernel() for layer in layers])
        values.append(kernels.var().item() * fan / 2)
    assert values == pytest.approx([1, 1], rel=0.15)


@ALL
@pytest.mark.parametrize('groups', [1, 2, 4])
def test_groups_strides_and_strings(split, groups):
    torch.manual_seed(0)
    x = torch.randn(2, 4, 11, 9, dtype=torch.float64)
    for kernel, padding, stride, dilation in itertools.product(
        [(3, 2), (1, 3)], ['same', 'valid', (2, 1)], [1, (2, 1)], [1, (1, 2)]
    ):
        if padding == 'same' and stride != 1:
            continue
        conv = nn.Conv2d(4, 8, kernel, stride, padding, dilation, groups).double()
        layer = TensorFactConv.from_conv(conv, 'full', split=split)
        for layer.mode in ('reconstruct', 'two_conv', 'branch'):
            torch.testing.assert_close(layer(x), conv(x), rtol=1e-12, atol=1e-12)


@ALL
def test_round_trips_pickle_and_merge(split, tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(layer_of(split), layer_of(split).augment('ir', 1))
    nn.init.normal_(net[1].deltas['ir'].A)
    other = nn.Sequential(layer_of(split), layer_of(split).augment('ir', 1))
    assert not torch.equal(other[1].kernel(), net[1].kernel())
    torch.save(dict(state_dict=weights_to_cpu(net.state_dict())), tmp_path / 'a.pth')
    state = torch.load(tmp_path / 'a.pth', weights_only=True)['state_dict']
    other.load_state_dict(state)
    for loaded in (other, copy.deepcopy(net)):
        assert torch.equal(loaded[1].kernel(), net[1].kernel())
    assert merge_checkpoint(tmp_path / 'a.pth', tmp_path / 'b.pth') == 2
    merged = torch.load(tmp_path / 'b.pth', weights_only=True)['state_dict']
    assert torch.equal(merged['1.weight'], net[1].merge().weight)
    plain = merge_state_dict(dict(net.state_dict()), split=split)
    assert torch.equal(plain['1.weight'], net[1].weight)


@ALL
def test_deltas_as_files_and_models_without_deltas(split):
    torch.manual_seed(0)
    base = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 4, 3))
    factorize_(base, 2, split)
    model, x = copy.deepcopy(base), torch.randn(2, 3, 8, 8)
    assert isinstance(model[1], TensorFactConv) == (split != 'ts_dd')
    augment_(model, 'ir', 1)
    freeze_(model, 'ir')
    for delta in (m for m in model.modules() if isinstance(m, LowRank)):
        nn.init.normal_(delta.A)
    delta, before = adapter_state(model), base(x)
    load_adapter_state(base, delta)
    assert torch.equal(base(x), model(x))
    switch_adapter_(base, 'ir', False)
    assert torch.equal(base(x), before)
    merged = merge_(copy.deepcopy(model))
    assert [type(m) for m in merged] == [nn.Conv2d] * 3
    torch.testing.assert_close(merged(x), model(x))


@ALL
def test_dense_checkpoint_is_factorized(split):
    conv = nn.Conv2d(4, 6, (3, 5))
    layer = layer_of(split)
    layer.load_state_dict(conv.state_dict())
    expected = TensorFactConv.from_conv(conv, 2, split=split)
    assert torch.equal(layer.kernel(), expected.kernel())


@pytest.mark.parametrize(('source', 'target'), itertools.permutations(SPLITS, 2))
def test_another_split_is_refused(source, target):
    # S = D2 = D1: under ts_dd and td_sd the factors have the same shapes.
    state = TensorFactConv(3, 6, 3, rank=2, split=source).state_dict()
    layer = nn.Sequential(TensorFactConv(3, 6, 3, rank=2, split=target))
    state = {f'0.{key}': value for key, value in state.items()}
    if {source, target} != {'ts_dd', 'td_sd'}:
        with pytest.raises(ValueError, match=rf'^0: .* split .*{source}.*has {target}'):
            layer.load_state_dict(state)
        with pytest.raises(ValueError, match=rf'^0: A .* not factors .*{target}'):
            merge_state_dict(state, split=target)
    told = nn.Sequential(TensorFactConv(3, 6, 3, rank=2, split=source)).state_dict()
    with pytest.raises(ValueError, match=f'^0: .* {source}, the layer has {target}'):
        layer.load_state_dict(told)
    with pytest.raises(ValueError, match=f"^0: factors of split '{source}', not"):
        merge_state_dict(told, split=target)


def test_merge_of_a_file_names_it(tmp_path):
    state = dict(layer_of('t_sdd').state_dict())
    torch.save({f'0.{key}': value for key, value in state.items()}, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r"a\.pth: 0: A .* 'ts_dd', give split="):
        merge_checkpoint(tmp_path / 'a.pth', tmp_path / 'b.pth')
    assert merge_checkpoint(tmp_path / 'a.pth', tmp_path / 'b.pth', split='t_sdd') == 1


@pytest.mark.parametrize('split', ['td_sd', 't_sdd', 'tdd_s'])
def test_pointwise_convolution_is_an_ordinary_low_rank_matrix(split):
    torch.manual_seed(0)
    conv = nn.Conv2d(12, 20, 1).double()
    layer = TensorFactConv.from_conv(conv, 5, split=split)
    u, s, v = torch.linalg.svd(conv.weight.detach().flatten(1), full_matrices=False)
    best = (u[:, :5] * s[:5]) @ v[:5]
    torch.testing.assert_close(layer.kernel().flatten(1), best, rtol=0, atol=1e-12)
    assert sum(p.numel() for p in (layer.A, layer.B)) == 5 * (12 + 20)
    assert math.prod(layer.kernel().shape) == 240


@ALL
def test_moved_to_channels_last(split):
    layer = layer_of(split, padding=1).augment('ir', 1)
    nn.init.normal_(layer.deltas['ir'].A)
    x = torch.randn(2, 4, 8, 9)
    moved = copy.deepcopy(layer).to(memory_format=torch.channels_last)
    for mode in ('reconstruct', 'two_conv', 'branch'):
        layer.mode = moved.mode = mode
        y = moved(x.to(memory_format=torch.channels_last))
        assert y.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(y, layer(x), rtol=1e-5, atol=1e-5)
    assert torch.equal(moved.merge().weight, moved.weight)
