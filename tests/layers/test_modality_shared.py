"""Shared backbones with norms per modality, of every kind and host."""

import copy
import pickle
from typing import Any

import pytest
import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmir.layers import ModalityNorm, share_
from mmir.layers.modality_shared import exchanging_norms, sparsity_penalty
from mmir.layers.presence import ModalityRoute, Presence
from mmir.structures import PairError

PAIR = 'rgb', 'ir'
BOTH, IR, RGB = {}, dict(absent=('rgb',)), dict(absent=('ir',))
RESNET = dict(type='mmseg.ResNetV1c', depth=50, base_channels=8, stem_channels=8)
HRNET = {
    f'stage{k + 1}': dict(
        num_modules=1,
        num_branches=max(1, k + 1),
        block='BASIC' if k else 'BOTTLENECK',
        num_blocks=(1,) * (k + 1),
        num_channels=(8, 16, 24, 32)[: k + 1],
    )
    for k in range(4)
}
NETWORKS = dict(
    resnet=RESNET,
    resnet18=dict(type='mmseg.ResNetV1d', depth=18, base_channels=8, stem_channels=8),
    resnext=dict(type='mmseg.ResNeXt', depth=50, groups=2, base_width=2),
    hrnet=dict(type='mmseg.HRNet', extra=HRNET),
    mobilenet_v2=dict(
        type='mmseg.MobileNetV2', widen_factor=0.25, out_indices=(1, 2, 4, 6)
    ),
    mobilenet_v3=dict(type='mmseg.MobileNetV3', arch='small', out_indices=(0, 3, 12)),
    convnext=dict(
        type='mmpretrain.ConvNeXt',
        arch=dict(depths=[1, 1, 1, 1], channels=[8, 16, 24, 32]),
        out_indices=(0, 1, 2, 3),
        gap_before_final_norm=False,
    ),
    darknet=dict(type='mmdet.CSPNeXt', deepen_factor=0.17, widen_factor=0.125),
)


@pytest.fixture(params=NETWORKS)
def plain(request: pytest.FixtureRequest) -> nn.Module:
    """A plain backbone with statistics as after training, in float64."""
    cfg = NETWORKS[request.param]
    pytest.importorskip(cfg['type'].partition('.')[0])
    torch.manual_seed(0)
    return lively(MODELS.build(cfg))


def lively(network: nn.Module) -> nn.Module:
    """Give each norm statistics and scales of its own; evaluation mode, float64."""
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    network.eval()  # returns nothing in mmpretrain
    return network.double()


def images(count: int = 2, names: tuple[str, ...] = PAIR) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {name: torch.randn(count, 3, 64, 64).double() for name in names}


def maps(network: nn.Module, x: Tensor) -> list[Tensor]:
    with torch.no_grad():
        out = network(x)
    return [out] if isinstance(out, Tensor) else list(out)


def run(
    network: nn.Module,
    route: ModalityRoute,
    x: dict[str, Tensor],
    *metas: dict,
    only: str | None = None,
) -> dict[str, tuple[Tensor, ...]]:
    count = len(next(iter(x.values())))
    presence = Presence.of(route.names, count, metas or None, only)
    with torch.no_grad():
        return route.run(network, x, presence)


def assert_equal(left: Any, right: Any) -> None:
    assert len(left) == len(right)
    assert all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def assert_close(left: Any, right: Any) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def some_exchange() -> dict[str, Any]:
    return dict(
        channel_exchange=dict(mode='quantile', quantile=0.5), spatial_exchange={}
    )


def test_alone_equals_the_plain_network(plain: nn.Module) -> None:
    shared, x = copy.deepcopy(plain), images()
    route = share_(shared, PAIR, **some_exchange())
    x['rgb'].fill_(torch.nan)
    assert_equal(run(shared, route, x, only='ir')['ir'], maps(plain, x['ir']))


def test_without_exchange_together_equals_two_passes(plain: nn.Module) -> None:
    shared, x = copy.deepcopy(plain), images()
    route = share_(shared, PAIR)
    found = run(shared, route, x)
    for name in PAIR:
        assert_close(found[name], maps(plain, x[name]))


def test_exchange_mixes_the_modalities(plain: nn.Module) -> None:
    x, changed = images(), images()
    changed['rgb'] += 1
    for options in some_exchange().items():
        shared = copy.deepcopy(plain)
        route = share_(shared, PAIR, **dict([options]))
        before, after = (run(shared, route, y)['ir'] for y in (x, changed))
        assert not torch.equal(before[-1], after[-1])


def test_a_mixed_batch_equals_its_groups(plain: nn.Module) -> None:
    route = share_(plain, PAIR, **some_exchange())
    x = images(4)
    found = run(plain, route, x, IR, BOTH, RGB, BOTH)
    both = run(plain, route, {n: t[[1, 3]] for n, t in x.items()})
    ir = run(plain, route, {n: t[:1] for n, t in x.items()}, only='ir')['ir']
    rgb = run(plain, route, {n: t[2:3] for n, t in x.items()}, only='rgb')['rgb']
    for level in range(len(ir)):
        parts = torch.cat([ir[level], both['ir'][level]])
        torch.testing.assert_close(found['ir'][level], parts, rtol=1e-9, atol=1e-9)
        first, second = both['rgb'][level]
        parts = torch.stack([first, rgb[level][0], second])
        torch.testing.assert_close(found['rgb'][level], parts, rtol=1e-9, atol=1e-9)


def test_copies_pickles_and_loads_again(plain: nn.Module) -> None:
    route = share_(plain, PAIR, **some_exchange())
    for module in plain.modules():  # norms differ between the modalities now
        if isinstance(module, ModalityNorm):
            nn.init.uniform_(module.copies['ir'].weight, 0.5, 1.5)
    x = images()
    expected = run(plain, route, x)
    for other in (copy.deepcopy(plain), pickle.loads(pickle.dumps(plain))):
        routes = {m.route for m in other.modules() if isinstance(m, ModalityNorm)}
        assert len(routes) == 1
        found = run(other, routes.pop(), x)
        assert all(torch.equal(found[n][-1], expected[n][-1]) for n in PAIR)
    other.load_state_dict(plain.state_dict())


def test_plain_checkpoints_load(plain: nn.Module) -> None:
    shared = copy.deepcopy(plain)
    route = share_(shared, PAIR)
    for parameter in shared.parameters():
        nn.init.zeros_(parameter)
    shared.load_state_dict(plain.state_dict())
    x = images()
    for name in PAIR:
        assert_equal(run(shared, route, x, only=name)[name], maps(plain, x[name]))


def test_training_one_modality_leaves_the_statistics_of_the_other() -> None:
    network = MODELS.build(RESNET)
    route = share_(network, PAIR, **some_exchange())
    network.train()
    before = copy.deepcopy(network.state_dict())
    route.run(
        network.float(),
        {k: v.float() for k, v in images().items()},
        Presence.of(PAIR, 2, only='rgb'),
    )
    after = network.state_dict()
    changed = {k for k in before if not torch.equal(before[k], after[k])}
    assert changed
    assert {k.split('.copies.')[1].split('.')[0] for k in changed} == {'rgb'}


def test_counts_of_resnet50() -> None:
    """Section 6, oracle 3 of the specification."""
    cfg = dict(
        type='mmseg.ResNetV1c', depth=50, strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)
    )
    with torch.device('meta'):
        network = MODELS.build(cfg)
        plain = sum(p.numel() for p in network.parameters())
        share_(network, ('rgb', 'ir', 'nir'), channel_exchange={})
    norms = [m for m in network.modules() if isinstance(m, ModalityNorm)]
    exchanged = [
        norm.copies['rgb'].weight.numel() for _, norm in exchanging_norms(network)
    ]
    total = sum(p.numel() for p in network.parameters())
    assert (plain, total - plain, len(norms)) == (23_527_264, 2 * 53_248, 55)
    assert (len(exchanged), sum(exchanged)) == (16, 3_776)


def test_last_norms_of_blocks_do_not_exchange(plain: nn.Module) -> None:
    """Hosts initialize their scale with zeros: every channel would be exchanged."""
    share_(plain, PAIR, channel_exchange={})
    plain.init_weights()
    for _, norm in exchanging_norms(plain):
        assert (norm.copies['ir'].weight != 0).all()


@pytest.mark.parametrize('separate', ['none', 'norms', 'stem', 'all'])
def test_what_is_separate(separate: str) -> None:
    network = MODELS.build(RESNET)
    convs = {id(m) for m in network.modules() if isinstance(m, nn.Conv2d)}
    norms = sum(isinstance(m, _BatchNorm) for m in network.modules())
    share_(network, PAIR, separate)
    after = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    extra = dict(none=0, norms=0, stem=1, all=len(convs))[separate]
    assert len(after) == len(convs) + extra
    found = sum(isinstance(m, _BatchNorm) for m in network.modules())
    assert found == norms * (1 if separate == 'none' else 2)


def test_stages_of_exchange() -> None:
    network = MODELS.build(RESNET)
    share_(network, PAIR, channel_exchange=dict(stages=(1, 2)))
    names = {name.split('.')[0] for name, _ in exchanging_norms(network)}
    assert names == {'layer2', 'layer3'}
    network = MODELS.build(RESNET)
    share_(network, PAIR, channel_exchange=dict(norms=r'layer4\.0\.bn1'))
    assert [name for name, _ in exchanging_norms(network)] == ['layer4.0.bn1']


def test_sparsity_is_the_sum_over_all_exchanges() -> None:
    network = MODELS.build(RESNET)
    share_(network, PAIR, channel_exchange=dict(sparsity=0.5))
    channels = sum(n.copies['ir'].weight.numel() for _, n in exchanging_norms(network))
    assert sparsity_penalty(network).item() == pytest.approx(0.5 * channels)
    network = MODELS.build(RESNET)
    share_(network, PAIR, channel_exchange={})
    assert sparsity_penalty(network) is None


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(names=('rgb',)), 'at least two modalities'),
        (dict(names=('rgb', 'rgb')), 'at least two modalities'),
        (dict(separate='bn'), 'separate must be one of'),
        (dict(separate='none', channel_exchange={}), 'needs norms per modality'),
        (dict(channel_exchange=dict(stages=(4,))), r'no stages \[4\]'),
        (dict(channel_exchange=dict(norms='layer4')), 'are not norms'),
        (dict(channel_exchange=dict(norms='nothing')), "match 'nothing'"),
    ],
)
def test_bad_options_leave_the_network_as_it_was(options: dict, message: str) -> None:
    network = MODELS.build(RESNET)
    before = str(network)
    with pytest.raises(ValueError, match=message):
        share_(network, **dict(dict(names=PAIR), **options))
    assert str(network) == before


def test_networks_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match='with_cp=False'):
        share_(MODELS.build(dict(RESNET, with_cp=True)), PAIR)
    with pytest.raises(ValueError, match='no norms to separate'):
        share_(nn.Conv2d(3, 3, 1), PAIR)
    with pytest.raises(ValueError, match='stages of Sequential are not known'):
        share_(nn.Sequential(nn.BatchNorm2d(3)), PAIR, spatial_exchange={})
    network = MODELS.build(RESNET)
    share_(network, PAIR)
    with pytest.raises(RuntimeError, match='layers per modality'):
        network(images()['ir'].float())
    with pytest.raises(ValueError, match='has none'):
        ModalityNorm(
            nn.BatchNorm2d(3, affine=False),
            ModalityRoute(PAIR),
            next(exchanging_norms(shared_resnet()))[1].exchange,
        )


def shared_resnet() -> nn.Module:
    network = MODELS.build(RESNET)
    share_(network, PAIR, channel_exchange={})
    return network


def test_batches_that_do_not_fit() -> None:
    absent = dict(absent=PAIR, img_path='night/7.png')
    with pytest.raises(PairError, match=r'night/7\.png: nothing to use'):
        Presence.of(PAIR, 2, [{}, absent])
    with pytest.raises(PairError, match='nothing to use'):
        Presence.of(PAIR, 1, [IR], only='rgb')
    with pytest.raises(PairError, match=r"unknown modalities \['depth'\]"):
        Presence.of(PAIR, 1, only='depth')
    with pytest.raises(PairError, match='2 images, but the metainfo of 1'):
        Presence.of(PAIR, 2, [{}])
    with pytest.raises(PairError, match=r'equal channels.*`channels=3` in mmir\.Load'):
        Presence.of(PAIR, 1).stack(
            dict(rgb=torch.ones(1, 3, 2, 2), ir=torch.ones(1, 1, 2, 2))
        )
