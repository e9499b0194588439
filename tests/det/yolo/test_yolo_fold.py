"""Models with folded batch norms compute the same outputs."""

import copy

import pytest
import torch
from mmcv.cnn import ConvModule
from torch import nn
from torch.nn.utils import parametrizations, prune

from mmir.adapters import FrozenBatchNorm
from mmir.det.yolo.fold import fold_bn_, fold_bn_pair_


def relative(value, reference):
    return ((value - reference).abs().max() / reference.abs().max()).item()


def lively(norm):
    """A batch norm in evaluation mode with random statistics and weights."""
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.2, 3)
    if norm.weight is not None:
        nn.init.uniform_(norm.weight, -2, 2)
        nn.init.normal_(norm.bias)
    return norm.eval()


@pytest.mark.parametrize(('groups', 'bias'), [(1, True), (2, False)])
@pytest.mark.parametrize('frozen', [False, True])
@torch.no_grad()
def test_one_pair(groups, bias, frozen):
    torch.manual_seed(0)
    conv = nn.Conv2d(4, 6, 3, padding=1, groups=groups, bias=bias).double()
    norm, x = lively(nn.BatchNorm2d(6).double()), torch.randn(2, 4, 7, 6).double()
    expected = norm(conv(x))
    fold_bn_pair_(conv, FrozenBatchNorm(norm) if frozen else norm)
    assert relative(conv(x), expected) < 1e-13


def test_parameters_are_new_and_flags_stay():
    conv = nn.Conv2d(3, 4, 3, bias=False).requires_grad_(False)
    old, before = conv.weight, conv.weight.clone()
    fold_bn_pair_(conv, lively(nn.BatchNorm2d(4)))
    assert torch.equal(old, before)
    flags = {n: p.requires_grad for n, p in conv.named_parameters()}
    assert flags == {'weight': False, 'bias': True}


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
    """ConvModules in every order and configuration of convolution and norm."""

    def __init__(self):
        super().__init__()
        bn, factors = {'type': 'BN'}, {'type': 'TensorFactConv', 'rank': 3}
        self.usual = ConvModule(3, 8, 3, padding=1, norm_cfg=bn)
        self.plain = ConvModule(8, 8, 3, padding=1, norm_cfg=bn, padding_mode='reflect')
        self.late = ConvModule(8, 8, 3, norm_cfg=bn, order=('act', 'conv', 'norm'))
        self.early = ConvModule(8, 8, 3, norm_cfg=bn, order=('norm', 'conv', 'act'))
        self.group = ConvModule(8, 8, 1, norm_cfg={'type': 'GN', 'num_groups': 2})
        self.factors = ConvModule(8, 8, 3, norm_cfg=bn, conv_cfg=factors)
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
    expected = model(x)
    model.plain.turn_on_efficient_conv_bn_eval(efficient)
    kept = fold_bn_(model)
    for name in ('usual', 'plain', 'late'):
        assert type(model.get_submodule(f'{name}.bn')) is nn.Identity
    assert set(kept) == {'early.bn', 'group.gn', 'factors.bn'}
    assert "('norm', 'conv', 'act')" in kept['early.bn']
    assert kept['group.gn'] == 'GroupNorm is not a batch norm'
    assert kept['factors.bn'] == 'TensorFactConv is not a plain nn.Conv2d'
    assert relative(model(x), expected) < 1e-13
    assert relative(model.train(False)(x), expected) < 1e-13
    assert fold_bn_(model) == kept


@torch.no_grad()
def test_a_convolution_that_several_norms_share_is_left():
    cfg = {'norm_cfg': {'type': 'BN'}}
    model = nn.ModuleList(ConvModule(4, 4, 3, **cfg) for _ in range(3)).double()
    model[1].conv = model[0].conv
    for block in model:
        lively(block.bn)
    x = torch.randn(1, 4, 6, 6).double()
    expected = [block.eval()(x) for block in model]
    kept = fold_bn_(model)
    assert type(model[2].bn) is nn.Identity
    assert set(kept) == {'0.bn', '1.bn'}
    assert all('shared' in reason for reason in kept.values())
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
    assert fold_bn_(model) == {}
    assert type(other.bn) is type(block.bn) is nn.Identity
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


class NormAndAct(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).relu()


def norm_with_activation(block):
    block.bn = NormAndAct(4)


def hooked_norm(block):
    block.bn.register_forward_hook(lambda module, args, output: 2 * output)


def own_forward_of_this_block(block):
    block.forward = lambda x: block.bn(2 * block.conv(x))


def pruned_bias(block):
    block.conv.bias = nn.Parameter(torch.randn(4))
    prune.random_unstructured(block.conv, 'bias', 0.5)


def weight_norm_of_the_norm(block):
    parametrizations.weight_norm(block.bn, 'weight', dim=None)


OBSTACLES = [
    (norm_with_activation, 'NormAndAct has a forward of its own'),
    (hooked_norm, 'has a forward hook'),
    (own_forward_of_this_block, 'ConvModule overrides forward'),
    (pruned_bias, 'its bias is computed by RandomUnstructured'),
    (weight_norm_of_the_norm, 'the batch norm: its weight is computed'),
    (
        lambda b: parametrizations.weight_norm(b.conv),
        'its weight is computed by _WeightNorm',
    ),
    (lambda b: setattr(b, '__class__', OwnForward), 'OwnForward overrides forward'),
    (hooked, 'a forward hook reads'),
    (no_statistics, 'keeps no running statistics'),
    (shared_norm, 'the batch norm is shared'),
    (lambda b: nn.utils.spectral_norm(b.conv), 'computed by SpectralNorm'),
    (lambda b: nn.utils.weight_norm(b.conv), 'computed by WeightNorm'),
    (lambda b: prune.l1_unstructured(b.conv, 'weight', 0.5), 'by L1Unstructured'),
    (lambda b: setattr(b, 'conv', nn.ConvTranspose2d(4, 4, 3)), 'ConvTranspose2d is'),
    (lambda b: setattr(b, 'bn', nn.BatchNorm2d(5)), '5 features'),
]


@pytest.mark.parametrize(('change', 'message'), OBSTACLES)
def test_what_cannot_be_folded(change, message):
    model = nn.Sequential(ConvModule(4, 4, 3, norm_cfg={'type': 'BN'}))
    lively(model[0].bn)
    change(model[0])
    model.eval()
    before, x = copy.deepcopy(model.state_dict()), torch.randn(2, 4, 6, 6)
    expected = None if message == '5 features' else model(x)
    assert message in fold_bn_(model)['0.bn']
    torch.testing.assert_close(model.state_dict(), before)
    if expected is not None:
        assert torch.equal(model(x), expected)


def test_damaged_statistics_are_named_and_change_nothing():
    model = Blocks().eval()
    model.late.bn.running_var[3] = float('nan')
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ValueError, match=r'late\.bn holds NaN'):
        fold_bn_(model)
    torch.testing.assert_close(model.state_dict(), before, equal_nan=True)
