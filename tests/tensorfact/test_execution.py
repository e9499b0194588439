"""Execution: branches, observers, the automatic choice, ablations, odd inputs."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmir.tensorfact import SPLITS, TensorFactConv
from mmir.tensorfact.split import get_split

ALL = pytest.mark.parametrize('split', SPLITS)
MODES = ('reconstruct', 'two_conv', 'branch')


def widened(split='ts_dd', deltas=('ir',), **options):
    torch.manual_seed(0)
    options = {'padding': 1, 'rank': 3, 'dtype': torch.float64, **options}
    layer = TensorFactConv(4, 8, 3, split=split, **options)
    for name in deltas:
        layer.augment(name, 1)
        nn.init.normal_(layer.deltas[name].A, std=0.1)
    if layer.bias is not None:
        nn.init.normal_(layer.bias)
    return layer


def image(*shape):
    shape = shape or (2, 4, 9, 8)
    return torch.randn(shape, dtype=torch.float64)


@ALL
@pytest.mark.parametrize('padding_mode', ['zeros', 'reflect'])
def test_branches_are_the_base_and_the_deltas(split, padding_mode):
    layer = widened(split, ('ir', 'nir', 'off'), padding_mode=padding_mode, stride=2)
    layer.enable_adapter('off', False)
    fold, x = get_split(split).fold, image()
    u, v = layer.branches(x)
    base = fold([(layer.A, layer.B)])
    deltas = fold([(layer.deltas[k].A, layer.deltas[k].B) for k in ('ir', 'nir')])
    mode = 'constant' if padding_mode == 'zeros' else padding_mode
    padded = F.pad(x, (1, 1, 1, 1), mode)
    assert torch.equal(u, layer._conv_forward(x, base, None))
    torch.testing.assert_close(u, F.conv2d(padded, base, stride=2))
    torch.testing.assert_close(v, F.conv2d(padded, deltas, stride=2))
    layer.mode = 'branch'
    assert torch.equal(layer(x), u + v + layer.bias[:, None, None])


def test_branches_without_deltas_or_bias():
    layer = widened(deltas=(), bias=False, mode='branch')
    x = image()
    u, v = layer.branches(x)
    assert torch.equal(v, torch.zeros_like(u))
    assert torch.equal(layer(x), F.conv2d(x, layer.kernel(), padding=1))
    assert torch.equal(layer(x[0]), layer(x)[0])


@pytest.mark.parametrize('mode', ['auto', *MODES])
def test_observer_sees_the_branches_in_training_only(mode):
    layer, seen = widened(mode=mode), []
    layer.observer = lambda *args: seen.append(args)
    x = image()
    y = layer(x)
    ((who, given, u, v),) = seen
    assert who is layer
    assert given is x
    assert torch.equal(y, u + v + layer.bias[:, None, None])
    y.sum().backward()
    assert layer.A.grad.abs().max() > 0
    layer.eval()(x)
    assert len(seen) == 1
    layer.observer = None
    torch.testing.assert_close(layer.train()(x), y)
    assert len(seen) == 1


def test_frozen_base_gets_no_gradient_through_the_branches():
    layer = widened()
    layer.requires_grad_(False).deltas['ir'].requires_grad_(True)
    layer.observer = lambda layer, x, u, v: seen.append((u, v))
    seen = []
    layer(image()).sum().backward()
    assert not seen[0][0].requires_grad
    assert seen[0][1].requires_grad
    assert layer.A.grad is layer.B.grad is None


def test_observer_is_in_no_copy_and_no_state():
    layer = widened()
    keys = list(layer.state_dict())
    # A function that cannot be pickled.
    layer.observer = lambda *args: None
    layer(image())
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert copied.observer is None
        assert torch.equal(copied.kernel(), layer.kernel())
    assert list(layer.state_dict()) == keys
    assert layer.observer is not None


@ALL
def test_branch_under_autocast(split):
    layer = widened(split, mode='branch').float()
    x = image().float()
    with torch.autocast('cpu', torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    assert ((y - layer(x)).abs().max() / layer(x).abs().max()) < 0.03
    y.float().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in layer.parameters())


def test_mode_is_checked_whenever_it_is_set():
    layer = widened('td_sd')
    with pytest.raises(ValueError, match="unknown mode 'fast'"):
        layer.mode = 'fast'
    assert layer.mode == 'auto'
    assert 'mode=auto' in repr(layer)


def macs_of_two_conv(split, groups, rank, stride):
    """Count the multiplications of the convolutions that really run."""
    total = 0
    layer = TensorFactConv(
        8, 16, 3, stride, 1, groups=groups, rank=rank, split=split, mode='two_conv'
    )
    original = F.conv2d

    def counting(x, weight, *args, **kwargs):
        nonlocal total
        y = original(x, weight, *args, **kwargs)
        total += y.shape[-1] * y.shape[-2] * weight.numel()
        return y

    F.conv2d = counting
    try:
        y = layer(torch.randn(1, 8, 24, 24))
    finally:
        F.conv2d = original
    return total, y.shape[-1] * y.shape[-2] * 16 * (8 // groups) * 9


@ALL
@pytest.mark.parametrize('groups', [1, 2])
@pytest.mark.parametrize('stride', [(1, 1), (2, 1), (2, 2)])
def test_rule_of_cost_counts_what_runs(split, groups, stride):
    cut, shape = get_split(split), (16, 8 // groups, 3, 3)
    for rank in range(1, min(cut.matrix_shape(shape)) + 1):
        macs, dense = macs_of_two_conv(split, groups, rank, stride)
        assert cut.two_conv_is_cheaper(shape, groups, rank, stride) == (
            macs < cut.worth * dense
        )


@pytest.mark.parametrize('split', ['td_sd', 't_sdd', 'tdd_s'])
def test_auto_takes_two_convolutions_where_they_are_few(split):
    x = torch.randn(1, 64, 6, 6)
    for rank, two in ((8, True), (60, False)):
        layer = TensorFactConv(64, 64, 3, rank=rank, split=split)
        assert not layer._prefers_two(x)
        assert layer.eval()._prefers_two(x) is two
        other = copy.deepcopy(layer)
        other.mode = MODES[two]
        assert torch.equal(layer(x), other(x))
    layer = TensorFactConv(64, 64, 3, rank=8, split=split, two_conv_max_rank=4).eval()
    assert not layer._prefers_two(x)
    assert get_split(split).two_conv_limit((64, 64, 3, 3), 'cuda') == 0


@ALL
def test_compiles_without_graph_break(split):
    x = image()
    for layer in (widened(split).eval(), widened(split)):
        for layer.mode in MODES:
            torch.compiler.reset()
            compiled = torch.compile(layer, fullgraph=True, backend='eager')
            assert torch.equal(compiled(x), layer(x))


@ALL
@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('size', [(3, 9), (9, 3), (3, 3)])
def test_input_smaller_than_the_kernel(split, mode, size):
    layer = TensorFactConv(4, 4, 5, rank=2, split=split, mode=mode)
    with pytest.raises(RuntimeError, match="can't be greater than actual input"):
        layer(torch.randn(1, 4, *size))


@ALL
@pytest.mark.parametrize('mode', MODES)
def test_odd_batches_and_strides_of_memory(split, mode):
    layer = widened(split, mode=mode, stride=2)
    x = image(2, 4, 10, 14)
    y = layer(x)
    assert layer(x[:0]).shape == (0, 8, 5, 7)
    torch.testing.assert_close(layer(x[:1]), y[:1])
    torch.testing.assert_close(layer(x[0]), y[0])
    flipped = x.transpose(2, 3).contiguous().transpose(2, 3)
    torch.testing.assert_close(layer(flipped), y)
