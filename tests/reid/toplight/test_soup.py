"""Uniform soup: averages, statistics, reports, refusals, and the command."""

import copy
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope
from torch import Tensor, nn

from mmir.cli import cli
from mmir.registry import MODELS
from mmir.reid import average_weights, recalibrate_soup, uniform_soup
from mmir.reid.toplight import PARTITIONS
from mmir.utils.errors import UserError

TOOL = Path(__file__).parents[3] / 'tools/model_converters/uniform_soup.py'
TINY = 'mobilenetv3_small_050'


def built(**changes: object) -> nn.Module:
    cfg = dict(
        type='mmir.DualPathBackbone',
        backbone=dict(type='mmir.LightMobileNetV3', arch='small_050'),
        network=TINY,
    )
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return MODELS.build(cfg | changes).eval()


def dual(**changes: object) -> nn.Module:
    """A network whose paths differ, statistics included."""
    model = built(**changes)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    for p in model.parameters():
        p.data += 0.05 * torch.randn_like(p)
    return model


def images(count: int = 4, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, 64, 32, generator=torch.Generator().manual_seed(seed))


def test_equal_paths_give_the_same_network() -> None:
    model = built()
    for variance in ('total', 'mean'):
        soup, report = model.soup(variance)
        with torch.no_grad():
            names = ['rgb', 'ir', 'ir', 'rgb']
            expected = model(images(), names)[-1]
            torch.testing.assert_close(soup.eval()(images(), names)[-1], expected)
        assert report.distance == 0


def test_blocks_2_to_4_are_averages_and_the_rest_is_kept() -> None:
    model = dual()
    state, (found, report) = model.state_dict(), uniform_soup(model.state_dict(), TINY)
    assert report.averaged == PARTITIONS[TINY].soup == ('layer1', 'layer2', 'layer3')
    assert report.kept == ('layer0',)
    inner = model.backbone
    numbers = {
        name: sum(p.numel() for p in getattr(inner, name).copies['rgb'].parameters())
        for name in report.averaged
    }
    assert report.parameters == sum(numbers.values())
    for key, value in found.items():
        if key in state:  # stems and blocks 5 to 7
            assert torch.equal(value, state[key])
            continue
        layer, rest = key.removeprefix('backbone.').split('.', 1)
        rgb, ir = (state[f'backbone.{layer}.copies.{p}.{rest}'] for p in ('rgb', 'ir'))
        mean = (rgb.double() + ir.double()) / 2
        if rest.endswith('running_var'):
            means = [
                state[f'backbone.{layer}.copies.{p}.{rest[:-3]}mean']
                for p in ('rgb', 'ir')
            ]
            mean = mean + ((means[0] - means[1]) / 2).double() ** 2
        torch.testing.assert_close(value.double(), mean, atol=1e-6, rtol=1e-6)
        assert value.dtype == rgb.dtype
    assert not any(f'{name}.copies' in key for name in report.averaged for key in found)


def test_variances_of_both_paths_together() -> None:
    """`total` is the variance of the data of both, as often as there are."""
    one, two = torch.randn(1000), 2 * torch.randn(1000) + 3
    states = [
        dict(running_mean=x.mean()[None], running_var=x.var(unbiased=False)[None])
        for x in (one, two)
    ]
    both = torch.cat([one, two])
    found = average_weights(states, 'total')
    torch.testing.assert_close(found['running_mean'][0], both.mean())
    torch.testing.assert_close(found['running_var'][0], both.var(unbiased=False))
    plain = average_weights(states, 'mean')['running_var']
    torch.testing.assert_close(
        plain, (states[0]['running_var'] + states[1]['running_var']) / 2
    )


def test_counters_stay_integers() -> None:
    states = [dict(num_batches_tracked=torch.tensor(k)) for k in (3, 4)]
    found = average_weights(states, 'mean')['num_batches_tracked']
    assert found.dtype == torch.int64
    assert found == 3


def test_the_soup_is_linear() -> None:
    model = dual()
    state = model.state_dict()
    double = {k: 2 * v if v.is_floating_point() else v for k, v in state.items()}
    once, twice = (uniform_soup(s, TINY, 'mean')[0] for s in (state, double))
    for key, value in once.items():
        if value.is_floating_point():
            torch.testing.assert_close(twice[key], 2 * value)


def test_checkpoints_of_whole_models_are_read() -> None:
    model = dual()
    state = {f'backbone.{key}': value for key, value in model.state_dict().items()}
    state['head.fc.weight'] = torch.zeros(2, 2)
    found, report = uniform_soup(state, TINY)
    expected, _ = uniform_soup(model.state_dict(), TINY)
    assert found.keys() == expected.keys()
    assert all(torch.equal(value, expected[key]) for key, value in found.items())
    assert report.left_out == 1
    assert 'left out: 1' in str(report)
    assert 'layer1, layer2, layer3' in str(report)


def test_distance_of_the_paths() -> None:
    model = built()
    state = model.state_dict()
    for key in state:
        if '.copies.ir.' in key:
            state[key] = -3 * state[key.replace('.ir.', '.rgb.')]
    _, report = uniform_soup(state, TINY)
    assert report.distance == pytest.approx(4)  # |a + 3a| / |(a - 3a) / 2|


def test_measured_statistics_are_those_of_both_views() -> None:
    soup, _ = dual().soup()
    other = copy.deepcopy(soup.eval())
    rgb, ir = images(8, 1), images(8, 2)
    used = recalibrate_soup(soup, [(rgb, ir)] * 5, most=2)
    assert used == 2
    stem = soup.backbone.layer0.copies
    for name, views in (('rgb', rgb), ('ir', ir)):
        x = stem[name].conv(views)
        torch.testing.assert_close(stem[name].bn.running_mean, x.mean((0, 2, 3)))
        torch.testing.assert_close(stem[name].bn.running_var, x.var((0, 2, 3)))
    assert not soup.training
    for key, value in other.state_dict().items():
        if 'running' not in key and 'num_batches' not in key:
            assert torch.equal(soup.state_dict()[key], value)
    with pytest.raises(UserError, match='no batches'):
        recalibrate_soup(soup, [])


@pytest.mark.parametrize(
    ('network', 'message'),
    [
        ('mobilenetv4', 'choose one of'),
        ('mobilenetv3_large', 'layer4.*missing'),
        ('mobilenetv3_small', 'another width'),
        ('shufflenetv2_1.0x', 'no checkpoint of DualPathBackbone'),
    ],
)
def test_other_networks_and_widths_are_refused(network: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        uniform_soup(dual().state_dict(), network)


def test_networks_that_differ_are_not_averaged() -> None:
    one = dict(a=torch.zeros(2))
    with pytest.raises(UserError, match='only some have a, b'):
        average_weights([one, dict(b=torch.zeros(2))], 'mean')
    with pytest.raises(UserError, match='widths'):
        average_weights([one, dict(a=torch.zeros(3))], 'mean')
    with pytest.raises(UserError, match='variance'):
        average_weights([one, one], 'sum')
    with pytest.raises(UserError, match='nothing'):
        average_weights([], 'mean')


def test_paths_of_other_widths_are_refused() -> None:
    state = dual().state_dict()
    key = 'backbone.layer2.copies.ir.linear_conv.conv.weight'
    state[key] = state[key][:, :2]
    with pytest.raises(UserError, match='other widths'):
        uniform_soup(state, TINY)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch):
    """Run the command as users do; returns its exit code."""
    spec = spec_from_file_location('tool_uniform_soup', TOOL)
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)

    def start(*arguments: object) -> int:
        monkeypatch.setattr(sys, 'argv', ['uniform_soup.py', *map(str, arguments)])
        return cli.run(tool.main)

    return start


def test_the_command(run, tmp_path: Path, capsys) -> None:
    model = dual()
    source, target = tmp_path / 'dual.pth', tmp_path / 'soup.pth'
    torch.save(dict(state_dict=model.state_dict(), meta={}), source)
    assert run(source, target, '--network', TINY, '--variance', 'mean') == 0
    assert 'layer1, layer2, layer3' in capsys.readouterr().out
    content = torch.load(target, weights_only=True)
    assert content['meta']['soup']['network'] == TINY
    assert not content['meta']['recalibrated']
    cfg = dict(
        type='mmir.TwoStemBackbone',
        backbone=dict(type='mmir.LightMobileNetV3', arch='small_050'),
        stem=PARTITIONS[TINY].stem,
        init_cfg=dict(type='Pretrained', checkpoint=str(target)),
    )
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        loaded = MODELS.build(cfg)
        loaded.init_weights()
    expected = model.soup('mean')[0].state_dict()
    assert all(torch.equal(v, expected[k]) for k, v in loaded.state_dict().items())
    assert run(source, target, '--network', 'mobilenetv3_large') == 2
    assert 'another network' in capsys.readouterr().err


def test_a_network_without_batch_norms_needs_no_statistics() -> None:
    plain = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GroupNorm(2, 4))
    before = copy.deepcopy(plain.state_dict())
    assert recalibrate_soup(plain, iter(())) == 0
    assert all(torch.equal(v, before[k]) for k, v in plain.state_dict().items())


def test_networks_without_blocks_have_no_soup() -> None:
    with pytest.raises(UserError, match='only a stem'):
        uniform_soup({}, 'vit_base')
