"""The tool that keeps kernels as factors, and back by merge_factors.py."""

import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn

from mmir.cli import cli

FOLDER = Path(__file__).parents[2] / 'tools' / 'model_converters'


@pytest.fixture(scope='module')
def tools():
    """The two scripts, importable by name."""
    sys.path.insert(0, str(FOLDER))
    try:
        yield {n: import_module(n) for n in ('compress_weights', 'merge_factors')}
    finally:
        sys.path.remove(str(FOLDER))


@pytest.fixture
def run(tools, monkeypatch):
    """Run a tool as a user does; returns its exit code."""

    def start(name, *arguments):
        monkeypatch.setattr(sys, 'argv', [f'{name}.py', *map(str, arguments)])
        return cli.run(tools[name].main)

    return start


@pytest.fixture
def dense(tmp_path):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 32, 3), nn.Conv2d(32, 32, 3), nn.Conv2d(32, 8, 1))
    torch.save(dict(state_dict=net.state_dict(), meta={}), tmp_path / 'dense.pth')
    return tmp_path / 'dense.pth'


def state_of(path):
    return torch.load(path, weights_only=True)['state_dict']


def test_there_and_back(run, dense, tmp_path, capsys):
    small, back = tmp_path / 'small.pth', tmp_path / 'back.pth'
    assert run('compress_weights', dense, small, '--rank', 4) == 0
    said = capsys.readouterr().out
    before, after = (
        sum(t.numel() for t in state_of(f).values()) for f in (dense, small)
    )
    assert f'2 kernels kept as factors, {before:,} -> {after:,} numbers' in said
    assert after == before - 9 * (96 + 1024) + 4 * (96 + 9) + 4 * (1024 + 9)
    assert 'MB' in said
    assert run('merge_factors', small, back) == 0
    assert state_of(back).keys() == state_of(dense).keys()
    kernel, old = state_of(back)['1.weight'], state_of(dense)['1.weight']
    sigma = torch.linalg.svdvals(old.flatten(2).flatten(0, 1).double())
    assert (kernel - old).norm().item() == pytest.approx(
        sigma[4:].norm().item(), rel=1e-4
    )


@pytest.mark.parametrize(
    ('rule', 'ranks'),
    [
        (['--alpha', '0.5'], {'0': 4, '1': 4}),
        (['--energy', '0.0001'], {'0': 1, '1': 1}),
        (['--budget', '1243', '--exclude'], {'0': 2, '1': 1}),
        (['--rank', '3', '--exclude', '0'], {'1': 3}),
    ],
)
def test_rules(run, dense, tmp_path, rule, ranks):
    small = tmp_path / 'small.pth'
    assert run('compress_weights', dense, small, *rule) == 0
    state = state_of(small)
    assert {k[0]: v.shape[0] for k, v in state.items() if k.endswith('.B')} == ranks


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--rank', 'full', '--split', 't_sdd'], 'would grow at rank'),
        (['--rank', '99'], 'nothing to factorise at rank 99'),
        (['--energy', '2'], 'energy'),
        (['--budget', '5'], 'budget of 5 parameters is too small'),
    ],
)
def test_one_message_and_no_file(run, dense, tmp_path, capsys, arguments, message):
    target = tmp_path / 'out.pth'
    assert run('compress_weights', dense, target, *arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith('error: ')
    assert message in error
    assert not target.exists()


def test_source_must_be_there_and_safe(run, tmp_path, capsys):
    assert run('compress_weights', tmp_path / 'no.pth', 'x.pth', '--rank', 4) == 2
    assert 'no file' in capsys.readouterr().err
    torch.save(dict(state_dict={}, run=OSError), tmp_path / 'code.pth')
    assert run('compress_weights', tmp_path / 'code.pth', 'x.pth', '--rank', 4) == 2
    assert 'OSError' in capsys.readouterr().err


@pytest.mark.parametrize('arguments', [[], ['--rank', '4', '--energy', '.5']])
def test_exactly_one_rule(run, dense, arguments):
    with pytest.raises(SystemExit):
        run('compress_weights', dense, 'x.pth', *arguments)
