"""Blocks of YOLOv7 against functional references."""

import pytest
import torch
import yolov7_reference as ref
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmir.det.yolo.layers import ChainedPools, ConvFactory, Implicit, RepConv
from mmir.det.yolov7.arch import get_arch
from mmir.det.yolov7.layers import ELAN, SPPCSPC, MaxPoolDownsample, SPPTiny


def factory(arch: str) -> ConvFactory:
    return ConvFactory(get_arch(arch).act_cfg)


def image(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(
    ('arch', 'depth', 'tap', 'width', 'picks'),
    [
        ('l', 4, 2, 8, (4, 2)),  # backbone
        ('l', 4, 1, 4, (4, 3, 2, 1)),  # neck
        ('x', 6, 2, 8, (6, 4, 2)),  # backbone and neck
        ('tiny', 2, 1, 8, (2, 1)),
    ],
)
def test_elan_concatenates_last_first_then_main_then_short(
    arch, depth, tap, width, picks
):
    m = ELAN(factory(arch), 6, 8, 10, width=width, depth=depth, tap=tap)
    ref.randomize(m).double()
    x = image(2, 6, 7, 9)
    torch.testing.assert_close(m(x), ref.elan(m, x, arch, picks))


def test_max_pool_downsample_puts_the_strided_branch_first():
    m = ref.randomize(MaxPoolDownsample(factory('l'), 6, 5)).double()
    x = image(2, 6, 8, 12)
    out = m(x)
    assert out.shape == (2, 10, 4, 6)
    torch.testing.assert_close(out, ref.downsample(m, x, 'l'))


@given(height=st.integers(1, 24), width=st.integers(1, 24), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_chained_pools_equal_pools_of_5_9_13(height, width, seed):
    x = torch.randn(1, 2, height, width, generator=torch.Generator().manual_seed(seed))
    outs = ChainedPools()(x)
    assert len(outs) == 4
    assert outs[0] is x
    for out, size in zip(outs[1:], (5, 9, 13), strict=True):
        assert torch.equal(out, nn.MaxPool2d(size, 1, size // 2)(x))


@pytest.mark.parametrize(('arch', 'block'), [('l', SPPCSPC), ('tiny', SPPTiny)])
def test_spp_equals_its_reference(arch, block):
    m = ref.randomize(block(factory(arch), 6, 8)).double()
    x = image(2, 6, 15, 9)
    torch.testing.assert_close(m(x), ref.spp(m, x, arch))


@pytest.mark.parametrize('channels', [(6, 8), (8, 8)])
def test_rep_conv_sums_its_branches_before_the_activation(channels):
    m = ref.randomize(RepConv(*channels, act_cfg=dict(type='SiLU'))).double()
    assert (m.rbr_identity is not None) == (channels[0] == channels[1])
    x = image(2, channels[0], 5, 7)
    torch.testing.assert_close(m(x), ref.rep(m, x))


def test_rep_conv_takes_the_convolution_of_the_dense_branch_only():
    m = RepConv(4, 6, dict(type='SiLU'), conv_cfg=dict(type='Conv2dAdaptivePadding'))
    assert type(m.rbr_dense.conv) is not nn.Conv2d
    assert type(m.rbr_1x1.conv) is nn.Conv2d


def test_unit_has_the_published_normalization_and_slope():
    unit = factory('tiny')(3, 4, 3, 2)
    assert (unit.bn.eps, unit.bn.momentum) == (1e-3, 0.03)
    assert unit.conv.padding == (1, 1)
    assert unit.activate.negative_slope == 0.1
    assert type(factory('l')(3, 4).activate) is nn.SiLU


def test_factory_keeps_the_configs_it_was_given():
    norm, act = dict(type='GN', num_groups=2), dict(type='ReLU')
    unit = ConvFactory(act, norm)(3, 4, 5)
    assert isinstance(unit.gn, nn.GroupNorm)
    assert type(unit.activate) is nn.ReLU
    assert unit.conv.padding == (2, 2)
    assert (norm, act) == (dict(type='GN', num_groups=2), dict(type='ReLU'))


def test_implicit_adds_or_multiplies_a_vector():
    torch.manual_seed(0)
    x = image(2, 500, 2, 3)
    add, multiply = Implicit(500, 0.0), Implicit(500, 1.0)
    assert torch.equal(add(x), x + add.implicit)
    assert torch.equal(multiply(x), x * multiply.implicit)
    for layer, mean in ((add, 0.0), (multiply, 1.0)):
        assert layer.implicit.mean().item() == pytest.approx(mean, abs=0.004)
        assert layer.implicit.std().item() == pytest.approx(0.02, rel=0.15)
