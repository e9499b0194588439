"""Config texts of checkpoints: what mmengine writes passes, code does not."""

from pathlib import Path

import pytest
from mmengine.config import Config

from mmir.utils.config_text import executable_configs

ROOT = Path(__file__).resolve().parents[2]


def places(text):
    found = executable_configs({'meta': {'cfg': text}})
    assert executable_configs({'message_hub': {'runtime_info': {'cfg': text}}}) == [
        place.replace('meta', 'message_hub.runtime_info') for place in found
    ]
    return found


@pytest.mark.parametrize(
    'name', ['tensorfact/yolo_flir_1pct.py', 'fusion/deeplabv3plus_r18_msrs_early.py']
)
def test_configs_as_mmengine_writes_them_pass(name):
    assert places(Config.fromfile(ROOT / 'configs' / name).pretty_text) == []


@pytest.mark.parametrize(
    'text',
    [
        '',
        "a = 1\nb = dict(c=[1, -2.5, None, True], d=('x', {'y': {1, 2}}))",
        'a = <class object>',  # no Python: mmengine cannot run it either
    ],
)
def test_values_pass(text):
    assert places(text) == []


@pytest.mark.parametrize(
    'text',
    [
        'import os',
        'print(1)',
        'a = print(1)',
        'a = dict(b=[print(1)])',
        'a = dict(**print(1))',
        'a = [print(1) for x in [1]]',
        'a = (lambda: print(1))()',
        'a = dict.__class__',
        'a = f"{print(1)}"',
        'a: print(1) = 1',
        'a[print(1)] = 1',
        'dict = print\na = 1\nassert print(1)',
        "_base_ = './evil.py'",
        'if True:\n    a = 1',
        "a = '{{$NONE:'}}; print(1)",
        'a = 1 + 1',
    ],
)
def test_code_is_found(text):
    assert places(text) == ['meta.cfg']


def test_other_content_is_no_config():
    for content in (None, [], {'meta': None}, {'meta': {'cfg': 3}}, {'meta': 'x()'}):
        assert executable_configs(content) == []
