"""Fusion modules: values, initialization and cost."""

import math

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from mmir.fusion.modules import (
    AddFusion,
    ConcatFusion,
    CrossAttentionFusion,
    PooledCrossAttention,
    _placed,
)

KINDS = [AddFusion, ConcatFusion, CrossAttentionFusion]


def maps(n: int, channels: int = 8, size: tuple[int, int] = (5, 7)) -> list:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, channels, *size, generator=generator) for _ in range(n)]


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('modalities', [2, 3])
def test_all_start_as_the_mean(kind, modalities):
    feats = maps(modalities)
    fused = kind(modalities, 8)(feats)
    torch.testing.assert_close(fused, torch.stack(feats).mean(0))


def test_sum():
    one, other = maps(2)
    assert torch.equal(AddFusion(2, 8, mean=False)([one, other]), one + other)


def test_concat_with_identities_is_the_sum():
    one, other = maps(2)
    fuse = ConcatFusion(2, 8)
    eye = torch.eye(8)
    fuse.conv.weight.data = torch.cat([eye, eye], 1)[..., None, None]
    torch.testing.assert_close(fuse([one, other]), one + other)
    fuse.conv.weight.data = torch.cat([eye, 0 * eye], 1)[..., None, None]
    torch.testing.assert_close(fuse([one, other]), one)


def test_concat_starts_as_the_mean_whatever_the_host_initializes():
    from mmengine.model import BaseModule

    around = BaseModule(init_cfg=dict(type='Constant', layer='Conv2d', val=3.0))
    around.fuse, around.plain = ConcatFusion(2, 8), nn.Conv2d(1, 1, 1)
    around.init_weights()
    assert around.plain.weight.item() == 3  # the host was at work
    feats = maps(2)
    torch.testing.assert_close(around.fuse(feats), sum(feats) / 2)


def attention_by_hand(module, feat, other, size):
    """Attention with plain matrices, head by head, without SDPA."""
    keys = nn.functional.adaptive_avg_pool2d(module.norm_key(other), size)
    key_value = module.key_value(_placed(keys)).flatten(2)
    query = module.query(_placed(module.norm_query(feat))).flatten(2)
    channels, wide = feat.shape[1], feat.shape[1] // module.heads
    answer = torch.zeros_like(query)
    for start in range(0, channels, wide):
        part = slice(start, start + wide)
        q, k = query[:, part], key_value[:, part]
        v = key_value[:, channels:][:, part]
        weights = (q.transpose(1, 2) @ k / math.sqrt(wide)).softmax(-1)
        answer[:, part] = v @ weights.transpose(1, 2)
    return module.scale * module.project(answer.view_as(feat))


@pytest.mark.parametrize(('size', 'pooled'), [((5, 7), (4, 4)), ((3, 9), (3, 4))])
def test_cross_attention_against_plain_matrices(size, pooled):
    torch.manual_seed(0)
    feat, other = maps(2, size=size)
    module = PooledCrossAttention(8, heads=2, tokens=4)
    nn.init.normal_(module.scale)
    expected = attention_by_hand(module, feat, other, pooled)
    torch.testing.assert_close(module(feat, [other]), expected)


def test_cross_attention_is_bidirectional():
    torch.manual_seed(0)
    one, other = maps(2)
    fuse = CrossAttentionFusion(2, 8, heads=2, tokens=4)
    for attention in fuse.attentions:
        nn.init.normal_(attention.scale)
    first, second = fuse.attentions
    expected = (one + first(one, [other]) + other + second(other, [one])) / 2
    torch.testing.assert_close(fuse([one, other]), expected)


def test_heads_divide_the_channels():
    for channels, heads in ((24, 8), (20, 5), (7, 7), (13, 1)):
        found = CrossAttentionFusion(2, channels).attentions[0].heads
        assert found == heads
        assert channels % found == 0


def test_places_have_the_same_code_in_maps_of_any_size():
    """Encodings depend on the relative position: 2x2 pooling keeps the slow waves."""
    large, small = (_placed(torch.zeros(1, 16, n, n))[0] for n in (64, 32))
    pooled = nn.functional.avg_pool2d(large, 2)
    slow = [0, 1, 4, 5, 8, 9, 12, 13]
    assert (pooled - small)[slow].abs().max() < 0.02
    assert len({tuple(c) for c in large.flatten(1).T.tolist()}) == 64 * 64


@pytest.mark.parametrize('kind', KINDS[1:])
def test_every_parameter_learns(kind):
    """All parameters get gradients from the first step, and none stays at zero."""
    torch.manual_seed(0)
    feats, fuse = maps(2), kind(2, 8)
    optimizer = torch.optim.SGD(fuse.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (fuse(feats) * torch.randn(8, 1, 1)).sum().backward()
        assert all(p.grad is not None for p in fuse.parameters())
        optimizer.step()
    for name, parameter in fuse.named_parameters():
        assert parameter.grad.abs().sum() > 0, name


def test_they_are_found_by_name():
    for kind in KINDS:
        assert MODELS.get(f'mmir.{kind.__name__}') is kind
