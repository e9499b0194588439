"""TensorFactConv as a convolution: exactness, modes, dtypes, layouts, errors."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmir.tensorfact import SPLITS, TensorFactConv

MODES = ('reconstruct', 'two_conv', 'branch')
# dtype, error against the dense convolution, error between the modes
LIMITS = ((torch.float32, 2e-6, 5e-6), (torch.float64, 1e-13, 1e-12))


def relative(value, reference):
    return ((value - reference).abs().max() / reference.abs().max()).item()


def widened(conv, rank='full', delta=2, **options):
    """A layer with a delta that acts."""
    layer = TensorFactConv.from_conv(conv, rank, **options).augment('ir', delta)
    nn.init.normal_(layer.deltas['ir'].A, std=0.1)
    return layer


geometries = st.fixed_dictionaries(
    {
        'kernel_size': st.sampled_from([1, 3, (3, 5), 7, (1, 3), 2]),
        'stride': st.sampled_from([1, 2, (2, 1)]),
        'padding': st.sampled_from([0, 1, (2, 1), 'valid', 'same']),
        'dilation': st.sampled_from([1, 2, (1, 2)]),
        'groups': st.sampled_from([1, 4, 8]),
        'bias': st.booleans(),
        'padding_mode': st.sampled_from(['zeros', 'reflect', 'circular', 'replicate']),
    }
).filter(lambda g: g['padding'] != 'same' or g['stride'] == 1)


@settings(max_examples=120, deadline=None)
@given(
    geometry=geometries, split=st.sampled_from(list(SPLITS)), seed=st.integers(0, 99)
)
def test_full_rank_equals_dense_and_modes_agree(geometry, split, seed):
    torch.manual_seed(seed)
    for dtype, exact, close in LIMITS:
        conv = nn.Conv2d(8, 16, **geometry, dtype=dtype)
        x = torch.randn(2, 8, 15, 17, dtype=dtype)
        layer = TensorFactConv.from_conv(conv, 'full', split=split)
        for layer.mode in MODES:
            limit = exact if layer.mode == 'reconstruct' else close
            assert relative(layer(x), conv(x)) <= limit
        layer, outputs = widened(conv, 1, delta=1, split=split), []
        for layer.mode in MODES:
            outputs.append(layer(x))
            assert relative(outputs[-1], outputs[0]) <= close
        assert torch.equal(layer.merge()(x), outputs[0])


@pytest.mark.parametrize('groups', [1, 2, 4])
@pytest.mark.parametrize('split', SPLITS)
def test_gradients_agree_between_modes(split, groups):
    conv = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=groups).double()
    rank = 3 if groups == 1 or split == 'ts_dd' else 1
    layer, grads = widened(conv, rank, split=split, delta=1), []
    x = torch.randn(2, 4, 9, 8, dtype=torch.float64, requires_grad=True)
    for layer.mode in MODES:
        loss = layer(x).square().sum()
        grads.append(torch.autograd.grad(loss, [x, *layer.parameters()]))
        for first, second in zip(grads[0], grads[-1], strict=True):
            assert relative(first, second) < 1e-12


def test_gradient_is_that_of_the_dense_kernel():
    conv = nn.Conv2d(4, 6, 3).double()
    layer = TensorFactConv.from_conv(conv, 'full', mode='reconstruct')
    x = torch.randn(2, 4, 8, 8, dtype=torch.float64)
    conv(x).square().sum().backward()
    layer(x).square().sum().backward()
    a, b = layer.A.detach().flatten(0, 1), layer.B.detach().flatten(1)
    dense = conv.weight.grad.reshape(-1, 9)
    torch.testing.assert_close(layer.A.grad.flatten(0, 1), dense @ b.T)
    torch.testing.assert_close(layer.B.grad.flatten(1), a.T @ dense)


@pytest.mark.parametrize(('groups', 'bias'), [(1, True), (4, False), (8, True)])
def test_parameter_count(groups, bias):
    layer = TensorFactConv(8, 16, (3, 5), groups=groups, bias=bias, rank=3)
    rows, cols = 16 * 8 // groups, 15
    expected = 3 * (rows + cols) + 16 * bias
    assert sum(p.numel() for p in layer.parameters()) == expected
    layer.requires_grad_(False).augment('ir', 2)
    trainable = sum(p.numel() for p in layer.parameters() if p.requires_grad)
    assert trainable == 2 * (rows + cols)


@pytest.mark.parametrize('rank', range(1, 9))
def test_truncation_error_is_the_tail(rank):
    conv = nn.Conv2d(6, 10, 3, bias=False).double()
    tail = torch.linalg.svdvals(conv.weight.reshape(60, 9))[rank:].square().sum()
    layer = TensorFactConv.from_conv(conv, rank)
    error = (conv.weight - layer.kernel()).norm()
    assert abs(error - tail.sqrt()) < 1e-12
    again = TensorFactConv.from_conv(layer.merge(), rank)
    torch.testing.assert_close(again.kernel(), layer.kernel())


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize('split', SPLITS)
def test_dtypes_and_merge(split, dtype):
    conv = nn.Conv2d(8, 8, 3, padding=1).to(dtype)
    layer = widened(conv, 4, split=split).eval()
    layer.mode = 'reconstruct'
    x = torch.randn(1, 8, 6, 6).to(dtype)
    merged = layer.merge()
    assert type(merged) is nn.Conv2d
    assert merged.weight.dtype == layer(x).dtype == dtype
    assert torch.equal(merged(x), layer(x))
    half = copy.deepcopy(widened(nn.Conv2d(8, 8, 3), 4, split=split)).to(dtype)
    assert torch.equal(half.merge().weight, half.weight)


@pytest.mark.parametrize('split', SPLITS)
@pytest.mark.parametrize('mode', MODES)
def test_autocast_builds_the_kernel_in_full_precision(mode, split):
    torch.manual_seed(0)
    layer = widened(nn.Conv2d(64, 64, 3, padding=1), 8, split=split)
    layer.mode = mode
    dense = layer.merge()
    x = torch.randn(2, 64, 20, 20)
    exact = dense(x)
    with torch.autocast('cpu', torch.bfloat16):
        y, reference = layer(x), dense(x)
        assert layer.kernel().dtype == torch.float32
        assert torch.equal(layer.kernel(), dense.weight)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in layer.parameters())
    if mode == 'reconstruct':
        rms, dense_rms = ((t - exact).square().mean().sqrt() for t in (y, reference))
        assert rms <= 1.2 * dense_rms


def test_reconstruct_fp32_off_leaves_autocast_on():
    layer = TensorFactConv(8, 8, 3, rank=2, reconstruct_fp32=False)
    with torch.autocast('cpu', torch.bfloat16):
        assert layer.kernel().dtype == torch.bfloat16
    assert layer.merge().weight.dtype == torch.float32


@pytest.mark.parametrize('split', SPLITS)
@pytest.mark.parametrize('mode', MODES)
def test_channels_last_and_odd_batches(mode, split):
    layer = widened(nn.Conv2d(8, 12, 3, padding=1, stride=2), 4, split=split)
    layer.mode = mode
    x = torch.randn(2, 8, 10, 14)
    y = layer(x.to(memory_format=torch.channels_last))
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert relative(y, layer(x)) < 2e-6
    moved = copy.deepcopy(layer).to(memory_format=torch.channels_last)
    assert relative(moved(x), layer(x)) < 2e-6
    strided = torch.randn(2, 8, 14, 10).transpose(2, 3)
    assert relative(layer(strided), layer(strided.contiguous())) < 2e-6
    assert layer(x[:0]).shape == (0, 12, 5, 7)
    assert relative(layer(x[0]), layer(x)[0]) < 2e-6


@pytest.mark.parametrize('mode', MODES)
def test_input_smaller_than_the_kernel(mode):
    layer = TensorFactConv(4, 4, 5, rank=2, mode=mode)
    with pytest.raises(RuntimeError, match="can't be greater than actual input"):
        layer(torch.randn(1, 4, 3, 3))


def test_zero_delta_changes_nothing_and_switches_off():
    layer = TensorFactConv.from_conv(nn.Conv2d(8, 8, 3), 4, mode='reconstruct')
    x = torch.randn(2, 8, 9, 9)
    before = layer(x)
    layer.augment('ir', 2).augment('nir', {'ratio': 0.25})
    assert torch.equal(layer(x), before)
    nn.init.normal_(layer.deltas['ir'].A)
    assert not torch.allclose(layer(x), before)
    layer.enable_adapter('ir', False)
    assert torch.equal(layer(x), before)
    with pytest.raises(KeyError, match=r"no adapter 'uv', there are \['ir', 'nir'\]"):
        layer.enable_adapter('uv')


def test_delta_equals_a_layer_of_concatenated_factors():
    layer = widened(nn.Conv2d(8, 8, 3).double(), 4)
    wide = TensorFactConv(8, 8, 3, rank=6, dtype=torch.float64)
    wide.load_state_dict(
        {
            'A': torch.cat([layer.A, layer.deltas['ir'].A], 2),
            'B': torch.cat([layer.B, layer.deltas['ir'].B]),
            'bias': layer.bias,
        }
    )
    x = torch.randn(1, 8, 7, 7, dtype=torch.float64)
    assert relative(layer(x), wide(x)) < 1e-13


def test_only_the_delta_learns():
    torch.manual_seed(0)
    layer = TensorFactConv.from_conv(nn.Conv2d(4, 4, 3), 2).requires_grad_(False)
    layer.augment('ir', 1)
    delta, frozen = (
        layer.deltas['ir'],
        {k: v.clone() for k, v in layer.named_parameters()},
    )
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.01, weight_decay=0.1)
    for step in range(3):
        optimizer.zero_grad()
        layer(torch.randn(2, 4, 6, 6)).square().mean().backward()
        assert delta.A.grad.abs().max() > 0
        assert (delta.B.grad.abs().max() == 0) == (step == 0)
        optimizer.step()
    for key, value in layer.named_parameters():
        assert torch.equal(value, frozen[key]) != key.startswith('deltas.'), key
    assert layer.A.grad is layer.B.grad is layer.bias.grad is None


def test_frozen_layer_builds_no_graph():
    layer = widened(nn.Conv2d(4, 4, 3), 2).requires_grad_(False).train()
    assert not layer.kernel().requires_grad
    assert not layer(torch.randn(1, 4, 5, 5)).requires_grad


@pytest.mark.parametrize('split', SPLITS)
def test_merge_is_a_plain_convolution(split):
    layer = widened(nn.Conv2d(4, 4, 3, padding='same'), 2, split=split).eval()
    layer.A.requires_grad_(False)
    before = copy.deepcopy(layer.state_dict())
    merged = layer.merge()
    assert not merged.training
    assert merged.weight.requires_grad
    assert merged.padding == 'same'
    assert list(merged.state_dict()) == ['weight', 'bias']
    assert torch.equal(merged.weight, layer.weight)
    assert all(torch.equal(v, before[k]) for k, v in layer.state_dict().items())
    assert not layer.requires_grad_(False).merge().weight.requires_grad
    with torch.no_grad():
        layer.A[0] = float('nan')
    with pytest.raises(ValueError, match=r'refusing to merge a kernel of 4x4x3x3'):
        layer.merge()


def test_conversion_and_merge_leave_the_random_state_alone():
    conv, state = nn.Conv2d(4, 4, 3), torch.get_rng_state()
    TensorFactConv.from_conv(conv, 2).merge()
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ('channels', 'rank', 'limit', 'two'),
    [
        *((8, 1, None, False), (16, 1, None, True), (16, 2, None, False)),
        *((128, 2, None, True), (128, 3, None, False), (256, 4, None, True)),
        *((512, 5, None, False), (128, 2, 0, False), (16, 3, 3, True)),
    ],
)
def test_auto_rule_on_cpu(channels, rank, limit, two):
    layer = TensorFactConv(channels, channels, 3, rank=rank, two_conv_max_rank=limit)
    x = torch.randn(1, channels, 6, 6)
    assert layer._prefers_two(x) is two
    with torch.autocast('cpu', torch.bfloat16):
        assert not layer._prefers_two(x)
    assert layer.eval()._prefers_two(x) is two
    other = copy.deepcopy(layer)
    other.mode = MODES[two]
    assert torch.equal(layer(x), other(x))


def test_auto_reconstructs_where_two_convolutions_cost_more():
    depthwise = TensorFactConv(16, 16, 3, groups=16, rank=1).eval()
    pointwise = TensorFactConv(16, 16, 1, rank=1).eval()
    x = torch.randn(1, 16, 6, 6)
    assert not depthwise._prefers_two(x)
    assert not pointwise._prefers_two(x)


@torch.no_grad()
def test_kernel_is_kept_in_evaluation_until_something_changes():
    layer = widened(nn.Conv2d(4, 4, 3), 3, mode='reconstruct').eval()
    kept = layer.weight
    assert layer.weight is kept
    layer.A.mul_(2)
    assert torch.equal(layer.weight, layer.kernel())
    layer.deltas['ir'].B.add_(1)
    assert torch.equal(layer.weight, layer.kernel())
    layer.enable_adapter('ir', False)
    assert torch.equal(layer.weight, layer.kernel())
    layer.load_state_dict({k: v * 3 for k, v in layer.state_dict().items()})
    assert torch.equal(layer.weight, layer.kernel())
    layer.A.data = torch.randn_like(layer.A)
    assert torch.equal(layer.weight, layer.kernel())
    layer.double()
    assert layer._cache is None
    assert layer.weight.dtype == torch.float64
    layer.train()
    assert layer._cache is None
    assert layer.weight is not layer.weight


def test_kernel_is_not_kept_where_gradients_flow():
    layer = TensorFactConv(4, 4, 3, rank=2, mode='reconstruct').eval()
    x = torch.randn(1, 4, 5, 5)
    with torch.no_grad():
        layer(x)
    layer(x).sum().backward()
    assert layer.A.grad.abs().max() > 0
    with torch.inference_mode():
        layer.requires_grad_(False)(x)
    x.requires_grad_(True)
    layer(x).sum().backward()
    assert x.grad is not None


def test_kept_kernel_is_no_state():
    layer = widened(nn.Conv2d(4, 4, 3), 3, mode='reconstruct').eval()
    with torch.no_grad():
        layer.weight  # noqa: B018
    size = len(pickle.dumps(layer))
    assert layer._cache is not None
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert copied._cache is None
        assert torch.equal(copied.kernel(), layer.kernel())
        assert copied.deltas['ir'].enabled
    assert size == len(pickle.dumps(layer.train()))
    assert list(layer.state_dict()) == ['A', 'B', 'bias', 'deltas.ir.A', 'deltas.ir.B']


def test_weight_is_read_only():
    layer = TensorFactConv(4, 4, 3, rank=2)
    with pytest.raises(KeyError, match='already exists'):
        layer.weight = nn.Parameter(torch.zeros(4, 4, 3, 3))
    assert layer.weight.shape == (4, 4, 3, 3)


def test_fresh_kernels_have_the_variance_of_kaiming():
    torch.manual_seed(0)
    layer = TensorFactConv(128, 128, 3, rank=9)
    assert layer.kernel().var().item() == pytest.approx(2 / (128 * 9), rel=0.35)
    assert torch.equal(layer.bias, torch.zeros(128))


def test_repr_tells_rank_mode_and_size():
    text = repr(widened(nn.Conv2d(64, 64, 3, padding=1), 4, delta=1))
    share = 4 * (4096 + 9) / (4096 * 9)
    for part in (
        'rank=4 of 9',
        'mode=auto',
        f'params={share:.1%}',
        '(ir): LowRank(rank=1',
    ):
        assert part in text


def test_compiles_without_graph_break():
    layer = widened(nn.Conv2d(4, 4, 3), 3).eval()
    x = torch.randn(1, 4, 6, 6)
    for layer.mode in MODES:
        compiled = torch.compile(layer, fullgraph=True, backend='eager')
        assert torch.equal(compiled(x), layer(x))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ({'rank': 16}, 'exceeds the full rank 9'),
        ({'rank': 0}, 'from 1 to 9'),
        ({'split': 'cp'}, 'available: ts_dd, td_sd, t_sdd, tdd_s'),
        ({'mode': 'fast'}, 'available: auto, reconstruct, two_conv, branch'),
        ({'rank': {'energy': 0.9}}, 'read from weights'),
        ({'sigma': 'C'}, 'unknown sigma'),
        ({'groups': 3}, 'in_channels must be divisible by groups'),
        ({'padding': 'full'}, 'Invalid padding string'),
        ({'padding': 'same', 'stride': 2}, 'not supported for strided'),
        ({'padding_mode': 'mirror'}, 'padding_mode must be one of'),
    ],
)
def test_wrong_arguments(change, message):
    with pytest.raises(ValueError, match=message):
        TensorFactConv(
            **{
                'in_channels': 4,
                'out_channels': 8,
                'kernel_size': 3,
                'rank': 2,
                **change,
            }
        )


@pytest.mark.parametrize('kind', [nn.Conv1d, nn.Conv3d, nn.ConvTranspose2d, nn.Linear])
def test_other_layers_are_refused(kind):
    module = kind(4, 4) if kind is nn.Linear else kind(4, 4, 3)
    with pytest.raises(TypeError, match=r'only nn.Conv2d .*' + kind.__name__):
        TensorFactConv.from_conv(module, 2)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('ir', 1), "an adapter 'ir' already"),
        (('a.b', 1), "'a.b' cannot name an adapter"),
        (('keys', 1), "'keys' cannot name an adapter"),
        (('nir', 99), 'delta rank 99'),
    ],
)
def test_wrong_deltas(arguments, message):
    layer = TensorFactConv(4, 4, 3, rank=2).augment('ir', 1)
    with pytest.raises(ValueError, match=message):
        layer.augment(*arguments)
    assert list(layer.deltas) == ['ir']
    assert list(layer.augment('none', 0).deltas) == ['ir']
