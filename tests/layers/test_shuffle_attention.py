"""Shuffle attention, CBAM and gradient reversal: closed forms."""

import math

import pytest
import torch
from torch import Tensor

from mmir.layers.cbam import CBAM
from mmir.layers.gradient_reversal import GradientReversal, dann_rate
from mmir.layers.shuffle_attention import ShuffleAttention, channel_shuffle
from mmir.utils.errors import UserError


def maps(channels: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, channels, 5, 3, generator=generator)


def test_shuffle_interleaves_groups() -> None:
    x = torch.arange(8.0).view(1, 8, 1, 1)
    assert channel_shuffle(x, 2).flatten().tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    torch_own = torch.nn.functional.channel_shuffle(maps(8), 2)
    assert torch.equal(channel_shuffle(maps(8), 2), torch_own)


def test_shuffle_attention_begins_as_a_scaled_shuffle() -> None:
    x, gate = maps(256), 0.7310585786  # sigmoid(1)
    module = ShuffleAttention(256, groups=8)
    assert sum(p.numel() for p in module.parameters()) == 96  # 3C / G
    torch.testing.assert_close(module(x), gate * channel_shuffle(x, 2))
    plain = ShuffleAttention(256, groups=8, shuffle=False)
    torch.testing.assert_close(plain(x), gate * x)


def test_shuffle_attention_against_loops() -> None:
    x, groups = maps(16), 2
    module = ShuffleAttention(16, groups)
    torch.manual_seed(1)
    for p in module.parameters():
        p.data.normal_()
    (w1, w2), (b1, b2) = module.scale, module.shift
    expected = torch.empty_like(x)
    for k in range(16):
        c, part = k % 4, x[:, k]
        if k % 8 < 4:  # first half of a group
            gate = w1[c] * part.mean((1, 2), keepdim=True) + b1[c]
        else:
            mean = part.mean((1, 2), keepdim=True)
            var = part.var((1, 2), keepdim=True, unbiased=False)
            norm = (part - mean) / (var + 1e-5).sqrt()
            gate = w2[c] * (module.norm.weight[c] * norm + module.norm.bias[c]) + b2[c]
        expected[:, k] = part * torch.sigmoid(gate)
    torch.testing.assert_close(module(x), channel_shuffle(expected, 2))


@pytest.mark.parametrize(('channels', 'groups'), [(64, 64), (96, 32), (8, 0)])
def test_channels_that_do_not_split_are_refused(channels: int, groups: int) -> None:
    with pytest.raises(UserError, match='groups'):
        ShuffleAttention(channels, groups)


def test_cbam_against_its_equations() -> None:
    x, module = maps(32), CBAM(32, ratio=16)
    assert sum(p.numel() for p in module.parameters()) == 2 * 32 * 2 + 98
    w0, w1 = module.mlp[0].weight[..., 0, 0], module.mlp[2].weight[..., 0, 0]
    vectors = (x.mean((2, 3)), x.flatten(2).max(2).values)
    gate = sum((v @ w0.T).relu() @ w1.T for v in vectors)
    y = x * torch.sigmoid(gate)[..., None, None]
    planes = torch.stack([y.mean(1), y.max(1).values], 1)
    padded = torch.nn.functional.pad(planes, (3, 3, 3, 3)).unfold(2, 7, 1)
    windows = padded.unfold(3, 7, 1)  # (N, 2, H, W, 7, 7)
    place = torch.einsum('nchwij,cij->nhw', windows, module.conv.weight[0])
    torch.testing.assert_close(module(x), y * torch.sigmoid(place)[:, None])


@pytest.mark.parametrize('rate', [1.0, 0.25, 0.0])
def test_gradients_are_reversed(rate: float) -> None:
    x = maps(4).requires_grad_()
    layer = GradientReversal()
    layer.rate = rate
    out = layer(x)
    assert torch.equal(out, x)
    upstream = torch.randn_like(x)
    out.backward(upstream)
    torch.testing.assert_close(x.grad, -rate * upstream)


def test_the_rate_rises_from_0_to_1() -> None:
    assert dann_rate(0) == 0
    assert dann_rate(0.1) == pytest.approx(math.tanh(0.5))
    assert dann_rate(1) == pytest.approx(0.99990921)
