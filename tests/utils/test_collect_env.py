"""The environment report shows versions, parts and reasons."""

import subprocess
import sys
from importlib.metadata import version

import numpy as np
import torch

import mmir
from mmir import registry
from mmir.utils import collect_env as module
from mmir.utils.collect_env import collect_env, devices, distribution, operators, parts


def test_report_is_complete_and_true():
    report = collect_env()
    assert report['torch'] == f'torch {version("torch")}'
    assert report['numpy'] == f'numpy {np.__version__}'
    assert report['setuptools'] == f'setuptools {version("setuptools")}'
    assert report['python'].split('.')[:2] == [str(n) for n in sys.version_info[:2]]
    assert report['mmir'].startswith(mmir.__version__)
    assert report['operators of mmcv'] in ('compiled', 'substitute')
    assert {f'mmir.{part}' for part in (*mmir.HOST_FREE, *registry.PARTS)} <= {*report}


def test_hosts_are_reported_under_the_name_they_were_installed_by():
    owners = {'numpy': ['numpy', 'numpy'], 'pytest': ['pytest', 'no-such-thing']}
    assert distribution('numpy', owners) == f'numpy {np.__version__}'
    assert distribution('pytest', owners) == f'pytest {version("pytest")}'
    assert distribution('mmdet', owners) == 'not installed'
    both = distribution('x', {'x': ['numpy', 'pytest']})
    assert both == f'numpy {np.__version__} AND pytest {version("pytest")}'


def test_parts_that_are_off_say_why(monkeypatch):
    monkeypatch.setitem(mmir.INACTIVE, 'engine', OSError('gone'))
    monkeypatch.setattr(registry.PARTS['det'], 'error', OSError('no ops'))
    state = parts()
    assert state['engine'] == 'off: gone'
    assert 'OSError: no ops' in state['det']
    assert 'openmmir[det]' in state['det']
    assert state['layers'] == 'on'


def test_operators_without_compat(monkeypatch):
    monkeypatch.setitem(mmir.INACTIVE, 'compat', OSError('no torchvision'))
    assert operators() == 'none: mmir.compat is off (no torchvision)'


def test_devices_lists_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda i: f'GPU{i}')
    assert devices().endswith(', GPU0, GPU1')
    assert devices().startswith('cpu (')


def test_command_prints_the_report():
    command = [sys.executable, '-m', module.__name__]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = dict(
        line.split(': ', 1) for line in result.stdout.splitlines() if ': ' in line
    )
    assert lines['torch'] == f'torch {version("torch")}'
    assert lines['mmir.det'].startswith(('on (mmdet)', 'off: '))


def test_a_release_that_is_too_old_is_told(monkeypatch):
    monkeypatch.setattr(module, 'version', lambda name: '2.5.1+cpu')
    told = distribution('torch', {'torch': ['torch']})
    assert told == 'torch 2.5.1+cpu (too old: 2.6 or newer is needed)'
    monkeypatch.setattr(module, 'version', lambda name: '2.11.0+cu128')
    assert distribution('torch', {'torch': ['torch']}) == 'torch 2.11.0+cu128'
