"""tools/model_converters/yolov7.py, run as users run it."""

import sys
from functools import partial
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import official_files
import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import ConfigDict
from official_files import Call, tree
from torch import Tensor

from mmir.cli import cli
from mmir.det.yolov7.convert import export_names
from mmir.utils.checkpoint import require_safe

TOOL = Path(__file__).parents[2] / 'tools/model_converters/yolov7.py'


@pytest.fixture
def save(tmp_path):
    return partial(official_files.save, path=tmp_path / 'official.pt')


@pytest.fixture(scope='module')
def own() -> dict[str, Tensor]:
    torch.manual_seed(0)
    module = dict(
        type='mmir.YOLOHeadModule', in_channels=(128, 256, 512), num_classes=3
    )
    cfg = dict(
        type='mmir.YOLOv7',
        backbone=dict(type='mmir.YOLOv7Backbone', arch='tiny'),
        neck=dict(type='mmir.YOLOv7Neck', arch='tiny'),
        bbox_head=dict(type='mmir.YOLOHead', head_module=module),
    )
    return MODELS.build(ConfigDict(cfg)).state_dict()


@pytest.fixture
def run(monkeypatch):
    monkeypatch.syspath_prepend(TOOL.parent)  # as python does for a script
    spec = spec_from_file_location('tool_yolov7', TOOL)
    tool = module_from_spec(spec)
    spec.loader.exec_module(tool)

    def _run(*arguments: str) -> int:
        monkeypatch.setattr(sys, 'argv', ['yolov7.py', *map(str, arguments)])
        return cli.run(tool.main)

    return _run


def test_official_file(run, save, own, tmp_path, capsys):
    official = export_names(own, 'tiny', 'official')
    other = {k: v if 'anchor' in k else v + 1 for k, v in official.items()}
    content = dict(epoch=3, model=tree(other), ema=tree(official).half(), optimizer={})
    target = tmp_path / 'new' / 'dense.pth'
    assert run(save(content), target) == 0
    out = capsys.readouterr().out
    assert "YOLOv7 'tiny' of 3 classes from the official names, 343 tensors" in out
    assert 'note' not in out
    require_safe(target)
    found = torch.load(target, weights_only=True)
    assert found['meta'] == dict(
        arch='tiny',
        num_classes=3,
        anchors=own['bbox_head.anchors'].tolist(),
        source='official',
        norms='own',
    )
    assert found['state_dict'].keys() == own.keys()
    for key, value in own.items():
        rounded = value.half().float() if value.is_floating_point() else value
        assert torch.equal(found['state_dict'][key], rounded), key
    # without an average, the model itself
    assert run(save({**content, 'ema': None}), target) == 0
    found = torch.load(target, weights_only=True)['state_dict']
    key = 'backbone.stem.0.conv.weight'
    assert torch.equal(found[key], own[key] + 1)


def test_file_of_mmyolo(run, own, tmp_path, capsys):
    source, target = tmp_path / 'mmyolo.pth', tmp_path / 'dense.pth'
    state = export_names(own, 'tiny', 'mmyolo')
    torch.save(dict(meta=dict(epoch=1), state_dict=state), source)
    assert run(source, target, '--arch', 'tiny') == 0
    out = capsys.readouterr().out
    assert 'note: the source does not store anchors' in out
    assert '[12.0, 16.0]' in out
    found = torch.load(target, weights_only=True)
    assert found['meta']['source'] == 'mmyolo'
    assert all(torch.equal(v, own[k]) for k, v in found['state_dict'].items())


def test_attack_is_refused_and_nothing_is_written(run, save, own, tmp_path, capsys):
    proof, target = tmp_path / 'proof', tmp_path / 'dense.pth'
    official = export_names(own, 'tiny', 'official')
    content = dict(model=tree(official), ema=Call(f'touch {proof}'))
    assert run(save(content), target) == 2
    assert 'it asks to call' in capsys.readouterr().err
    assert not proof.exists()
    assert not target.exists()


def test_errors_name_the_file(run, own, tmp_path, capsys):
    source, target = tmp_path / 'a.pth', tmp_path / 'dense.pth'
    assert run(source, target) == 2
    assert f'source: no file {source}' in capsys.readouterr().err
    torch.save(dict(state_dict=own), source)
    assert run(source, target) == 2
    message = f'{source}: it already has the names of this project'
    assert message in capsys.readouterr().err
    torch.save(dict(epoch=1), source)
    assert run(source, target) == 2
    assert f'{source} has no weights' in capsys.readouterr().err
    assert not target.exists()
