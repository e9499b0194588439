"""Modules of IV-tuning: closed forms, independent references, parameter counts."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from mmir.adapters.projection import Projection
from mmir.ivtuning import (
    HybridAdapter,
    InternalPromptAdapter,
    PromptGenerator,
    PromptMixer,
    SimAM,
    SplitFuseEnhancer,
)
from mmir.ivtuning.modules import ScaleShift


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ('module', 'expected'),
    [
        (SplitFuseEnhancer(64), 8_608),
        (SplitFuseEnhancer(8), 180),
        (HybridAdapter(1024), 144_864),
        (HybridAdapter(768), 110_816),
        (InternalPromptAdapter(1024), 23_560),
        (InternalPromptAdapter(768), 17_672),
        (PromptGenerator(1024), 25_796 + 2 * 1024),  # and the layer norm
        (PromptGenerator(768), 19_396 + 2 * 768),
        (PromptGenerator(192), 4_996 + 2 * 192),
        (PromptMixer(1024), (5_866_436 - 787_456 - 27_844) // 24),
    ],
)
def test_counts(module, expected):
    assert count(module) == expected


def test_enhancer_without_convolution_doubles_the_rest():
    sfe = SplitFuseEnhancer(64).eval()
    for conv in (sfe.depthwise, sfe.fuse):
        nn.init.zeros_(conv.weight)
        nn.init.zeros_(conv.bias)
    x = torch.randn(2, 64, 5, 7)
    y = sfe(x)
    assert torch.equal(y[:, :16], x[:, :16])
    assert torch.equal(y[:, 16:], 2 * x[:, 16:])


@given(
    channels=st.sampled_from([4, 8, 13]),
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    training=st.booleans(),
)
@settings(max_examples=25, deadline=None)
def test_enhancer_against_its_formula(channels, height, width, training):
    torch.manual_seed(0)
    sfe = SplitFuseEnhancer(channels).double().train(training)
    nn.init.uniform_(sfe.norm.running_mean)
    nn.init.uniform_(sfe.norm.running_var, 0.5, 2)
    x = torch.randn(3, channels, height, width, dtype=torch.double)
    mean, var = sfe.norm.running_mean.clone(), sfe.norm.running_var.clone()
    c = channels // 4
    kernel = sfe.depthwise.weight
    padded = F.pad(x[:, :c], (1, 1, 1, 1))
    first = sfe.depthwise.bias.view(1, c, 1, 1) + sum(
        padded[:, :, i : i + height, j : j + width]
        * kernel[:, 0, i, j].view(1, c, 1, 1)
        for i in range(3)
        for j in range(3)
    )
    u = torch.cat([first, x[:, c:]], 1) + x

    def pointwise(conv: nn.Conv2d, z: torch.Tensor) -> torch.Tensor:
        mixed = torch.einsum('oc,nchw->nohw', conv.weight[:, :, 0, 0], z)
        return mixed + conv.bias.view(1, -1, 1, 1)

    z = pointwise(sfe.expand, u)
    if training:
        mean, var = z.mean((0, 2, 3)), z.var((0, 2, 3), unbiased=False)
    z = (z - mean.view(1, -1, 1, 1)) / (var.view(1, -1, 1, 1) + 1e-5).sqrt()
    expected = pointwise(sfe.fuse, z.clamp(min=0)) + u
    torch.testing.assert_close(sfe(x), expected, rtol=1e-9, atol=1e-12)


def test_enhancer_refuses_too_few_channels():
    with pytest.raises(ValueError, match='3 channels cannot be split by 4'):
        SplitFuseEnhancer(3)


def test_enhancer_with_group_norm_treats_images_alone():
    torch.manual_seed(0)
    sfe = SplitFuseEnhancer(8, norm_cfg=dict(type='GN', num_groups=2)).double()
    x = torch.randn(2, 8, 4, 4, dtype=torch.double)
    torch.testing.assert_close(sfe(x)[:1], sfe(x[:1]), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('constant', [-2.0, 0.5, 3.0])
def test_simam_of_a_constant(constant):
    x = torch.full((1, 12, 3), constant, dtype=torch.double)
    expected = constant / (1 + math.exp(-0.5))
    assert SimAM()(x).unique().item() == pytest.approx(expected, rel=1e-12)


def test_simam_against_its_formula():
    torch.manual_seed(0)
    x = torch.randn(2, 12, 3, dtype=torch.double)
    y = SimAM()(x)
    for n in range(2):
        for c in range(3):
            values = x[n, :, c].tolist()
            mean = sum(values) / 12
            d = [(v - mean) ** 2 for v in values]
            for k in (0, 5):
                e = d[k] / (4 * (sum(d) / 11 + 1e-4)) + 0.5
                expected = values[k] / (1 + math.exp(-e))
                assert y[n, k, c].item() == pytest.approx(expected, rel=1e-12)


def test_simam_of_one_position_is_finite():
    x = torch.full((1, 1, 2), 3.0, dtype=torch.double)
    expected = 3 / (1 + math.exp(-0.5))
    assert SimAM()(x).unique().item() == pytest.approx(expected, rel=1e-12)


def test_the_adapter_of_prompts_knows_no_positions():
    torch.manual_seed(0)
    ipa = InternalPromptAdapter(16).double().eval()
    x = torch.randn(1, 12, 16, dtype=torch.double)
    order = torch.randperm(12)
    torch.testing.assert_close(
        ipa(x[:, order]), ipa(x)[:, order], rtol=1e-9, atol=1e-12
    )
    assert ipa(100 * x).min() >= -0.17  # it ends with a GELU


def test_the_adapter_of_tokens_knows_the_grid():
    torch.manual_seed(0)
    ha = HybridAdapter(16, rank=8).double().eval()
    nn.init.normal_(ha.down.weight)
    nn.init.normal_(ha.up.weight)
    x = torch.randn(1, 12, 16, dtype=torch.double)
    wide, tall = ha(x, (3, 4)), ha(x, (4, 3))
    assert (wide - tall).norm() > 1e-3 * wide.norm()


@pytest.mark.parametrize('shape', [(2, 12, 16), (5, 16)])
def test_scale_and_shift_are_folded_into_what_comes_before(shape):
    torch.manual_seed(0)
    sft, linear = ScaleShift(16, norm=True), Projection(16, 8)
    rescale, up = ScaleShift(16, norm=False), Projection(8, 16)
    parameters = [p for m in (sft, linear, rescale, up) for p in m.parameters()]
    for parameter in parameters:
        nn.init.normal_(parameter.data)
    for module in (sft, linear, rescale, up):
        module.double()
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    found = []
    plain = linear(sft.norm(x) * sft.gamma + sft.beta)
    plain = up(plain) * rescale.gamma + rescale.beta
    for out in (rescale.after(up, linear(sft(x))), rescale(up(linear(sft(x)))), plain):
        gradients = torch.autograd.grad(out.square().sum(), [x, *parameters])
        found.append([out, *gradients])
    torch.testing.assert_close(found[0], found[2])
    torch.testing.assert_close(found[1], found[2])


@pytest.mark.parametrize('kind', [HybridAdapter, PromptMixer])
def test_a_shifted_image_gives_a_shifted_update(kind):
    """Inside of the border, the updates are convolutions."""
    torch.manual_seed(0)
    adapter = kind(8, rank=4).double().eval()
    nn.init.normal_(adapter.up.weight)
    x = torch.randn(1, 6, 6, 8, dtype=torch.double)
    moved = x.roll(1, 2)
    more = [torch.zeros(1, 36, 8, dtype=torch.double)] * (kind is PromptMixer)
    first = adapter(x.flatten(1, 2), *more, (6, 6)).view(1, 6, 6, 8)
    second = adapter(moved.flatten(1, 2), *more, (6, 6)).view(1, 6, 6, 8)
    torch.testing.assert_close(
        second[:, 1:-1, 2:-1], first[:, 1:-1, 1:-2], rtol=1e-9, atol=1e-12
    )


def test_prompts_depend_on_both_images():
    torch.manual_seed(0)
    for attention in (True, False):
        mp = PromptGenerator(16, attention=attention).double().eval()
        rgb, ir = torch.randn(2, 1, 12, 16, dtype=torch.double)
        base = mp(rgb, ir, (3, 4))
        assert (mp(rgb, 1 - ir.square(), (3, 4)) - base).norm() > 1e-3 * base.norm()
        assert (mp(1 - rgb.square(), ir, (3, 4)) - base).norm() > 1e-3 * base.norm()


def test_prompts_against_their_formula():
    torch.manual_seed(0)
    mp = PromptGenerator(16).double().eval()
    rgb, ir = torch.randn(2, 2, 12, 16, dtype=torch.double)

    def norm(x: torch.Tensor) -> torch.Tensor:
        centered = x - x.mean(-1, keepdim=True)
        scaled = centered / (centered.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * mp.norm.weight + mp.norm.bias

    visible = norm(rgb) @ mp.down_rgb.weight.T + mp.down_rgb.bias
    infrared = norm(ir) @ mp.down_ir.weight.T + mp.down_ir.bias
    grid = visible.view(2, 3, 4, 8).permute(0, 3, 1, 2)
    enhanced = mp.enhance(grid).permute(0, 2, 3, 1).reshape(2, 12, 8)
    expected = (enhanced + SimAM()(infrared)) @ mp.up.weight.T + mp.up.bias
    torch.testing.assert_close(mp(rgb, ir, (3, 4)), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize('training', [True, False])
def test_zero_initialization_is_without_effect(training):
    torch.manual_seed(0)
    x, p = torch.randn(2, 2, 12, 16)
    modules = [
        (PromptGenerator(16, zero_init=True), (x, p, (3, 4))),
        (HybridAdapter(16, rank=8, zero_init=True), (x, (3, 4))),
        (InternalPromptAdapter(16, zero_init=True), (p,)),
        (PromptMixer(16, rank=8, zero_init=True), (x, p, (3, 4))),
    ]
    for module, inputs in modules:
        assert not module.train(training)(*inputs).any()
        module.up.weight.grad = None
        module(*inputs).sum().backward()
        assert module.up.weight.grad.any()


def test_the_published_initialization():
    torch.manual_seed(0)
    ha, mp = HybridAdapter(1024), PromptGenerator(1024)
    for layer in (ha.down, ha.up):
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert not layer.bias.any()
    bound = math.sqrt(6 / (1024 + 8))
    assert 0.98 * bound < mp.up.weight.abs().max() <= bound
    fan = 9  # depthwise: one channel in and out, 3x3
    assert mp.enhance.depthwise.weight.abs().max() <= math.sqrt(6 / (2 * fan))
