"""Exchange of channels and columns: identities, closed forms, gradients."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mmir.layers import ChannelExchange, SpatialExchange


def random_maps(
    *names: str, shape: tuple[int, ...] = (2, 6, 3, 7)
) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=rng).double() for name in names}


def masked(exchange: ChannelExchange, maps: dict, scales: list[Tensor]) -> dict:
    masks = [mask.view(-1, 1, 1) for mask in exchange.masks(scales)]
    return exchange(maps, dict(zip(maps, masks, strict=True)))


def test_a_threshold_of_zero_changes_nothing() -> None:
    maps = random_maps('rgb', 'ir')
    out = masked(ChannelExchange(threshold=0.0), maps, [torch.zeros(6)] * 2)
    assert all(torch.equal(out[name], maps[name]) for name in maps)


def test_all_channels_below_the_threshold_are_swapped() -> None:
    maps = random_maps('rgb', 'ir')
    exchange = ChannelExchange(threshold=math.inf, partition='all')
    once = masked(exchange, maps, [torch.ones(6)] * 2)
    twice = masked(exchange, once, [torch.ones(6)] * 2)
    assert torch.equal(once['rgb'], maps['ir'])
    assert torch.equal(once['ir'], maps['rgb'])
    assert all(torch.equal(twice[name], maps[name]) for name in maps)


def test_each_modality_gives_up_channels_of_its_own_slice() -> None:
    masks = ChannelExchange(threshold=math.inf).masks([torch.ones(7)] * 3)
    assert [mask.nonzero().flatten().tolist() for mask in masks] == [
        [0, 1],
        [2, 3],
        [4, 5, 6],
    ]


def test_modes_choose_channels() -> None:
    scales = [torch.tensor([0.01, -0.5, 0.3, 0.2]), torch.tensor([1.0, 0.4, -0.1, 9.0])]
    chosen = {
        mode: [
            mask.nonzero().flatten().tolist()
            for mask in ChannelExchange(
                mode=mode, threshold=0.15, quantile=0.5, partition='all'
            ).masks(scales)
        ]
        for mode in ('threshold', 'quantile', 'compare')
    }
    assert chosen == dict(
        threshold=[[0], [2]],
        quantile=[[0, 3], [1, 2]],
        compare=[[0, 3], [1, 2]],
    )


def test_a_replaced_channel_is_the_mean_of_the_others() -> None:
    maps = random_maps('rgb', 'ir', 'nir')
    scales = [torch.tensor([0.0, 1, 1, 1, 1, 1]), torch.ones(6), torch.ones(6)]
    out = masked(ChannelExchange(), maps, scales)
    expected = maps['rgb'].clone()
    expected[:, 0] = (maps['ir'][:, 0] + maps['nir'][:, 0]) / 2
    assert torch.equal(out['rgb'], expected)
    assert torch.equal(out['ir'], maps['ir'])  # one-sided: nothing is given back


def test_the_scale_of_a_replaced_channel_gets_no_gradient() -> None:
    x = random_maps('rgb', 'ir')
    scales = {name: torch.ones(6, dtype=torch.double) for name in x}
    scales['rgb'][0] = 0.001
    for scale in scales.values():
        scale.requires_grad_()
    maps = {name: x[name] * scales[name].view(-1, 1, 1) for name in x}
    out = masked(ChannelExchange(), maps, list(scales.values()))
    sum((y**2).sum() for y in out.values()).backward()
    assert scales['rgb'].grad[0] == 0
    assert (scales['rgb'].grad[1:] != 0).all()
    assert (scales['ir'].grad != 0).all()


def test_a_swap_keeps_both_gradients() -> None:
    x = random_maps('rgb', 'ir')
    scales = [torch.full((6,), 0.001, requires_grad=True) for _ in x]
    maps = {n: x[n] * s.view(-1, 1, 1) for n, s in zip(x, scales, strict=True)}
    out = masked(ChannelExchange(partition='all'), maps, scales)
    (out['rgb'] ** 2).sum().backward()
    assert (scales[1].grad != 0).all()


def test_penalty_sums_the_slices() -> None:
    scales = [torch.tensor([1.0, -2, 4, 8]), torch.tensor([16.0, 32, -64, 128])]
    assert ChannelExchange().penalty(scales) == 1 + 2 + 64 + 128
    assert ChannelExchange(partition='all').penalty(scales) == 15 + 240


@given(st.integers(1, 9), st.integers(1, 4))
def test_columns_move_and_come_back(width: int, period: int) -> None:
    maps = random_maps('rgb', 'ir', shape=(1, 2, 3, width))
    exchange = SpatialExchange(period)
    once = exchange(maps)
    moved = (once['rgb'] != maps['rgb']).any(dim=(0, 1, 2))
    assert moved.sum() == math.ceil(width / period)
    assert torch.equal(once['rgb'] + once['ir'], maps['rgb'] + maps['ir'])
    twice = exchange(once)
    assert all(torch.equal(twice[name], maps[name]) for name in maps)


def test_columns_go_one_way_to_receivers() -> None:
    maps = random_maps('rgb', 'ir')
    out = SpatialExchange(receivers=('rgb',))(maps)
    assert torch.equal(out['ir'], maps['ir'])
    assert torch.equal(out['rgb'][..., ::2], maps['ir'][..., ::2])
    assert torch.equal(out['rgb'][..., 1::2], maps['rgb'][..., 1::2])


def test_three_modalities_pass_columns_on() -> None:
    maps = random_maps('rgb', 'ir', 'nir')
    out = maps
    for _ in range(3):
        out = SpatialExchange()(out)
    assert all(torch.equal(out[name], maps[name]) for name in maps)
    once = SpatialExchange()(maps)
    assert torch.equal(once['nir'][..., 0], maps['rgb'][..., 0])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(mode='best'), 'mode must be one of'),
        (dict(partition='half'), 'partition must be one of'),
        (dict(quantile=1.5), 'quantile in'),
        (dict(threshold=-1), 'must not be negative'),
    ],
)
def test_bad_options(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ChannelExchange(**options)


@pytest.mark.parametrize('period', [0, 1.5])
def test_bad_period(period: float) -> None:
    with pytest.raises(ValueError, match='positive integer'):
        SpatialExchange(period)
