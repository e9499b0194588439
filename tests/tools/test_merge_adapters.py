"""Tool that converts a checkpoint with adapters to a plain one."""

import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from torch import nn

from mmir.adapters import merge_
from mmir.adapters.layer import KINDS
from mmir.cli import cli
from mmir.tensorfact import factorize_

FOLDER = Path(__file__).parents[2] / 'tools' / 'model_converters'


@pytest.fixture
def run(monkeypatch):
    """Run the tool as a user does; returns its exit code."""
    monkeypatch.syspath_prepend(str(FOLDER))
    tool = import_module('merge_adapters')

    def start(*arguments):
        monkeypatch.setattr(sys, 'argv', ['merge_adapters.py', *map(str, arguments)])
        return cli.run(tool.main)

    return start


@pytest.fixture
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 32, 3), nn.Conv2d(32, 8, 1))


def test_factors_become_kernels(run, net, tmp_path, capsys):
    factorize_(net, 4)
    source, target = tmp_path / 'factors.pth', tmp_path / 'dense.pth'
    torch.save(dict(state_dict=net.state_dict(), meta=dict(epoch=3)), source)
    assert run(source, target) == 0
    assert '1 layers merged' in capsys.readouterr().out
    found = torch.load(target, weights_only=True)
    assert found['meta'] == dict(epoch=3)
    expected = merge_(net).state_dict()
    assert found['state_dict'].keys() == expected.keys()
    assert all(torch.equal(found['state_dict'][k], v) for k, v in expected.items())


def test_a_dense_checkpoint_and_one_with_code_are_refused(run, net, tmp_path, capsys):
    source, target = tmp_path / 'source.pth', tmp_path / 'out.pth'
    torch.save(net.state_dict(), source)
    assert run(source, target) == 2
    assert 'nothing to merge' in capsys.readouterr().err
    torch.save(dict(state_dict={}, run=OSError), source)
    assert run(source, target) == 2
    assert 'OSError' in capsys.readouterr().err
    assert run(tmp_path / 'no.pth', target) == 2
    assert 'no file' in capsys.readouterr().err
    assert not target.exists()


def test_adapters_of_a_module_of_the_user(run, tmp_path, monkeypatch, capsys):
    code = """
from mmir.adapters import AdapterLayer

class Doubled(AdapterLayer):
    @classmethod
    def merge_state(cls, state, told, **options):
        return {k: v * 2 for k, v in state.items() if not k.endswith('adapters.ir.x')}
"""
    (tmp_path / 'doubled_layer.py').write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    source, target = tmp_path / 'source.pth', tmp_path / 'out.pth'
    torch.save({'a.weight': torch.ones(1), 'a.adapters.ir.x': torch.ones(1)}, source)
    assert run(source, target) == 2
    assert 'nothing to merge' in capsys.readouterr().err
    assert run(source, target, '--import', 'doubled_layers') == 2
    assert (
        "--import doubled_layers: No module named 'doubled" in capsys.readouterr().err
    )
    try:
        assert run(source, target, '--import', 'doubled_layer') == 0
    finally:
        KINDS.pop('Doubled', None)
    merged = torch.load(target, weights_only=True)['state_dict']
    assert merged == {'a.weight': torch.full((1,), 2.0)}
