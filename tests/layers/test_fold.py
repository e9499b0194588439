"""Folded models compute what they computed, and keep their factors."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.cnn import ConvModule
from torch import nn

from mmir.layers import SPLITS, FrozenBatchNorm, TensorFactConv, augment_, factorize_
from mmir.layers.fold import fold_bn_, fold_bn_pair_, fold_repconv_factors

ALL = sorted(SPLITS)


def relative(value, reference):
    return ((value - reference).abs().max() / reference.abs().max()).item()


def lively(norm):
    """A batch norm in evaluation with statistics and weights of its own."""
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.2, 3)
    if norm.weight is not None:
        nn.init.uniform_(norm.weight, -2, 2)
        nn.init.normal_(norm.bias)
    return norm.eval()


def factorised(*args, rank=2, deltas=(1,), split='ts_dd', **geometry):
    """A layer in float64 with deltas that act."""
    layer = TensorFactConv(*args, **geometry, rank=rank, split=split).double()
    for i, delta in enumerate(deltas):
        layer.augment(f'd{i}', delta)
        nn.init.normal_(layer.deltas[f'd{i}'].A, std=0.3)
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    return layer


@pytest.mark.parametrize('split', ALL)
@pytest.mark.parametrize(('groups', 'bias'), [(1, True), (2, False)])
def test_rows_of_every_a_are_scaled(split, groups, bias):
    torch.manual_seed(0)
    layer = factorised(
        4, 6, 3, padding=1, groups=groups, bias=bias, split=split, deltas=(1, 2)
    ).eval()
    norm, x = lively(nn.BatchNorm2d(6).double()), torch.randn(2, 4, 7, 6).double()
    states = ((True, True), (True, False), (False, False))
    expected = []
    for states_of_deltas in states:
        for name, on in zip(layer.deltas, states_of_deltas, strict=True):
            layer.enable_delta(name, on)
        expected.append(norm(layer(x)))
    folded = copy.deepcopy(layer)
    fold_bn_pair_(folded, norm)
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    parts = [
        (layer, folded),
        *((layer.deltas[name], folded.deltas[name]) for name in layer.deltas),
    ]
    for old, new in parts:
        column = scale.view(-1, *[1] * (old.A.ndim - 1))
        torch.testing.assert_close(new.A, old.A * column, rtol=1e-14, atol=0)
        assert torch.equal(new.B, old.B)
    for states_of_deltas, y in zip(states, expected, strict=True):
        for name, on in zip(folded.deltas, states_of_deltas, strict=True):
            folded.enable_delta(name, on)
        for folded.mode in ('reconstruct', 'two_conv'):
            assert relative(folded(x), y) < 1e-14 * 10


def test_parameters_are_new_and_flags_stay():
    layer = factorised(3, 4, 3, bias=False).requires_grad_(False).eval()
    layer.deltas['d0'].requires_grad_(True)
    x = torch.randn(1, 3, 5, 5).double()
    first = layer(x)
    old, before = layer.A, layer.A.clone()
    norm = lively(nn.BatchNorm2d(4).double())
    fold_bn_pair_(layer, norm)
    assert torch.equal(old, before)
    flags = {n: p.requires_grad for n, p in layer.named_parameters()}
    assert flags == {
        'A': False, 'B': False, 'bias': True, 'deltas.d0.A': True, 'deltas.d0.B': True
    }  # fmt: skip
    with torch.no_grad():  # twice, with a kernel kept in between
        assert relative(layer(x), norm(first)) < 1e-13
        fold_bn_pair_(layer, norm)
        assert relative(layer(x), norm(norm(first))) < 1e-13


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float32])
def test_folding_rounds_once(dtype):
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 8, 3).to(dtype)
    weight, bias = conv.weight.double(), conv.bias.double()
    norm = lively(nn.BatchNorm2d(8))
    fold_bn_pair_(conv, norm)
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    exact = (bias - norm.running_mean.double()) * scale + norm.bias.double()
    limit = 1.01 * torch.finfo(dtype).eps if dtype != torch.float32 else 4e-7
    kernel = weight * scale[:, None, None, None]
    assert conv.weight.dtype == conv.bias.dtype == dtype
    assert ((conv.weight - kernel).abs() <= limit * kernel.abs()).all()
    assert ((conv.bias - exact).abs() <= limit * exact.abs() + 1e-6).all()


class Blocks(nn.Module):
    """Every way a ConvModule can stand to its norm."""

    def __init__(self):
        super().__init__()
        bn, cfg = {'type': 'BN'}, {'type': 'TensorFactConv', 'rank': 3}
        self.usual = ConvModule(3, 8, 3, padding=1, norm_cfg=bn, conv_cfg=cfg)
        self.plain = ConvModule(8, 8, 3, padding=1, norm_cfg=bn, padding_mode='reflect')
        self.late = ConvModule(8, 8, 3, norm_cfg=bn, order=('act', 'conv', 'norm'))
        self.early = ConvModule(8, 8, 3, norm_cfg=bn, order=('norm', 'conv', 'act'))
        self.group = ConvModule(8, 8, 1, norm_cfg={'type': 'GN', 'num_groups': 2})
        self.bare = ConvModule(8, 8, 1)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                lively(module)

    def forward(self, x):
        for block in self.children():
            x = block(x)
        return x


@pytest.mark.parametrize('efficient', [False, True])
@torch.no_grad()
def test_blocks_are_found_and_the_others_reported(efficient):
    torch.manual_seed(0)
    model, x = Blocks().double().eval(), torch.randn(2, 3, 9, 9).double()
    augment_(model, 'ir', 1)
    nn.init.normal_(model.usual.conv.deltas['ir'].A)
    expected = model(x)
    model.plain.turn_on_efficient_conv_bn_eval(efficient)
    report = fold_bn_(model)
    folded = ('usual', 'plain', 'late')
    assert report.folded == {f'{name}.conv': f'{name}.bn' for name in folded}
    assert set(report.kept) == {'early.bn', 'group.gn'}
    assert "('norm', 'conv', 'act')" in report.kept['early.bn']
    assert report.kept['group.gn'] == 'GroupNorm is no batch norm'
    assert str(report).startswith('3 batch norms folded, 2 norms kept\n')
    assert type(model.usual.conv) is TensorFactConv
    assert model.usual.conv.rank == 3
    assert 'ir' in model.usual.conv.deltas
    assert relative(model(x), expected) < 1e-13
    assert relative(model.train(False)(x), expected) < 1e-13
    assert fold_bn_(model).folded == {}


@torch.no_grad()
def test_a_convolution_that_several_norms_share_is_left():
    cfg = {'norm_cfg': {'type': 'BN'}}
    model = nn.ModuleList(ConvModule(4, 4, 3, **cfg) for _ in range(3)).double()
    model[1].conv = model[0].conv
    for block in model:
        lively(block.bn)
    x = torch.randn(1, 4, 6, 6).double()
    expected = [block.eval()(x) for block in model]
    report = fold_bn_(model)
    assert report.folded == {'2.conv': '2.bn'}
    assert set(report.kept) == {'0.bn', '1.bn'}
    assert all('shared' in reason for reason in report.kept.values())
    for block, y in zip(model, expected, strict=True):
        assert relative(block(x), y) < 1e-13


@torch.no_grad()
def test_a_block_used_twice_and_tied_weights():
    cfg = {'norm_cfg': {'type': 'BN'}}
    block, other = ConvModule(4, 4, 3, **cfg), ConvModule(4, 4, 3, **cfg)
    other.conv.weight = block.conv.weight
    model = nn.Sequential(block, block, other).double().eval()
    lively(block.bn)
    x = torch.randn(1, 4, 9, 9).double()
    expected = model(x)
    assert len(fold_bn_(model).folded) == 2
    assert relative(model(x), expected) < 1e-13


class OwnForward(ConvModule):
    def forward(self, x):
        return self.conv(x) + self.bn(self.conv(x))


def hooked(block):
    block.conv.register_forward_hook(lambda *_: None)


def no_statistics(block):
    block.bn = nn.BatchNorm2d(4, track_running_stats=False)


def shared_norm(block):
    block.again = block.bn


OBSTACLES = [
    (lambda b: setattr(b, '__class__', OwnForward), 'OwnForward has a forward of its'),
    (hooked, 'a forward hook reads'),
    (no_statistics, 'keeps no running statistics'),
    (shared_norm, 'the batch norm is shared'),
    (lambda b: nn.utils.spectral_norm(b.conv), 'a parametrisation'),
    (lambda b: setattr(b, 'conv', nn.ConvTranspose2d(4, 4, 3)), 'ConvTranspose2d is'),
    (lambda b: setattr(b, 'bn', nn.BatchNorm2d(5)), '5 features'),
]


@pytest.mark.parametrize(('change', 'message'), OBSTACLES)
def test_what_cannot_be_folded(change, message):
    model = nn.Sequential(ConvModule(4, 4, 3, norm_cfg={'type': 'BN'}))
    change(model[0])
    before = copy.deepcopy(model.state_dict())
    report = fold_bn_(model)
    assert report.folded == {}
    assert message in report.kept['0.bn']
    assert model.state_dict().keys() == before.keys()
    if 'own' not in message and 'forward of' not in message:
        with pytest.raises(ValueError, match=r'cannot fold 0\.bn into 0\.conv'):
            fold_bn_(model, [('0.conv', '0.bn')])


@torch.no_grad()
def test_named_pairs():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8, affine=False),
    ).double().eval()  # fmt: skip
    factorize_(model, 2)
    model[1], model[4] = FrozenBatchNorm(lively(model[1])), lively(model[4])
    x = torch.randn(2, 3, 9, 8).double()
    expected = model(x)
    pairs = [('0', '1'), ('3', '4')]
    before = [type(m) for m in model]
    for wrong, message in (
        ([*pairs, ('3', '9')], 'no pair 3, 9: .*9'),
        ([*pairs, ('3', '4')], 'cannot fold 4 into 3: it is given twice'),
        ([('2', '4')], 'cannot fold 4 into 2: ReLU is no plain'),
        ([('0', '3')], 'cannot fold 3 into 0: TensorFactConv is no batch norm'),
    ):
        with pytest.raises(ValueError, match=message):
            fold_bn_(model, wrong)
    assert [type(m) for m in model] == before
    assert torch.equal(model(x), expected)
    assert fold_bn_(model, pairs).folded == dict(pairs)
    assert [type(m) for m in model][1::3] == [nn.Identity, nn.Identity]
    assert relative(model(x), expected) < 1e-13


def test_damaged_statistics_are_named_and_change_nothing():
    model = Blocks().eval()
    model.late.bn.running_var[3] = float('nan')
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r'late\.bn holds NaN'):
        fold_bn_(model)
    torch.testing.assert_close(model.state_dict(), before, equal_nan=True)


# The branches of a RepConv: kernel, 1x1 and identity, each with a batch norm.
branches = st.fixed_dictionaries(
    {
        'split': st.sampled_from(ALL),
        'channels': st.sampled_from([(4, 6), (6, 4), (4, 4)]),
        'groups': st.sampled_from([1, 2]),
        'kernel': st.sampled_from([(3, 3), (5, 5), (3, 1)]),
        'dilation': st.sampled_from([1, 2]),
        'stride': st.sampled_from([1, 2]),
        'identity': st.booleans(),
        'deltas': st.sampled_from([(), (1,), (1, 2)]),
    }
)


@settings(max_examples=60, deadline=None)
@given(case=branches, seed=st.integers(0, 99))
@torch.no_grad()
def test_repconv_is_exact_at_one_rank_more(case, seed):
    torch.manual_seed(seed)
    (inputs, outputs), split = case['channels'], case['split']
    padding = tuple(case['dilation'] * (side // 2) for side in case['kernel'])
    common = {'stride': case['stride'], 'groups': case['groups']}
    dense = factorised(
        inputs, outputs, case['kernel'], padding=padding, **common, rank=1,
        dilation=case['dilation'], split=split, deltas=case['deltas'],
        bias=bool(seed % 2),
    ).eval()  # fmt: skip
    if case['deltas'] == (1, 2):
        dense.enable_delta('d0', False)
    pointwise = nn.Conv2d(inputs, outputs, 1, **common, bias=False).double()
    norms = [lively(nn.BatchNorm2d(outputs).double()) for _ in range(3)]
    same = inputs == outputs and case['stride'] == 1 and case['identity']
    x = torch.randn(2, inputs, 8, 7).double()
    expected = norms[0](dense(x)) + norms[1](pointwise(x))
    expected += norms[2](x) if same else 0
    identity = norms[2] if same else None
    before = copy.deepcopy(dense.state_dict())
    folded = fold_repconv_factors(dense, norms[0], pointwise, norms[1], identity)
    for folded.mode in ('reconstruct', 'two_conv'):
        assert relative(folded(x), expected) < 1e-13
    folded.mode = 'reconstruct'
    assert torch.equal(folded.merge()(x), folded(x))
    rank = sum(b.shape[0] for _, b in dense.factors())
    rank += 1 if split == 'ts_dd' else min(outputs, inputs // case['groups'])
    rows, cols = SPLITS[split].matrix_shape(dense.kernel_shape)
    assert folded.rank == min(rank, rows, cols)
    assert len(folded.deltas) == 0
    assert not dense.training
    torch.testing.assert_close(dense.state_dict(), before, rtol=0, atol=0)


@torch.no_grad()
def test_the_centre_atom_is_the_one_pixel():
    dense, pointwise = factorised(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1).double()
    folded = fold_repconv_factors(dense, None, pointwise, nn.Identity(), nn.Identity())
    atom = torch.zeros(3, 3).double()
    atom[1, 1] = 1
    assert torch.equal(folded.B[-1], atom)
    eye = torch.eye(4).double()
    assert torch.equal(folded.A[..., -1], pointwise.weight[..., 0, 0] + eye)
    assert torch.equal(folded.A[..., :2], dense.A)
    assert torch.equal(folded.A[..., 2:3], dense.deltas['d0'].A)
    assert torch.equal(folded.bias, dense.bias + pointwise.bias)
    assert folded.training


@torch.no_grad()
def test_full_rank_is_no_obstacle():
    torch.manual_seed(0)
    dense = factorised(4, 6, 3, padding='same', rank=9, deltas=(2,), bias=False)
    pointwise = factorised(4, 6, 1, rank=1, deltas=())
    x = torch.randn(2, 4, 6, 5).double()
    folded = fold_repconv_factors(dense, None, pointwise, None)
    assert folded.rank == 9
    assert relative(folded(x), dense(x) + pointwise(x)) < 1e-13
    reloaded = TensorFactConv(4, 6, 3, padding='same', rank=9).double()
    reloaded.load_state_dict(folded.state_dict())
    assert relative(reloaded(x), folded(x)) < 1e-14 * 10


def pair(dense=None, one=None):
    options = {'padding': 1, 'deltas': (), **(dense or {})}
    return (
        factorised(4, 4, **{'kernel_size': 3, **options}),
        nn.BatchNorm2d(4).double(),
        nn.Conv2d(4, 4, **{'kernel_size': 1, **(one or {})}).double(),
        nn.BatchNorm2d(4).double(),
    )


@pytest.mark.parametrize(
    ('dense', 'one', 'message'),
    [
        ({'padding': 0}, {}, r'not centred, padding \(1, 1\) is needed'),
        ({'kernel_size': 2}, {}, 'the window is not centred'),
        ({'stride': 2}, {}, r'stride \(2, 2\), but \(1, 1\) in the 1x1 branch'),
        ({}, {'groups': 2}, 'groups 1, but 2'),
        ({}, {'kernel_size': 3}, 'no unpadded 1x1'),
        ({}, {'padding': 1}, 'no unpadded 1x1'),
    ],
)
def test_branches_that_see_other_positions(dense, one, message):
    with pytest.raises(ValueError, match=rf'RepConv of 4x4x.*{message}'):
        fold_repconv_factors(*pair(dense, one))


def test_branches_of_other_kinds():
    dense, norm, one, other = pair()
    with pytest.raises(TypeError, match=r'only a TensorFactConv.*Conv2d'):
        fold_repconv_factors(dense.merge(), norm, one, other)
    with pytest.raises(TypeError, match='GroupNorm is no batch norm'):
        fold_repconv_factors(dense, nn.GroupNorm(2, 4), one, other)
    dense, norm, one, other = pair({'stride': 2}, {'stride': 2})
    with pytest.raises(ValueError, match='no identity where'):
        fold_repconv_factors(dense, norm, one, other, nn.BatchNorm2d(4))
